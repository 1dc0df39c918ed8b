"""Prompt training as a whole: what it writes, what it leaves alone, and what it refuses."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from transformers import AutoModelForSeq2SeqLM

from igrag.cli import run
from igrag.config import REPO_ROOT
from igrag.errors import ConfigError, DataError, TrainingError
from igrag.training.record import TrainingRecord
from prompt_tuning import prompt_training, setup
from prompt_tuning.prompt_file import load_prompt
from prompt_tuning.prompt_tuner import PromptTuner
from prompt_tuning.settings import DEFAULT_SETTINGS, PromptTrainingSettings
from tests.finished_runs import CopyRun
from tests.prompt_tuning.training import Trainer, losses, record_of


@pytest.mark.usefixtures("real_curves")
def test_training_writes_checkpoints_best_model_record_and_curves(trainer: Trainer) -> None:
    """Training writes these files, and the predictions of every validation."""
    output = trainer.train()
    assert sorted(path.name for path in output.iterdir()) == [
        "all_results.json",
        "best_model",
        "checkpoint-10",
        "checkpoint-3",
        "checkpoint-6",
        "checkpoint-9",
        "predictions_untuned.json",
        "training_curves.png",
    ]
    assert (output / "training_curves.png").read_bytes().startswith(b"\x89PNG")
    record = record_of(output)
    assert [evaluation.step for evaluation in record.evaluations] == [0, 3, 6, 9, 10]
    assert [step.step for step in record.history] == list(range(1, 11))
    assert record.model.trainable_parameters == 4 * 32
    results = json.loads((output / "checkpoint-3" / "predictions.json").read_text("utf-8"))
    assert [result["image_id"] for result in results] == list(range(1, 11))
    assert all(isinstance(result["caption"], str) for result in results)


def test_best_model_equals_the_best_checkpoint(copy_run: CopyRun) -> None:
    """It is a copy of the checkpoint with the highest recorded BLEU-4, byte for byte."""
    output = copy_run()
    record = record_of(output)
    assert record.best is not None and record.best.checkpoint is not None
    best = output / record.best.checkpoint / "prompt_embeddings.pt"
    assert (output / "best_model" / "prompt_embeddings.pt").read_bytes() == best.read_bytes()
    tuned = [evaluation.bleu4 for evaluation in record.evaluations[1:]]
    assert record.best.bleu4 == max(tuned)


def test_training_lowers_the_loss(trainer: Trainer) -> None:
    """The validation loss falls below that of the untuned model."""
    output = trainer.train(training__num_train_epochs=8, evaluation__eval_steps=40)
    record = record_of(output)
    assert record.untuned is not None
    assert record.evaluations[-1].loss < 0.8 * record.untuned.loss
    first = load_prompt(output / "checkpoint-40" / "prompt_embeddings.pt").embeddings
    assert first.shape == (4, 32)


def test_prompt_training_leaves_the_model_unchanged(
    trainer: Trainer, tiny_t5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tensor of the frozen model is bit-identical after training."""
    tuners: list[PromptTuner] = []
    build = setup.build_tuner

    def keep(*arguments: Any) -> PromptTuner:
        tuners.append(build(*arguments))
        return tuners[-1]

    monkeypatch.setattr(setup, "build_tuner", keep)
    trainer.train()
    model = tuners[0].model
    after = model.state_dict()
    before = AutoModelForSeq2SeqLM.from_pretrained(tiny_t5).state_dict()
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    "parametrization", ["residual", pytest.param("superpos", marks=pytest.mark.slow)]
)
def test_reparameterized_prompts_are_saved_plain(trainer: Trainer, parametrization: str) -> None:
    """The file of any parametrization holds a plain [P, H] tensor."""
    output = trainer.train(prompt_tuning__reparameterization=parametrization)
    prompt = load_prompt(output / "best_model" / "prompt_embeddings.pt")
    assert prompt.embeddings.shape == (4, 32)


@pytest.mark.slow
def test_same_seed_gives_the_same_prompt(trainer: Trainer, copy_run: CopyRun) -> None:
    """The same command gives the same bytes, another seed gives others."""
    name = Path("best_model", "prompt_embeddings.pt")
    runs = [copy_run("a"), trainer.train("b"), trainer.train("c", "--seed", "1")]
    first, second, other = [(output / name).read_bytes() for output in runs]
    assert first == second != other


@pytest.mark.slow
def test_loader_processes_do_not_change_the_losses(trainer: Trainer, copy_run: CopyRun) -> None:
    """The losses are the same with and without a process that prepares the batches."""
    without = copy_run("without")
    output = trainer.train("with", data__dataloader_num_workers=1)
    assert losses(output) == losses(without)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"training__optimizer": "adafactor"}, id="optimizer"),
        *(
            pytest.param(changed, id=name, marks=pytest.mark.slow)
            for name, changed in (
                ("precision", {"training__mixed_precision": "bf16"}),
                (
                    "schedule",
                    {"training__lr_scheduler_type": "cosine", "training__warmup_ratio": 0.2},
                ),
                ("step", {"training__max_grad_norm": "null", "training__weight_decay": 0.1}),
                ("beams", {"evaluation__num_beams": 2}),
            )
        ),
    ],
)
def test_every_setting_has_an_effect(
    trainer: Trainer, copy_run: CopyRun, settings: dict[str, object]
) -> None:
    """Training with the setting gives other losses or scores than without it."""
    plain = record_of(copy_run("plain"))
    AcceleratorState._reset_state(reset_partial_state=True)  # A process has one precision.
    changed = record_of(trainer.train("changed", **settings))
    assert len(plain.history) == len(changed.history)

    def figures(record: TrainingRecord) -> list[float]:
        steps = [step.loss for step in record.history]
        return steps + [each.bleu1 for each in record.evaluations]

    assert figures(plain) != figures(changed)


def test_save_total_limit_keeps_the_best_and_the_newest(trainer: Trainer) -> None:
    """Older checkpoints are removed, but never the best one."""
    output = trainer.train(evaluation__save_total_limit=1, evaluation__eval_steps=2)
    record = record_of(output)
    assert record.best is not None
    left = {path.name for path in output.glob("checkpoint-*")}
    tail = next(step for step in (10, 8) if f"checkpoint-{step}" != record.best.checkpoint)
    assert left == {record.best.checkpoint, f"checkpoint-{tail}"}


def test_early_stopping_after_patience_validations(trainer: Trainer) -> None:
    """With a tiny learning rate BLEU-4 stays the same, and training stops."""
    output = trainer.train(
        training__learning_rate=1e-12, evaluation__early_stopping_patience=2,
        evaluation__eval_steps=1,
    )  # fmt: skip
    assert len(losses(output)) == 3


def test_target_truncated_to_the_end_token_is_refused(trainer: Trainer) -> None:
    """Labels of only the end token would train the model to generate nothing."""
    with pytest.raises(TrainingError, match="max_target_length"):
        trainer.train(data__max_target_length=1)


def test_model_dropout_is_off_in_validation(copy_run: CopyRun) -> None:
    """The untuned model's loss and BLEU-4 are the same with and without model_dropout."""
    scores = [
        record_of(copy_run(name, **settings)).untuned
        for name, settings in (("with", {"training__model_dropout": "true"}), ("without", {}))
    ]
    assert scores[0] is not None and scores[1] is not None
    assert (scores[0].loss, scores[0].bleu4) == (scores[1].loss, scores[1].bleu4)


def test_validations_are_logged(trainer: Trainer, capsys: pytest.CaptureFixture[str]) -> None:
    """Each validation is printed on stderr, so that a log without progress bars shows it."""
    output = trainer.train()
    err = capsys.readouterr().err
    for found in record_of(output).evaluations:
        assert f"step {found.step}: validation loss {found.loss:.4f}" in err


@pytest.mark.parametrize("name", ["2026", "0.3", "try #2", "null", "a: b"])
def test_output_dir_is_not_parsed_as_yaml(name: str, tmp_path: Path) -> None:
    """The name of the output folder may look like a number, a comment, null or a mapping."""
    arguments, _ = prompt_training.parse_arguments(
        ["--train", "--output_dir", str(tmp_path / name)]
    )
    settings = PromptTrainingSettings.load(arguments.config, prompt_training._overrides(arguments))
    assert settings.output_dir == tmp_path / name
    arguments, _ = prompt_training.parse_arguments(["--train", "--output_dir", name])
    settings = PromptTrainingSettings.load(arguments.config, prompt_training._overrides(arguments))
    assert settings.output_dir == Path.cwd() / name


FOUR_KEYS = """\
prompt_tuning:
  enabled: true
  prompt_length: 20
  initialization: "random"
  weights_path: "{path}"
"""


def test_weights_path_sets_the_output_folder(tmp_path: Path) -> None:
    """The block of four keys is a complete configuration: weights_path sets output_dir."""
    file = tmp_path / "prompt_tuning.yaml"
    best = tmp_path / "run" / "best_model" / "prompt_embeddings.pt"
    file.write_text(FOUR_KEYS.format(path=best), "utf-8")
    settings = PromptTrainingSettings.load(file, [])
    assert (settings.output_dir, settings.best_prompt) == (tmp_path / "run", best)
    settings = PromptTrainingSettings.load(file, [f"output.output_dir={tmp_path / 'other'}"])
    assert (settings.output_dir, settings.best_prompt) == (tmp_path / "other", best)


def test_output_dir_overrides_weights_path(tmp_path: Path) -> None:
    """The best prompt is in the given output folder, whatever weights_path the file has."""
    for words in (
        ["--output_dir", str(tmp_path)],
        ["--set", f"output.output_dir={tmp_path}"],
    ):
        arguments, _ = prompt_training.parse_arguments(["--train", *words])
        overrides = prompt_training._overrides(arguments)
        settings = PromptTrainingSettings.load(arguments.config, overrides)
        assert settings.best_prompt == tmp_path / "best_model" / "prompt_embeddings.pt"


def test_best_prompt_is_saved_to_weights_path(trainer: Trainer) -> None:
    """Other files in the folder of weights_path are kept."""
    folder = trainer.output / "prompts"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    best = folder / "mine.pt"
    output = trainer.train(training__num_train_epochs=1, prompt_tuning__weights_path=best)
    record = record_of(output)
    assert record.best is not None
    saved = output / str(record.best.checkpoint) / "prompt_embeddings.pt"
    assert best.read_bytes() == saved.read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["mine.pt", "notes.txt"]
    assert not (output / "best_model").exists()


def test_disabled_prompt_is_not_trained(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error of --train with enabled: false names the option that enables it."""
    words = trainer.words(trainer.output / "run", prompt_tuning__enabled="false")
    arguments, parser = prompt_training.parse_arguments(words)
    assert run(lambda: prompt_training.main(arguments, parser), debug=False) == 2
    assert "--set prompt_tuning.enabled=true" in capsys.readouterr().err


def test_earlier_section_name_is_read_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Earlier versions called the section prompt, in files and in --set."""
    file = tmp_path / "old.yaml"
    file.write_text("prompt: {prompt_length: 7}\noutput: {output_dir: out}\n", "utf-8")
    settings = PromptTrainingSettings.load(file, [])
    assert settings.prompt_tuning.prompt_length == 7
    assert "prompt is called prompt_tuning now" in capsys.readouterr().err
    settings = PromptTrainingSettings.load(DEFAULT_SETTINGS, ["prompt.prompt_length=9"])
    assert settings.prompt_tuning.prompt_length == 9


def test_overwrite_output_dir_replaces_an_earlier_run(trainer: Trainer, copy_run: CopyRun) -> None:
    """The earlier checkpoints are removed, other files of the folder are kept."""
    output = copy_run()
    (output / "notes.txt").write_text("mine")
    trainer.train(
        "run", "--overwrite_output_dir", training__num_train_epochs=1, evaluation__eval_steps=4
    )
    names = {path.name for path in output.glob("checkpoint-*")}
    assert names == {"checkpoint-4", "checkpoint-5"}
    assert (output / "notes.txt").read_text() == "mine"


def test_validate_config_refuses_an_unknown_model() -> None:
    """A misspelled model name is found before training."""
    words = ["--validate_config", "--set", "model.name=flan_t5"]
    with pytest.raises(ConfigError, match="did you mean flan-t5"):
        prompt_training.main(*prompt_training.parse_arguments(words))


def test_image_in_train_and_val_is_refused(trainer: Trainer) -> None:
    """The best checkpoint is not selected by images of the training examples."""
    train = Path(str(trainer._settings["data.train_file"]))
    val = Path(str(trainer._settings["data.val_file"]))
    first = train.read_text("utf-8").splitlines()[0]
    val.write_text(f"{val.read_text('utf-8')}{first}\n", encoding="utf-8")
    with pytest.raises(DataError, match="both hold the image 1 "):
        trainer.train()


def test_no_action_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Without an action the help is printed, and the exit code is 2."""
    assert prompt_training.main(*prompt_training.parse_arguments([])) == 2
    assert "--train" in capsys.readouterr().err


def test_validate_config_accepts_the_shipped_file(capsys: pytest.CaptureFixture[str]) -> None:
    """--validate_config accepts the shipped file and names a misspelled key."""
    assert prompt_training.main(*prompt_training.parse_arguments(["--validate_config"])) == 0
    words = ["--validate_config", "--set", "training.learning_rat=1"]
    arguments, parser = prompt_training.parse_arguments(words)
    assert run(lambda: prompt_training.main(arguments, parser), debug=False) == 2
    assert "learning_rate" in capsys.readouterr().err


def test_omitted_keys_have_the_documented_defaults(tmp_path: Path) -> None:
    """A file that sets only data and output has the defaults of the documents."""
    file = tmp_path / "short.yaml"
    file.write_text(
        "data: {train_file: a.jsonl, val_file: b.jsonl}\noutput: {output_dir: out}\n", "utf-8"
    )
    settings = PromptTrainingSettings.load(file, [])
    training, prompt = settings.training, settings.prompt_tuning
    assert (training.num_train_epochs, training.learning_rate) == (3, 0.03)
    assert training.per_device_train_batch_size == 16
    assert training.gradient_accumulation_steps == 8
    assert (prompt.prompt_length, prompt.initialization) == (20, "random")
    assert settings.model.main_config == REPO_ROOT / "configs" / "config.yaml"


def test_missing_tensorboard_is_reported_before_loading(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the command that installs it, before any model is loaded."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name)
    )
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        trainer.train(output__report_to="tensorboard")
