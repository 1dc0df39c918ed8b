"""Interrupted and resumed training of the adapter: the same as without the interruption."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest

from igrag.errors import CheckpointError, UsageError
from lora_training.train_lora import main, parse_arguments
from tests.lora_training.training import WEIGHTS, Trainer, adapters, losses, record_of

LATEST = ("--resume_from_checkpoint", "latest")


@pytest.mark.parametrize(
    ("after", "eval_steps"),
    [(3, 3), (9, 3), (15, 3), (14, "null")],  # the last one: from the end of an epoch
)
def test_resumed_equals_uninterrupted(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, after: int, eval_steps: object
) -> None:
    """Bit for bit, dropout included, wherever the interruption comes."""
    whole = trainer.train("whole", training__eval_steps=eval_steps)
    trainer.interrupt("parts", monkeypatch, after=after, training__eval_steps=eval_steps)
    parts = trainer.train("parts", *LATEST, training__eval_steps=eval_steps)
    assert adapters(parts) == adapters(whole)
    assert losses(parts) == losses(whole)
    scores = [[(e.step, e.loss, e.bleu4) for e in record_of(o).evaluations] for o in (whole, parts)]
    assert scores[0] == scores[1]


def test_half_a_checkpoint_is_passed_over(trainer: Trainer) -> None:
    """A checkpoint whose writing was interrupted is not gone on from, but written again."""
    whole = adapters(trainer.train())
    torn = trainer.output / "run" / "checkpoint-10"
    (torn / "training_record.json").unlink()
    (torn / WEIGHTS).write_bytes(b"half")
    assert adapters(trainer.train("run", *LATEST)) == whole


def test_a_finished_training_stays_as_it_is(trainer: Trainer) -> None:
    """Resuming what is finished changes nothing."""
    output = trainer.train()
    before, record = adapters(output), (output / "all_results.json").read_bytes()
    trainer.train("run", *LATEST)
    assert adapters(output) == before
    assert (output / "all_results.json").read_bytes() == record


@pytest.mark.parametrize("resume", [LATEST, ()])
def test_the_best_adapter_alone_is_not_overwritten(
    trainer: Trainer, resume: tuple[str, ...]
) -> None:
    """Where only best is left there is nothing to go on from, and nothing is begun over it."""
    output = trainer.train(training__num_train_epochs=1)
    for checkpoint in output.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    before = {path.name: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    elsewhere = trainer.output / "data"
    words = trainer.words(output, "--all", *resume, training__num_train_epochs=1)
    with pytest.raises(UsageError, match=r"\(best\); without a whole checkpoint") as refusal:
        main(*parse_arguments([*words, "--output-data", str(elsewhere)]))
    assert "latest" not in str(refusal.value)
    assert not elsewhere.exists()
    assert {path.name: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_resuming_with_something_else_is_refused(trainer: Trainer) -> None:
    """Other settings or data are named; what computes nothing differently is allowed."""
    trainer.train()
    with pytest.raises(UsageError, match=r"training\.learning_rate was 0\.01, is 0\.1"):
        trainer.train("run", *LATEST, training__learning_rate=0.1)
    with pytest.raises(UsageError, match=r"lora\.r was 4, is 8"):
        trainer.train("run", *LATEST, lora__r=8)
    trainer.train("run", *LATEST, training__save_total_limit=5)
    with (trainer.data / "train.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"prompt": "a dog", "caption": "a cat"}) + "\n")
    with pytest.raises(UsageError, match="other data: train_examples was 37, is 38"):
        trainer.train("run", *LATEST)


def test_resuming_from_a_path(trainer: Trainer) -> None:
    """An earlier checkpoint can be named; one of another folder, or none, is refused."""
    output = trainer.train()
    before = adapters(output)
    resume = ("--resume_from_checkpoint", str(output / "checkpoint-6"))
    trainer.train("run", *resume)
    assert adapters(output) == before
    with pytest.raises(CheckpointError, match="expected a checkpoint of"):
        trainer.train("other", *resume)
    with pytest.raises(CheckpointError, match="checkpoint-N"):
        trainer.train("run", "--resume_from_checkpoint", str(output))


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", WEIGHTS, "trainer_state.json"])
def test_a_damaged_checkpoint_is_refused(trainer: Trainer, name: str) -> None:
    """A file that is cut off or missing is named, where the library would go on without it."""
    file = trainer.train() / "checkpoint-10" / name
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(CheckpointError, match=f"{name}: damaged"):
        trainer.train("run", *LATEST)
    file.unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        trainer.train("run", *LATEST)


class Planted:
    """What runs a command where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._trace),)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_nothing_is_unpickled(trainer: Trainer, name: str) -> None:
    """A state with code in it is refused, and the code is not run."""
    trace = trainer.output / "trace"
    (trainer.train() / "checkpoint-10" / name).write_bytes(pickle.dumps(Planted(trace)))
    with pytest.raises(CheckpointError, match=f"{name}: damaged"):
        trainer.train("run", *LATEST)
    assert not trace.exists()
