"""LoRA training that is interrupted and resumed equals an uninterrupted run."""

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from igrag.errors import CheckpointError, UsageError
from igrag.training.record import TrainingRecord
from lora_training.checkpoints import AdapterFolder
from lora_training.train_lora import main, parse_arguments
from lora_training.trainer import AdapterTrainer
from tests.finished_runs import CopyRun
from tests.lora_training.training import WEIGHTS, Trainer, adapters, losses, record_of
from tests.tiny import WORDS, save_t5

LATEST = ("--resume_from_checkpoint", "latest")


def make_best(output: Path, step: int) -> None:
    """Makes a checkpoint the best of a run, by its records and the best folder."""
    for path in output.rglob("*.json"):
        if path.name in ("training_record.json", "all_results.json"):
            record = TrainingRecord.read(path)
            record.evaluations = [
                replace(found, bleu4=0.9) if found.step == step else found
                for found in record.evaluations
            ]
            record.write(path)
    shutil.copytree(output / f"checkpoint-{step}", output / "best", dirs_exist_ok=True)


@pytest.mark.parametrize(
    ("after", "eval_steps"),
    [
        pytest.param(9, 3, id="mid_epoch"),
        pytest.param(14, "null", id="end_of_epoch", marks=pytest.mark.slow),
        pytest.param(3, 3, id="before_the_first_checkpoint", marks=pytest.mark.slow),
        pytest.param(15, 3, id="second_epoch", marks=pytest.mark.slow),
    ],
)
def test_resumed_lora_training_equals_uninterrupted(
    trainer: Trainer,
    copy_run: CopyRun,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    eval_steps: object,
) -> None:
    """A resumed run has the same bits, dropout included, wherever it was interrupted."""
    whole = copy_run("whole", training__eval_steps=eval_steps)
    trainer.interrupt("parts", monkeypatch, after=after, training__eval_steps=eval_steps)
    parts = trainer.train("parts", *LATEST, training__eval_steps=eval_steps)
    assert adapters(parts) == adapters(whole)
    assert losses(parts) == losses(whole)
    scores = [[(e.step, e.loss, e.bleu4) for e in record_of(o).evaluations] for o in (whole, parts)]
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_resuming_with_another_base_model_is_refused(trainer: Trainer, tiny_t5: Path) -> None:
    """Other weights in the folder of the same name are another base model, and nothing is lost."""
    trainer.model = Path(shutil.copytree(tiny_t5, trainer.output / "t5"))
    settings = {"model__name": trainer.model, "training__num_train_epochs": 1}
    before = adapters(output := trainer.train(**settings))
    save_t5(trainer.model, words=WORDS.split(), seed=1)
    with pytest.raises(CheckpointError, match=r"checkpoint-5: was trained on .*weights"):
        trainer.train("run", *LATEST, **settings)
    assert adapters(output) == before


@pytest.mark.slow
def test_incomplete_checkpoint_is_skipped_on_resume(trainer: Trainer, copy_run: CopyRun) -> None:
    """A checkpoint whose saving was interrupted is not resumed from, but saved again."""
    whole = adapters(copy_run())
    incomplete = trainer.output / "run" / "checkpoint-10"
    (incomplete / "training_record.json").unlink()
    (incomplete / WEIGHTS).write_bytes(b"half")
    assert adapters(trainer.train("run", *LATEST)) == whole


@pytest.mark.slow
def test_resuming_a_finished_run_changes_nothing(trainer: Trainer) -> None:
    """The adapters and the record of a finished run keep their bytes."""
    output = trainer.train()
    before, record = adapters(output), (output / "all_results.json").read_bytes()
    trainer.train("run", *LATEST)
    assert adapters(output) == before
    assert (output / "all_results.json").read_bytes() == record


@pytest.mark.parametrize("resume", [LATEST, ()], ids=["resumed", "new_run"])
def test_best_without_checkpoints_is_not_overwritten(
    trainer: Trainer, copy_run: CopyRun, resume: tuple[str, ...]
) -> None:
    """If only best is left, no run can resume, and no new one starts over it."""
    output = copy_run()
    for checkpoint in output.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    before = {path.name: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    elsewhere = trainer.output / "data"
    words = trainer.words(output, "--all", *resume)
    with pytest.raises(UsageError, match=r"\(best\); without a complete checkpoint") as refusal:
        main(parse_arguments([*words, "--output_data", str(elsewhere)]))
    assert "latest" not in str(refusal.value)
    assert not elsewhere.exists()
    assert {path.name: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_resuming_with_other_settings_or_data_is_refused(
    trainer: Trainer, copy_run: CopyRun
) -> None:
    """Differences are named; settings that do not change what is computed may differ."""
    copy_run()
    with pytest.raises(UsageError, match=r"training\.learning_rate was 0\.01, is 0\.1"):
        trainer.train("run", *LATEST, training__learning_rate=0.1)
    with pytest.raises(UsageError, match=r"lora\.r was 4, is 8"):
        trainer.train("run", *LATEST, lora__r=8)
    trainer.train("run", *LATEST, training__save_total_limit=5)
    with (trainer.data / "train.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"prompt": "a dog", "caption": "a cat"}) + "\n")
    with pytest.raises(UsageError, match="other data: train_examples was 37, is 38"):
        trainer.train("run", *LATEST)


def test_resuming_in_another_precision_is_refused(trainer: Trainer, copy_run: CopyRun) -> None:
    """The precision that was resolved on this machine is recorded, and compared."""
    output = copy_run()
    with pytest.raises(UsageError, match=r"precision\.dtype was float32, is bfloat16"):
        trainer.train("run", *LATEST, "--dtype", "bfloat16")
    with pytest.raises(UsageError, match=r"precision\.mixed_precision was fp32, is bf16"):
        trainer.train("run", *LATEST, training__mixed_precision="bf16")
    assert record_of(output).config["precision"] == {
        "dtype": "float32",
        "attn_implementation": "eager",
        "mixed_precision": "fp32",
    }


@pytest.mark.slow
def test_run_of_an_earlier_version_keeps_its_dropout(
    trainer: Trainer, copy_run: CopyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its record has no model_dropout: the frozen model always dropped out, which a note says."""
    output = copy_run(training__model_dropout="true")
    before, without = adapters(output), adapters(copy_run("without"))
    for path in output.rglob("training_record.json"):
        record = json.loads(path.read_text("utf-8"))
        del record["config"]["training"]["model_dropout"]
        path.write_text(json.dumps(record), "utf-8")
    trainer.train("run", "--resume_from_checkpoint", str(output / "checkpoint-6"))
    assert adapters(output) == before != without
    assert "earlier version" in capsys.readouterr().err


def test_resume_from_the_path_of_a_checkpoint(trainer: Trainer, copy_run: CopyRun) -> None:
    """An earlier checkpoint can be given; one of another folder, or none, is refused."""
    output = copy_run()
    before = adapters(output)
    resume = ("--resume_from_checkpoint", str(output / "checkpoint-6"))
    trainer.train("run", *resume)
    assert adapters(output) == before
    with pytest.raises(CheckpointError, match="expected a checkpoint of"):
        trainer.train("other", *resume)
    with pytest.raises(CheckpointError, match="checkpoint-N"):
        trainer.train("run", "--resume_from_checkpoint", str(output))


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, "null"])
def test_resume_without_the_best_checkpoints_folder(
    trainer: Trainer, copy_run: CopyRun, limit: object
) -> None:
    """Without its folder training ends the same; without best too it is refused.

    A best folder that is the only copy of a later checkpoint is not replaced.
    """
    settings = {"training__eval_steps": 2, "training__save_total_limit": limit}
    output = copy_run(training__eval_steps=2)
    make_best(output, 4)
    before = adapters(output)
    assert before["best"] != before["checkpoint-10"]
    shutil.rmtree(output / "checkpoint-4")
    with pytest.raises(UsageError, match=r"best: is the only copy of checkpoint-4, .*checkpoint-2"):
        path = str(output / "checkpoint-2")
        trainer.train("run", "--resume_from_checkpoint", path, **settings)
    assert adapters(output)["best"] == before["best"]
    (output / "checkpoint-10" / "training_record.json").unlink()
    trainer.train("run", *LATEST, **settings)
    best = record_of(output).best
    assert best is not None and best.checkpoint == "checkpoint-4"
    assert [adapters(output)[name] for name in ("best", "checkpoint-10")] == [
        before[name] for name in ("best", "checkpoint-10")
    ]
    shutil.rmtree(output / "best")
    with pytest.raises(CheckpointError, match="checkpoint-4: is gone, and best is no copy"):
        trainer.train("run", *LATEST, **settings)


@pytest.mark.slow
def test_resume_from_an_earlier_checkpoint_leaves_no_mixture(
    trainer: Trainer,
    copy_run: CopyRun,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Later checkpoints no longer count, even if overwriting them is interrupted."""
    output = copy_run()
    before = adapters(output)
    resume = ("--resume_from_checkpoint", str(output / "checkpoint-3"))

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AdapterTrainer, "_save_optimizer_and_scheduler", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.train("run", *resume)
    warning = capfd.readouterr().err
    assert "resumes from checkpoint-3; checkpoint-6, checkpoint-9, checkpoint-10 will be" in warning
    assert {**adapters(output), "best": b""} == {**before, "best": b""}  # best is checkpoint-3's.
    for name in ("checkpoint-6", "checkpoint-9"):
        assert (output / name / "superseded_record.json").is_file()
    assert AdapterFolder(output).find("latest") == output / "checkpoint-3"
    trainer.train("run", *LATEST)
    assert adapters(output) == before
    assert len(AdapterFolder(output).checkpoints()) == 4
    assert not list(output.rglob("superseded_record.json"))


@pytest.mark.slow
def test_resume_from_an_earlier_checkpoint_prunes_no_later_one(copy_run: CopyRun) -> None:
    """Later checkpoints of an earlier run do not count as newer than the one just saved."""
    output = copy_run(training__eval_steps=2)
    make_best(output, 2)
    record = TrainingRecord.read(output / "checkpoint-6" / "training_record.json")
    AdapterFolder(output, save_total_limit=1).prune(record)
    steps = sorted(int(path.name.partition("-")[2]) for path in output.glob("checkpoint-*"))
    assert steps == [2, 6, 8, 10]


def without_checksums(checkpoint: Path) -> None:
    """Makes a checkpoint's record like that of an earlier version."""
    path = checkpoint / "training_record.json"
    TrainingRecord.read(path).write(path)


@pytest.mark.parametrize("name", [WEIGHTS, "optimizer.pt", "rng_state.pth", "trainer_state.json"])
def test_damaged_checkpoint_is_refused(trainer: Trainer, copy_run: CopyRun, name: str) -> None:
    """A truncated or missing file is named, although the library would continue without it."""
    checkpoint = copy_run() / "checkpoint-10"
    file, resume = checkpoint / name, ("--resume_from_checkpoint", str(checkpoint))
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(CheckpointError, match=f"{name}: damaged, or of another checkpoint"):
        trainer.train("run", *resume)
    without_checksums(checkpoint)
    with pytest.raises(CheckpointError, match=rf"{name}: damaged \("):
        trainer.train("run", *resume)
    file.unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        trainer.train("run", *resume)


class MakesFolder:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._folder),)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_code_in_a_checkpoint_is_not_run(trainer: Trainer, copy_run: CopyRun, name: str) -> None:
    """A state file with pickled code is refused, and the code is not run."""
    folder, checkpoint = trainer.output / "folder", copy_run() / "checkpoint-10"
    without_checksums(checkpoint)
    (checkpoint / name).write_bytes(pickle.dumps(MakesFolder(folder)))
    with pytest.raises(CheckpointError, match=f"{name}: damaged"):
        trainer.train("run", "--resume_from_checkpoint", str(checkpoint))
    assert not folder.exists()
