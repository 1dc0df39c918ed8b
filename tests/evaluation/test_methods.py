"""The methods to compare: those that are trained, or the checkpoints of one training."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.methods import (
    TrainedPaths,
    find_checkpoints,
    find_ensemble,
    find_methods,
    selected_by_training,
)
from igrag.errors import CheckpointError, UsageError
from tests.evaluation.conftest import SavePrompt
from tests.trainings import training

NOTHING = TrainedPaths(Path("/none/prompt.pt"), Path("/none/both.pt"), Path("/none/lora"))


def test_all_trained_methods_are_compared(
    paths: TrainedPaths, caplog: pytest.LogCaptureFixture
) -> None:
    """By default all methods are compared, in a fixed order, each with its own files."""
    found = find_methods(paths, None)
    assert [(each.name, each.mode, each.prompt, each.needs_adapter) for each in found] == [
        ("base", "base", None, False),
        ("prompt", "prompt", paths.prompt, False),
        ("lora", "lora", None, True),
        ("lora+prompt", "lora+prompt", paths.prompt_on_lora, True),
    ]
    assert caplog.text == ""


def test_untrained_methods_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A method that was not requested and is not trained is left out with a warning."""
    assert [each.name for each in find_methods(NOTHING, None)] == ["base"]
    assert "not trained, so not compared: prompt, lora, lora+prompt" in caplog.text


def test_requested_methods_are_compared(
    paths: TrainedPaths, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the requested methods are compared, without a warning about others."""
    found = find_methods(replace(paths, lora=Path("/none")), ("prompt", "base"))
    assert [each.name for each in found] == ["base", "prompt"] and caplog.text == ""


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("prompts", "--methods prompts: expected some of base,prompt,lora,lora\\+prompt"),
        ("prompt", r"prompt: no soft prompt .*/none/prompt\.pt.*prompt_training\.py --train"),
        ("lora", r"lora: no LoRA adapter in /none/lora.*train_lora\.py --all"),
        ("lora+prompt", r"lora\+prompt: no LoRA adapter in /none/lora"),
    ],
)
def test_missing_method_is_an_error(wanted: str, message: str) -> None:
    """The error has the path that was searched and the command that trains the method."""
    with pytest.raises(UsageError, match=message):
        find_methods(NOTHING, ("base", wanted))


def test_prompt_of_base_model_is_used_on_the_adapter(
    paths: TrainedPaths, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a prompt that was trained on the adapter, the plain one is used, with a warning."""
    mixed = replace(paths, prompt_on_lora=Path("/none"))
    found = find_methods(mixed, None)
    assert [each.name for each in found] == ["base", "prompt", "lora", "lora+prompt"]
    assert found[-1].prompt == paths.prompt
    assert "trained without the LoRA adapter" in caplog.text and "on_lora.yaml" in caplog.text
    caplog.clear()
    find_methods(mixed, ("base", "prompt"))
    assert caplog.text == ""


def test_adapter_without_any_prompt_is_an_error(paths: TrainedPaths) -> None:
    """The method lora+prompt needs a prompt; the error has the command that trains one."""
    with pytest.raises(UsageError, match=r"on_lora\.yaml.*weights_path_with_lora"):
        find_methods(replace(NOTHING, lora=paths.lora), ("lora+prompt",))


def test_checkpoints_are_sorted_by_step(checkpoints: Path) -> None:
    """Checkpoints follow the untuned model by number; best_model shares an equal one's entry."""
    found = find_checkpoints(checkpoints, NOTHING)
    assert [each.name for each in found] == [
        "base", "checkpoint-5", "checkpoint-10 = best_model", "checkpoint-20",
    ]  # fmt: skip
    assert [each.mode for each in found] == ["base", "prompt", "prompt", "prompt"]
    assert selected_by_training(found) == "checkpoint-10 = best_model"
    assert selected_by_training(found[:2]) is None
    # A quarter of a second per optimizer step, up to the checkpoint.
    assert [each.facts.training_seconds for each in found] == [0.0, 1.25, 2.5, 5.0]


def test_best_model_without_its_checkpoint(checkpoints: Path) -> None:
    """best_model has its own entry if its checkpoint was removed."""
    shutil.rmtree(checkpoints / "checkpoint-10")
    names = [each.name for each in find_checkpoints(checkpoints, NOTHING)]
    assert names == ["base", "checkpoint-5", "checkpoint-20", "best_model"]


def test_checkpoints_on_an_adapter_need_it(
    tmp_path: Path, adapter: Path, save_prompt: SavePrompt
) -> None:
    """Checkpoints on an adapter are compared with it alone; without it they are an error."""
    folder = tmp_path / "on_lora"
    save_prompt(folder / "checkpoint-1" / "prompt_embeddings.pt", adapter=adapter)
    found = find_checkpoints(folder, replace(NOTHING, lora=adapter))
    assert [(each.name, each.mode) for each in found] == [
        ("lora", "lora"),
        ("checkpoint-1", "lora+prompt"),
    ]
    with pytest.raises(CheckpointError, match=r"trained on a LoRA adapter .*not the one in /none"):
        find_checkpoints(folder, NOTHING)


def test_checkpoints_on_an_adapter_have_the_cost_of_both(
    tmp_path: Path, adapter: Path, save_prompt: SavePrompt
) -> None:
    """The adapter counts for every checkpoint, as for the method lora+prompt."""
    folder = tmp_path / "on_lora"
    prompt = save_prompt(folder / "checkpoint-20" / "prompt_embeddings.pt", adapter=adapter)
    training({0: 0.1, 20: 0.4}, steps=20).write(folder / "all_results.json")
    record = replace(training({20: 0.4}, steps=40), method="lora", best_folder="best")
    record.write(adapter.parent / "all_results.json")
    paths = replace(NOTHING, prompt_on_lora=prompt, lora=adapter)
    _, checkpoint = find_checkpoints(folder, paths)
    assert checkpoint.facts.trainable_parameters == 200
    assert checkpoint.facts.training_seconds == 15.0
    assert checkpoint.facts == find_methods(paths, None)[-1].facts


@pytest.mark.parametrize("name", ["peft", "best"])
def test_prompts_in_peft_format_are_no_adapter(checkpoints: Path, name: str) -> None:
    """Prompts in PEFT's format next to checkpoints are not taken for an adapter."""
    (checkpoints / name).mkdir()
    (checkpoints / name / "adapter_model.safetensors").touch()
    assert len(find_checkpoints(checkpoints, NOTHING)) == 4


def test_checkpoints_of_an_adapter_are_an_error(tmp_path: Path) -> None:
    """Checkpoints of an adapter are not taken for incomplete ones of a prompt training."""
    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "checkpoint-7" / "adapter_model.safetensors").touch()
    message = r"holds a LoRA adapter \(checkpoint-7/adapter_model.*only its .*--methods base,lora"
    with pytest.raises(CheckpointError, match=message):
        find_checkpoints(tmp_path, NOTHING)


def test_only_prompts_in_peft_format_are_an_error(tmp_path: Path) -> None:
    """A folder of prompts in PEFT's format holds neither checkpoints nor an adapter."""
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / "adapter_model.safetensors").touch()
    with pytest.raises(CheckpointError, match="holds no checkpoint-N"):
        find_checkpoints(tmp_path, NOTHING)


@pytest.mark.parametrize("name", ["", "checkpoint-7"])
def test_folder_without_checkpoints_is_an_error(tmp_path: Path, name: str) -> None:
    """An empty or missing folder and a checkpoint without its prompt have different errors."""
    (tmp_path / "a" / name).mkdir(parents=True)
    message = "checkpoint-7/prompt_embeddings.pt: no such file" if name else "holds no checkpoint-N"
    with pytest.raises(CheckpointError, match=message):
        find_checkpoints(tmp_path / "a", NOTHING)
    with pytest.raises(CheckpointError, match="holds no checkpoint-N"):
        find_checkpoints(tmp_path / "b", NOTHING)


def test_ensemble_has_the_cost_of_its_prompts(
    checkpoints: Path, adapter: Path, tmp_path: Path, save_prompt: SavePrompt
) -> None:
    """Each prompt was trained, and on an adapter the adapter too; a folder names its file."""
    folders = [checkpoints / name for name in ("checkpoint-10", "checkpoint-20")]
    found = find_ensemble(folders, NOTHING)
    assert (found.name, found.mode) == ("ensemble", "prompt")
    assert found.prompts == [folder / "prompt_embeddings.pt" for folder in folders]
    assert (found.facts.trainable_parameters, found.facts.training_seconds) == (200, 7.5)
    on_lora = [save_prompt(tmp_path / f"{n}.pt", seed=n, adapter=adapter) for n in (1, 2)]
    found = find_ensemble(on_lora, replace(NOTHING, lora=adapter))
    assert found.mode == "lora+prompt" and found.needs_adapter


def test_ensemble_of_prompts_for_different_models_is_an_error(
    tmp_path: Path, adapter: Path, save_prompt: SavePrompt
) -> None:
    """Prompts with and without an adapter, or on another one, do not generate together."""
    plain, on_lora = save_prompt(tmp_path / "a.pt"), save_prompt(tmp_path / "b.pt", adapter=adapter)
    with pytest.raises(UsageError, match=r"found prompts for prompt, lora\+prompt; expected all"):
        find_ensemble([plain, on_lora], replace(NOTHING, lora=adapter))
    with pytest.raises(UsageError, match="found prompts for neither, neither"):
        find_ensemble([on_lora, on_lora], NOTHING)
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        find_ensemble([tmp_path / "none.pt", plain], NOTHING)


def test_named_prompts_are_methods(
    paths: TrainedPaths, adapter: Path, tmp_path: Path, save_prompt: SavePrompt
) -> None:
    """Each is used with the model that it was trained for, and can be chosen by its name."""
    plain, on_lora = save_prompt(tmp_path / "a.pt"), save_prompt(tmp_path / "b.pt", adapter=adapter)
    named = replace(paths, named={"formal": plain, "adapted": on_lora})
    found = find_methods(named, None)
    assert [(each.name, each.mode, each.prompt) for each in found[4:]] == [
        ("formal", "prompt", plain),
        ("adapted", "lora+prompt", on_lora),
    ]
    assert [each.name for each in find_methods(named, ("base", "adapted"))] == ["base", "adapted"]


def test_named_prompt_that_cannot_be_a_method_is_an_error(
    paths: TrainedPaths, adapter: Path, tmp_path: Path, save_prompt: SavePrompt
) -> None:
    """It may not be called as a row, and needs its own adapter."""
    on_lora = save_prompt(tmp_path / "b.pt", adapter=adapter)
    with pytest.raises(UsageError, match=r"prompts\.nearest: the evaluation has a row nearest"):
        find_methods(replace(paths, named={"nearest": on_lora}), None)
    other = TrainedPaths(paths.prompt, paths.prompt_on_lora, Path("/none"), {"mine": on_lora})
    with pytest.raises(UsageError, match=r"prompts\.mine: .*b\.pt: was trained on a LoRA adapter"):
        find_methods(other, ("base", "mine"))
