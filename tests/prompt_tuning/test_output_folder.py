"""The output folder is checked before any model is loaded, and left as it is by a refused run."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import MagicMock

import pytest
from accelerate import tracking
from accelerate.tracking import GeneralTracker

from igrag.cli import run
from igrag.errors import DataError, UsageError
from igrag.training.trackers import SAMPLES
from prompt_tuning import prompt_training, setup
from tests.command import one_error
from tests.prompt_tuning.training import Trainer, losses, record_of
from tests.tiny import CocoFolder

LATEST = ("--resume_from_checkpoint", "latest")


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if a model is loaded."""

    def load(*arguments: object, **options: object) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(setup, "load_frozen_model", load)


def files(folder: Path) -> dict[str, bytes]:
    """Returns all files below a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize("resume", [(), LATEST])
def test_file_instead_of_the_output_folder_is_refused_first(
    trainer: Trainer, capsys: pytest.CaptureFixture[str], resume: tuple[str, ...]
) -> None:
    """The error is one line with a fix and exit code 2, for new and resumed runs."""
    file = trainer.output / "run"
    file.write_text("a file")
    arguments, parser = prompt_training.parse_arguments(trainer.words(file, *resume))
    assert run(lambda: prompt_training.main(arguments, parser), debug=False) == 2
    error = one_error(capsys.readouterr().err)
    assert f"{file}: is no folder" in error and "--output_dir" in error


def test_earlier_run_is_refused_before_the_model_is_loaded(
    trainer: Trainer, request: pytest.FixtureRequest
) -> None:
    """Nothing in its folder changes."""
    output = trainer.train(output__report_to="none")
    before = files(output)
    request.getfixturevalue("no_models")
    with pytest.raises(UsageError, match="--resume_from_checkpoint latest"):
        trainer.train()
    with pytest.raises(UsageError, match="--resume_from_checkpoint: found nothing"):
        trainer.train("run", "--resume_from_checkpoint", "")
    assert files(output) == before


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize("resume", [(), LATEST])
def test_best_model_without_checkpoints_is_not_overwritten(
    trainer: Trainer, resume: tuple[str, ...]
) -> None:
    """Without a checkpoint, the error does not suggest to resume."""
    best = trainer.output / "run" / "best_model" / "prompt_embeddings.pt"
    best.parent.mkdir(parents=True)
    best.write_bytes(b"precious")
    with pytest.raises(
        UsageError, match=r"\(best_model\); without a complete checkpoint"
    ) as caught:
        trainer.train("run", *resume)
    assert "latest" not in str(caught.value)
    assert best.read_bytes() == b"precious"


def test_refused_run_makes_no_output_folder(trainer: Trainer) -> None:
    """Wrong data are refused before TensorBoard's event files are made."""
    pytest.importorskip("tensorboard")
    train = trainer._settings["data.train_file"]
    with pytest.raises(DataError, match="the same content"):
        trainer.train(output__report_to="tensorboard", data__val_file=train)
    assert not (trainer.output / "run").exists()


def test_event_files_have_every_step_once(trainer: Trainer) -> None:
    """Steps and validations are there once, though a resumed run repeated some."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    output = trainer.train(output__report_to="tensorboard")
    resume = ("--resume_from_checkpoint", str(output / "checkpoint-6"))
    trainer.train("run", *resume, output__report_to="tensorboard")
    assert len(list((output / "runs").iterdir())) == 2
    events = accumulator.EventAccumulator(str(output / "runs"))
    events.Reload()
    recorded = [(event.step, round(event.value, 4)) for event in events.Scalars("train/loss")]
    assert recorded == [(step, round(loss, 4)) for step, loss in enumerate(losses(output), 1)]
    evaluations = record_of(output).evaluations
    for name, figures in (
        ("val/loss", [found.loss for found in evaluations]),
        ("val/bleu4", [found.bleu4 for found in evaluations]),
    ):
        recorded = [(event.step, round(event.value, 4)) for event in events.Scalars(name)]
        assert recorded == [
            (found.step, round(figure, 4))
            for found, figure in zip(evaluations, figures, strict=True)
        ]


def test_event_files_have_sample_captions_with_images(trainer: Trainer, coco: CocoFolder) -> None:
    """TensorBoard shows the captions of every validation as a table, and their images once."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    images = {"output__report_to": "tensorboard", "output__report_images": coco.images}
    output = trainer.train(**images, training__num_train_epochs=1, evaluation__eval_steps=5)
    events = accumulator.EventAccumulator(str(output / "runs"))
    events.Reload()
    texts = events.Tensors("val/captions/text_summary")
    assert [text.step for text in texts] == [0, 5]
    predicted = json.loads((output / "checkpoint-5" / "predictions.json").read_text())
    table = texts[-1].tensor_proto.string_val[0].decode()
    assert f"| 1 | {predicted[0]['caption']} | " in table and table.count("\n") == SAMPLES + 1
    assert [image.step for image in events.Images("val/images/1")] == [0]


class Recorder(GeneralTracker):  # type: ignore[misc]  # has no types
    """A tracker of accelerate's that keeps what it is given."""

    name = "wandb"
    requires_logging_directory = False
    kept: ClassVar[list[Any]] = []

    def __init__(self, run_name: str, **_: Any) -> None:
        super().__init__()
        self.kept.append(run_name)

    @property
    def tracker(self) -> None:
        """There is no run behind it."""

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Keeps the settings."""
        self.kept.append(values)

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        """Keeps a step."""
        self.kept.append((step, values))


def test_trackers_get_settings_and_scores(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service gets the settings by their keys, then every step and validation."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Recorder)
    monkeypatch.setattr(tracking, "_available_trackers", [tracking.LoggerType.WANDB])
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: [tracking.LoggerType.WANDB])
    monkeypatch.setattr(Recorder, "kept", [])
    wandb = MagicMock()
    wandb.run.id = "r1"
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    output = trainer.train(output__report_to="wandb")
    project, settings, *logged = Recorder.kept
    assert project == "igrag"
    assert settings["training.learning_rate"] == 0.3
    assert settings["prompt_tuning.init_text"] == "None"  # Trackers take numbers and texts.
    steps = [values["train/loss"] for _, values in logged if "train/loss" in values]
    assert steps == losses(output)
    validations = len(record_of(output).evaluations)
    assert sum("val/bleu4" in values for _, values in logged) == validations
    assert wandb.Table.call_count == validations
    added = [call.args[0] for call in wandb.Artifact.return_value.add_file.call_args_list]
    assert str(output / "best_model" / "prompt_embeddings.pt") in added
    assert wandb.run.log_artifact.call_count == 1
