"""What can be compared: the methods that are trained, or the checkpoints of one training."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.methods import TrainedPaths, find_checkpoints, find_methods, selected_by_training
from igrag.errors import CheckpointError, UsageError
from tests.evaluation.conftest import SavePrompt
from tests.trainings import training

NOTHING = TrainedPaths(Path("/none/prompt.pt"), Path("/none/both.pt"), Path("/none/lora"))


def test_all_that_is_trained(paths: TrainedPaths, caplog: pytest.LogCaptureFixture) -> None:
    """By default everything there is, in a fixed order, each with its own files."""
    found = find_methods(paths, None)
    assert [(each.name, each.mode, each.prompt, each.needs_adapter) for each in found] == [
        ("base", "base", None, False),
        ("prompt", "prompt", paths.prompt, False),
        ("lora", "lora", None, True),
        ("lora+prompt", "lora+prompt", paths.prompt_on_lora, True),
    ]
    assert caplog.text == ""


def test_what_is_not_trained_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """A missing method is no error where nobody asked for it."""
    assert [each.name for each in find_methods(NOTHING, None)] == ["base"]
    assert "not trained, so not compared: prompt, lora, lora+prompt" in caplog.text


def test_what_is_asked_for(paths: TrainedPaths, caplog: pytest.LogCaptureFixture) -> None:
    """Only that, in the fixed order, and nothing is said of the others."""
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
def test_what_is_missing_is_an_error(wanted: str, message: str) -> None:
    """It says what was looked for, where, and how to train it."""
    with pytest.raises(UsageError, match=message):
        find_methods(NOTHING, ("base", wanted))


def test_a_prompt_of_the_base_model_is_not_one_of_the_adapter(paths: TrainedPaths) -> None:
    """With the adapter there and a prompt there, the two need not belong together."""
    mixed = replace(paths, prompt_on_lora=paths.prompt)
    with pytest.raises(UsageError, match=r"on_lora\.yaml.*weights_path_with_lora"):
        find_methods(mixed, ("lora+prompt",))
    assert [each.name for each in find_methods(mixed, None)] == ["base", "prompt", "lora"]


def test_checkpoints_come_in_their_order(checkpoints: Path) -> None:
    """By number, not by name, below the model itself; best_model is named with its twin."""
    found = find_checkpoints(checkpoints, NOTHING)
    assert [each.name for each in found] == [
        "base", "checkpoint-5", "checkpoint-10 = best_model", "checkpoint-20",
    ]  # fmt: skip
    assert [each.mode for each in found] == ["base", "prompt", "prompt", "prompt"]
    assert selected_by_training(found) == "checkpoint-10 = best_model"
    assert selected_by_training(found[:2]) is None
    # As far as training had come, a quarter of a second an update.
    assert [each.facts.training_seconds for each in found] == [0.0, 1.25, 2.5, 5.0]


def test_best_model_may_stand_alone(checkpoints: Path) -> None:
    """Its checkpoint may have been removed."""
    shutil.rmtree(checkpoints / "checkpoint-10")
    names = [each.name for each in find_checkpoints(checkpoints, NOTHING)]
    assert names == ["base", "checkpoint-5", "checkpoint-20", "best_model"]


def test_checkpoints_on_an_adapter(tmp_path: Path, adapter: Path, save_prompt: SavePrompt) -> None:
    """They are compared with the adapter alone; without it they cannot be."""
    folder = tmp_path / "on_lora"
    save_prompt(folder / "checkpoint-1" / "prompt_embeddings.pt", adapter=adapter)
    found = find_checkpoints(folder, replace(NOTHING, lora=adapter))
    assert [(each.name, each.mode) for each in found] == [
        ("lora", "lora"),
        ("checkpoint-1", "lora+prompt"),
    ]
    with pytest.raises(CheckpointError, match=r"trained on a LoRA adapter .*not the one in /none"):
        find_checkpoints(folder, NOTHING)


def test_checkpoints_on_an_adapter_cost_both(
    tmp_path: Path, adapter: Path, save_prompt: SavePrompt
) -> None:
    """As the method lora+prompt does: the adapter is loaded with every one of them."""
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
def test_prompts_in_pefts_format_beside_checkpoints(checkpoints: Path, name: str) -> None:
    """They look like an adapter, and are none: the checkpoints are compared all the same."""
    (checkpoints / name).mkdir()
    (checkpoints / name / "adapter_model.safetensors").touch()
    assert len(find_checkpoints(checkpoints, NOTHING)) == 4


def test_checkpoints_of_an_adapter(tmp_path: Path) -> None:
    """They are not taken for those of a prompt training that are not whole."""
    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "checkpoint-7" / "adapter_model.safetensors").touch()
    message = r"holds a LoRA adapter \(checkpoint-7/adapter_model.*only its .*--methods base,lora"
    with pytest.raises(CheckpointError, match=message):
        find_checkpoints(tmp_path, NOTHING)


def test_prompts_in_pefts_format_alone(tmp_path: Path) -> None:
    """A folder of them holds no checkpoints, and no adapter's training either."""
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / "adapter_model.safetensors").touch()
    with pytest.raises(CheckpointError, match="holds no checkpoint-N"):
        find_checkpoints(tmp_path, NOTHING)


@pytest.mark.parametrize("name", ["", "checkpoint-7"])
def test_no_checkpoints(tmp_path: Path, name: str) -> None:
    """An empty folder, a missing one, and a checkpoint without its prompt are told apart."""
    (tmp_path / "a" / name).mkdir(parents=True)
    message = "checkpoint-7/prompt_embeddings.pt: no such file" if name else "holds no checkpoint-N"
    with pytest.raises(CheckpointError, match=message):
        find_checkpoints(tmp_path / "a", NOTHING)
    with pytest.raises(CheckpointError, match="holds no checkpoint-N"):
        find_checkpoints(tmp_path / "b", NOTHING)
