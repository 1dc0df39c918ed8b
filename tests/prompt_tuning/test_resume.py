"""Interrupted and resumed training: the same as without the interruption."""

import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from igrag.errors import CheckpointError, UsageError
from igrag.training.record import Evaluation, TrainingRecord
from prompt_tuning.prompt_file import load_prompt
from tests.prompt_tuning.training import Trainer, losses, record_of

PROMPT = "prompt_embeddings.pt"


def checkpoints(output: Path) -> dict[str, bytes]:
    """Returns the prompt's bytes in each checkpoint and in best_model."""
    files = [file for file in output.glob(f"*/{PROMPT}") if not file.parent.name.startswith(".")]
    return {file.parent.name: file.read_bytes() for file in files}


def scores(output: Path) -> list[Evaluation]:
    """Returns the record's validations, but for the time they took."""
    return [replace(found, seconds=0) for found in record_of(output).evaluations]


def interrupt(trainer: Trainer, name: str, monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """Trains until Ctrl-C comes in the step number `after`."""
    clip, calls = torch.nn.utils.clip_grad_norm_, []

    def interrupted(parameters: list[torch.nn.Parameter], max_norm: float) -> torch.Tensor:
        calls.append(1)
        if len(calls) == after:
            raise KeyboardInterrupt
        return clip(parameters, max_norm)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.train(name)


@pytest.mark.parametrize("after", [2, 5, 8])
def test_resumed_equals_uninterrupted(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Bit for bit, from before the first checkpoint, mid-epoch, and in the second epoch."""
    whole = trainer.train("whole")
    interrupt(trainer, "parts", monkeypatch, after=after)
    parts = trainer.train("parts", "--resume_from_checkpoint", "latest")
    assert checkpoints(parts) == checkpoints(whole)
    assert losses(parts) == losses(whole)
    assert scores(parts) == scores(whole)


def test_dropout_is_resumed_too(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the model's dropout on, a resumed training still drops what it would have dropped."""
    trainer._settings["training.model_dropout"] = "true"
    whole = trainer.train("whole")
    interrupt(trainer, "parts", monkeypatch, after=5)
    parts = trainer.train("parts", "--resume_from_checkpoint", "latest")
    assert checkpoints(parts) == checkpoints(whole)
    still = trainer.train("still", training__model_dropout="false")
    assert losses(still) != losses(whole)


def test_a_finished_training_stays_as_it_is(trainer: Trainer) -> None:
    """Resuming what is finished changes nothing."""
    output = trainer.train()
    before = checkpoints(output)
    trainer.train("run", "--resume_from_checkpoint", "latest")
    assert checkpoints(output) == before


def test_resuming_with_other_settings_is_refused(trainer: Trainer) -> None:
    """The difference is named; where nothing is computed differently it is allowed."""
    trainer.train()
    for key, message in (
        ("training__learning_rate", r"training\.learning_rate was 0\.3, is 10"),
        ("prompt_tuning__prompt_length", r"prompt_tuning\.prompt_length was 4, is 10"),
    ):
        with pytest.raises(UsageError, match=message):
            trainer.train("run", "--resume_from_checkpoint", "latest", **{key: 10})
    trainer.train(
        "run", "--resume_from_checkpoint", "latest", evaluation__save_total_limit=5
    )  # fmt: skip


def test_resuming_on_another_model_is_refused(trainer: Trainer, tiny_t5: Path) -> None:
    """Other weights under the same name, or another dtype: the prompt would be of neither."""
    copy = trainer.output / "model"
    shutil.copytree(tiny_t5, copy)
    trainer.train(model__name=copy)
    resume = ("--resume_from_checkpoint", "latest")
    with pytest.raises(UsageError, match=r"resolved\.dtype was float32, is bfloat16"):
        trainer.train("run", *resume, "--dtype", "bfloat16", model__name=copy)
    model = AutoModelForSeq2SeqLM.from_pretrained(copy)
    for name, part in (
        ("decoder.block.1.layer.1.EncDecAttention.v.weight", "weights"),
        ("shared.weight", "embeddings"),
    ):
        with torch.no_grad():
            model.get_parameter(name).mul_(1.1)
        model.save_pretrained(copy)
        with pytest.raises(UsageError, match=rf"resolved\.trained_for\.{part} was"):
            trainer.train("run", *resume, model__name=copy)


def test_a_checkpoint_without_the_weights_hash_is_taken_at_its_word(trainer: Trainer) -> None:
    """As records were written before there was one; what goes on from it has one."""
    output = trainer.train()
    path = output / "checkpoint-10" / "training_record.json"
    record = TrainingRecord.read(path)
    weights = record.config["resolved"]["trained_for"].pop("weights")
    record.write(path)
    trainer.train("run", "--resume_from_checkpoint", "latest")
    assert record_of(output).config["resolved"]["trained_for"]["weights"] == weights


def test_a_training_that_stopped_early_has_stopped(trainer: Trainer) -> None:
    """Resuming it does not begin to train again."""
    patience = {"evaluation__early_stopping_patience": 1, "training__learning_rate": 1e-9}
    output = trainer.train(**patience)
    steps = len(losses(output))
    before = checkpoints(output)
    assert steps < 10
    trainer.train("run", "--resume_from_checkpoint", "latest", **patience)
    assert len(losses(output)) == steps and checkpoints(output) == before


def test_going_back_prunes_no_checkpoint_of_its_own(trainer: Trainer) -> None:
    """With a limit, later checkpoints of an earlier course do not push out the new ones."""
    course = trainer.train("run", evaluation__eval_steps=2)
    stale = course / "checkpoint-99"
    shutil.copytree(course / "checkpoint-8", stale)
    words = ("--resume_from_checkpoint", str(course / "checkpoint-4"))
    limit = {"evaluation__eval_steps": 2, "evaluation__save_total_limit": 1}
    trainer.train("run", *words, **limit)
    best = record_of(course).best
    assert best is not None
    newest = "checkpoint-8" if best.checkpoint == "checkpoint-10" else "checkpoint-10"
    left = {path.name for path in course.glob("checkpoint-*")}
    assert left == {newest, best.checkpoint, stale.name}


def test_a_best_checkpoint_that_was_removed(trainer: Trainer) -> None:
    """Where best_model is its copy, training goes on; where it is another's, that is told."""
    patience = {"evaluation__eval_steps": 1, "training__learning_rate": 1e-9}  # The first is best.
    output = trainer.train(**patience)
    assert record_of(output).best == record_of(output).evaluations[1]
    shutil.rmtree(output / "checkpoint-1")
    before = checkpoints(output)
    trainer.train("run", "--resume_from_checkpoint", "latest", **patience)
    assert checkpoints(output) == before
    (output / "best_model" / PROMPT).unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint-1.*it was the best prompt then"):
        trainer.train("run", "--resume_from_checkpoint", "latest", **patience)


def test_resuming_from_a_path(trainer: Trainer) -> None:
    """An earlier checkpoint can be named; one of another folder, or none, is refused."""
    output = trainer.train()
    before = checkpoints(output)
    trainer.train("run", "--resume_from_checkpoint", str(output / "checkpoint-6"))
    assert checkpoints(output) == before
    with pytest.raises(CheckpointError, match="expected a checkpoint of"):
        trainer.train("other", "--resume_from_checkpoint", str(output / "checkpoint-6"))
    with pytest.raises(CheckpointError, match="checkpoint-N"):
        trainer.train("run", "--resume_from_checkpoint", str(output))


def test_a_damaged_state_is_refused(trainer: Trainer) -> None:
    """Truncated, with a single wrong bit, or not torch's at all: one error that names the file."""
    output = trainer.train()
    state = output / "checkpoint-10" / "training_state.pt"
    whole = state.read_bytes()
    prompt = load_prompt(output / "checkpoint-10" / PROMPT).embeddings.numpy().tobytes()
    place = whole.index(prompt)
    flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    # The last one is a pickle that asks for something it never stored.
    for content in (whole[:100], flipped, b"", b"\x80\x02h\x05."):
        state.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"training_state\.pt: damaged"):
            trainer.train("run", "--resume_from_checkpoint", "latest")
    state.unlink()
    with pytest.raises(CheckpointError, match=r"training_state\.pt: damaged"):
        trainer.train("run", "--resume_from_checkpoint", "latest")


@pytest.mark.slow
def test_a_killed_training_is_resumed(trainer: Trainer) -> None:
    """After kill -9 every file that was written is whole, and resuming ends in the same bytes.

    Killed before the first checkpoint, after some, and in the second epoch while one is written.
    """
    whole = trainer.train("whole", evaluation__eval_steps=1)
    for moment in ("predictions_untuned.json", "checkpoint-3", ".checkpoint-7.*"):
        process = trainer.start(moment.strip(".*"), evaluation__eval_steps=1)
        killed = trainer.output / moment.strip(".*")
        while process.poll() is None and not list(killed.glob(moment)):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        written = checkpoints(killed)
        assert len(written) < len(checkpoints(whole)), moment
        for folder in killed.glob("checkpoint-*"):
            torch.load(folder / "training_state.pt", weights_only=True)
            assert (folder / "training_record.json").is_file()
        trainer.train(killed.name, "--resume_from_checkpoint", "latest", evaluation__eval_steps=1)
        assert checkpoints(killed) == checkpoints(whole)
        assert scores(killed) == scores(whole) and losses(killed) == losses(whole)
        assert not list(killed.glob(".*")), "left-overs of the killed run"


def test_the_only_copy_of_the_best_is_not_replaced(trainer: Trainer) -> None:
    """Going back behind a best checkpoint that was removed is refused; best_model stays."""
    output = trainer.train(evaluation__eval_steps=1)
    best = record_of(output).best
    assert best is not None and best.checkpoint not in (None, "checkpoint-1")
    shutil.rmtree(output / str(best.checkpoint))
    before = checkpoints(output)
    back = ("--resume_from_checkpoint", str(output / "checkpoint-1"))
    with pytest.raises(UsageError, match=f"best_model: is the only copy of {best.checkpoint}"):
        trainer.train("run", *back, evaluation__eval_steps=1)
    assert checkpoints(output) == before
