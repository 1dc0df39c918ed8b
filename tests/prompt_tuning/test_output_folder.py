"""The output folder: looked at before any model is loaded, and untouched by what is refused."""

from pathlib import Path

import pytest

from igrag.cli import run
from igrag.errors import DataError, UsageError
from prompt_tuning import prompt_training, setup
from tests.command import one_error
from tests.prompt_tuning.training import Trainer, losses, record_of

LATEST = ("--resume_from_checkpoint", "latest")


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a model would be loaded."""

    def load(*arguments: object, **options: object) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(setup, "load_frozen_model", load)


def files(folder: Path) -> dict[str, bytes]:
    """Returns all files below a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize("resume", [(), LATEST])
def test_a_file_in_its_place_is_told_at_once(
    trainer: Trainer, capsys: pytest.CaptureFixture[str], resume: tuple[str, ...]
) -> None:
    """One line with advice and exit code 2, begun again or gone on with."""
    place = trainer.output / "run"
    place.write_text("a file")
    arguments, parser = prompt_training.parse_arguments(trainer.words(place, *resume))
    assert run(lambda: prompt_training.main(arguments, parser), debug=False) == 2
    error = one_error(capsys.readouterr().err)
    assert f"{place}: is no folder" in error and "--output_dir" in error


def test_an_earlier_training_is_told_before_the_model_is_loaded(
    trainer: Trainer, request: pytest.FixtureRequest
) -> None:
    """And nothing in its folder changes."""
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
def test_a_best_model_alone_is_not_overwritten(trainer: Trainer, resume: tuple[str, ...]) -> None:
    """There is nothing to go on from, and the advice is not to go on."""
    best = trainer.output / "run" / "best_model" / "prompt_embeddings.pt"
    best.parent.mkdir(parents=True)
    best.write_bytes(b"precious")
    with pytest.raises(
        UsageError, match=r"\(best_model\); without a complete checkpoint"
    ) as caught:
        trainer.train("run", *resume)
    assert "latest" not in str(caught.value)
    assert best.read_bytes() == b"precious"


def test_a_refused_start_leaves_nothing(trainer: Trainer) -> None:
    """With event files asked for too: what is wrong with the data is told before they are made."""
    pytest.importorskip("tensorboard")
    train = trainer._settings["data.train_file"]
    with pytest.raises(DataError, match="the same content"):
        trainer.train(output__report_to="tensorboard", data__val_file=train)
    assert not (trainer.output / "run").exists()


def test_event_files_have_every_step_once(trainer: Trainer) -> None:
    """The steps, and the validations from the untuned model on, though some were made twice."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    output = trainer.train(output__report_to="tensorboard")
    resume = ("--resume_from_checkpoint", str(output / "checkpoint-6"))
    trainer.train("run", *resume, output__report_to="tensorboard")
    assert len(list((output / "runs").iterdir())) == 2
    events = accumulator.EventAccumulator(str(output / "runs"))
    events.Reload()
    told = [(event.step, round(event.value, 4)) for event in events.Scalars("train/loss")]
    assert told == [(step, round(loss, 4)) for step, loss in enumerate(losses(output), 1)]
    evaluations = record_of(output).evaluations
    for name, figures in (
        ("val/loss", [found.loss for found in evaluations]),
        ("val/bleu4", [found.bleu4 for found in evaluations]),
    ):
        told = [(event.step, round(event.value, 4)) for event in events.Scalars(name)]
        assert told == [
            (found.step, round(figure, 4))
            for found, figure in zip(evaluations, figures, strict=True)
        ]
