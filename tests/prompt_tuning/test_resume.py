"""Prompt training that is interrupted and resumed equals an uninterrupted run."""

import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from igrag.errors import CheckpointError, UsageError
from igrag.training.record import Evaluation, TrainingRecord
from prompt_tuning.prompt_file import load_prompt
from tests.finished_runs import CopyRun
from tests.prompt_tuning.training import Trainer, losses, record_of

PROMPT = "prompt_embeddings.pt"
LATEST = ("--resume_from_checkpoint", "latest")


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


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(2, id="before_first_checkpoint", marks=pytest.mark.slow),
        pytest.param(5, id="mid_epoch"),
        pytest.param(8, id="mid_second_epoch", marks=pytest.mark.slow),
    ],
)
def test_resumed_run_equals_uninterrupted_run(
    trainer: Trainer, copy_run: CopyRun, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """A resumed run has the same bits, wherever it was interrupted."""
    whole = copy_run("whole")
    interrupt(trainer, "parts", monkeypatch, after=after)
    parts = trainer.train("parts", *LATEST)
    assert checkpoints(parts) == checkpoints(whole)
    assert losses(parts) == losses(whole)
    assert scores(parts) == scores(whole)


@pytest.mark.slow
def test_resumed_run_with_model_dropout_equals_uninterrupted_run(
    trainer: Trainer, copy_run: CopyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run draws the dropout masks that the uninterrupted run draws."""
    trainer._settings["training.model_dropout"] = "true"
    whole = copy_run("whole", training__model_dropout="true")
    interrupt(trainer, "parts", monkeypatch, after=5)
    parts = trainer.train("parts", *LATEST)
    assert checkpoints(parts) == checkpoints(whole)
    assert losses(copy_run("without")) != losses(whole)


def test_resuming_a_finished_run_changes_nothing(trainer: Trainer, copy_run: CopyRun) -> None:
    """The checkpoints of a finished run keep their bytes."""
    output = copy_run()
    before = checkpoints(output)
    trainer.train("run", *LATEST)
    assert checkpoints(output) == before


def test_resuming_with_other_settings_is_refused(trainer: Trainer, copy_run: CopyRun) -> None:
    """The error names what differs; settings that do not change the results may differ."""
    copy_run()
    for key, message in (
        ("training__learning_rate", r"training\.learning_rate was 0\.3, is 10"),
        ("prompt_tuning__prompt_length", r"prompt_tuning\.prompt_length was 4, is 10"),
    ):
        with pytest.raises(UsageError, match=message):
            trainer.train("run", *LATEST, **{key: 10})
    trainer.train("run", *LATEST, evaluation__save_total_limit=5)


def test_resuming_on_another_model_is_refused(trainer: Trainer, tiny_t5: Path) -> None:
    """Other weights under the same name are refused, and another dtype."""
    copy = trainer.output / "model"
    shutil.copytree(tiny_t5, copy)
    settings = {"model__name": copy, "training__num_train_epochs": 1}
    trainer.train(**settings)
    with pytest.raises(UsageError, match=r"resolved\.dtype was float32, is bfloat16"):
        trainer.train("run", *LATEST, "--dtype", "bfloat16", **settings)
    model = AutoModelForSeq2SeqLM.from_pretrained(copy)
    for name, part in (
        ("decoder.block.1.layer.1.EncDecAttention.v.weight", "weights"),
        ("shared.weight", "embeddings"),
    ):
        with torch.no_grad():
            model.get_parameter(name).mul_(1.1)
        model.save_pretrained(copy)
        with pytest.raises(UsageError, match=rf"resolved\.trained_for\.{part} was"):
            trainer.train("run", *LATEST, **settings)


def test_checkpoint_without_the_weights_hash_is_resumed_from(
    trainer: Trainer, copy_run: CopyRun
) -> None:
    """Earlier versions recorded no hash of the weights; the resumed run records it."""
    output = copy_run()
    path = output / "checkpoint-10" / "training_record.json"
    record = TrainingRecord.read(path)
    weights = record.config["resolved"]["trained_for"].pop("weights")
    record.write(path)
    trainer.train("run", *LATEST)
    assert record_of(output).config["resolved"]["trained_for"]["weights"] == weights


def test_resuming_a_run_that_stopped_early_adds_no_step(trainer: Trainer) -> None:
    """The patience of a run that stopped early is recorded in its checkpoint."""
    patience = {"evaluation__early_stopping_patience": 1, "training__learning_rate": 1e-9}
    output = trainer.train(**patience)
    steps = len(losses(output))
    before = checkpoints(output)
    assert steps < 10
    trainer.train("run", *LATEST, **patience)
    assert len(losses(output)) == steps and checkpoints(output) == before


@pytest.mark.slow
def test_pruning_keeps_checkpoints_with_higher_numbers(trainer: Trainer, copy_run: CopyRun) -> None:
    """With a limit, later checkpoints of an earlier run do not replace the new ones."""
    output = copy_run(evaluation__eval_steps=2)
    stale = output / "checkpoint-99"
    shutil.copytree(output / "checkpoint-8", stale)
    words = ("--resume_from_checkpoint", str(output / "checkpoint-4"))
    limit = {"evaluation__eval_steps": 2, "evaluation__save_total_limit": 1}
    trainer.train("run", *words, **limit)
    best = record_of(output).best
    assert best is not None
    newest = "checkpoint-8" if best.checkpoint == "checkpoint-10" else "checkpoint-10"
    left = {path.name for path in output.glob("checkpoint-*")}
    assert left == {newest, best.checkpoint, stale.name}


@pytest.mark.slow
def test_resuming_without_the_folder_of_the_best_checkpoint(trainer: Trainer) -> None:
    """The run resumes if best_model is a copy of the best checkpoint, and is refused otherwise."""
    patience = {"evaluation__eval_steps": 1, "training__learning_rate": 1e-9}  # The first is best.
    output = trainer.train(**patience)
    assert record_of(output).best == record_of(output).evaluations[1]
    shutil.rmtree(output / "checkpoint-1")
    before = checkpoints(output)
    trainer.train("run", *LATEST, **patience)
    assert checkpoints(output) == before
    (output / "best_model" / PROMPT).unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint-1.*it was the best prompt then"):
        trainer.train("run", *LATEST, **patience)


def test_resuming_from_an_earlier_checkpoint(trainer: Trainer, copy_run: CopyRun) -> None:
    """A checkpoint can be given by its path; one of another folder, or none, is refused."""
    output = copy_run()
    before = checkpoints(output)
    trainer.train("run", "--resume_from_checkpoint", str(output / "checkpoint-6"))
    assert checkpoints(output) == before
    with pytest.raises(CheckpointError, match="expected a checkpoint of"):
        trainer.train("other", "--resume_from_checkpoint", str(output / "checkpoint-6"))
    with pytest.raises(CheckpointError, match="checkpoint-N"):
        trainer.train("run", "--resume_from_checkpoint", str(output))


def test_damaged_training_state_is_refused(trainer: Trainer, copy_run: CopyRun) -> None:
    """The error names a file that is truncated, has a wrong bit, or is not torch's at all."""
    output = copy_run()
    checkpoint = output / "checkpoint-10"
    state, record = checkpoint / "training_state.pt", checkpoint / "training_record.json"
    resume = ("--resume_from_checkpoint", str(checkpoint))
    whole = state.read_bytes()
    prompt = load_prompt(checkpoint / PROMPT).embeddings.numpy().tobytes()
    start = whole.index(prompt)
    flipped = whole[:start] + bytes([whole[start] ^ 1]) + whole[start + 1 :]
    state.write_bytes(flipped)
    with pytest.raises(CheckpointError, match=r"training_state\.pt: damaged, or of another"):
        trainer.train("run", *resume)
    TrainingRecord.read(record).write(record)  # As an earlier version did, without checksums.
    # The last one is a pickle that loads something that was never stored.
    for content in (whole[:100], flipped, b"", b"\x80\x02h\x05."):
        state.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"training_state\.pt: damaged \("):
            trainer.train("run", *resume)
    state.unlink()
    with pytest.raises(CheckpointError, match=r"training_state\.pt is missing"):
        trainer.train("run", *resume)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "complete"),
    [
        pytest.param("predictions_untuned.json", 0, id="before_the_first_checkpoint"),
        pytest.param("curves of checkpoint-3.", 3, id="between_checkpoints"),
        pytest.param("/.checkpoint-7.", 6, id="while_a_checkpoint_is_written"),
    ],
)
def test_killed_run_resumes_to_the_same_result(
    trainer: Trainer, copy_run: CopyRun, point: str, complete: int
) -> None:
    """After kill -9 every checkpoint is complete, and the resumed run has the same bits."""
    whole = copy_run("whole", evaluation__eval_steps=1)
    launcher = (sys.executable, "-m", "tests.prompt_tuning.killed_training", point)
    process = trainer.start("killed", launcher=launcher, evaluation__eval_steps=1)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, stderr
    killed = trainer.output / "killed"
    assert len(checkpoints(killed)) == complete + bool(complete)  # with best_model
    for folder in killed.glob("checkpoint-*"):
        torch.load(folder / "training_state.pt", weights_only=True)
        assert (folder / "training_record.json").is_file()
    trainer.train("killed", *LATEST, evaluation__eval_steps=1)
    assert checkpoints(killed) == checkpoints(whole)
    assert scores(killed) == scores(whole) and losses(killed) == losses(whole)
    assert not list(killed.glob(".*")), "left-overs of the killed run"


@pytest.mark.slow
def test_only_copy_of_the_best_prompt_is_not_replaced(trainer: Trainer, copy_run: CopyRun) -> None:
    """Resuming from before a best checkpoint that was removed is refused; best_model stays."""
    output = copy_run(evaluation__eval_steps=1)
    best = record_of(output).best
    assert best is not None and best.checkpoint not in (None, "checkpoint-1")
    shutil.rmtree(output / str(best.checkpoint))
    before = checkpoints(output)
    resume = ("--resume_from_checkpoint", str(output / "checkpoint-1"))
    with pytest.raises(UsageError, match=f"best_model: is the only copy of {best.checkpoint}"):
        trainer.train("run", *resume, evaluation__eval_steps=1)
    assert checkpoints(output) == before
