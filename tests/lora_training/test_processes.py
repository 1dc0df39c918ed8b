"""Several processes train an adapter as one does."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from igrag.data.batching import LengthGroupedBatches
from igrag.training.record import TrainingRecord
from lora_training.trainer import SharedBatches
from tests.launchers import TORCHRUN, accelerate_launch
from tests.lora_training.training import WEIGHTS, Trainer, losses, record_of

# 37 examples are 13 micro-batches of 3: one process has none in the last step of an epoch. 10
# validation examples are 3 batches of 4.
SIZE = {"training__per_device_train_batch_size": 3}
ONE = {**SIZE, "training__gradient_accumulation_steps": 2}
TWO = {**SIZE, "training__gradient_accumulation_steps": 1}


def finish(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """Waits for a training that succeeds; returns what it printed."""
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return stdout, stderr


def assert_equal(first: Path, second: Path) -> None:
    """Compares two runs: losses, validations, files, and the adapters up to rounding."""
    assert losses(first) == pytest.approx(losses(second), abs=1e-5)
    scores = [record_of(output).evaluations for output in (first, second)]
    for one, other in zip(*scores, strict=True):
        assert (one.step, one.bleu4, one.checkpoint) == (other.step, other.bleu4, other.checkpoint)
        assert one.loss == pytest.approx(other.loss, abs=1e-5)
    names = [sorted(str(path.relative_to(output)) for path in output.rglob("*"))
             for output in (first, second)]  # fmt: skip
    assert names[0] == names[1]
    adapters = [load_file(output / "best" / WEIGHTS) for output in (first, second)]
    for name, tensor in adapters[0].items():
        torch.testing.assert_close(tensor, adapters[1][name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("real_curves")
def test_two_processes_train_the_adapter_that_one_trains(exact: Trainer) -> None:
    """The same global batches give the same losses, scores, files and weights, resumed or not."""
    two = exact.start("two", launcher=TORCHRUN, **TWO)
    one = exact.train("one", **ONE)
    stdout, _ = finish(two)
    output = exact.output / "two"
    assert_equal(one, output)
    assert "on cpu, 2 processes" in stdout and stdout.count("best:") == 1

    def resume(name: str, original: Path) -> tuple[str, str]:
        copy = shutil.copytree(original, exact.output / name)
        return ("--resume_from_checkpoint", str(copy / "checkpoint-9"))  # Within an epoch.

    process = exact.start("to_two", *resume("to_two", one), launcher=accelerate_launch(2), **TWO)
    exact.train("to_one", *resume("to_one", output), **ONE)
    finish(process)
    for name in ("to_one", "to_two"):
        assert_equal(one, exact.output / name)


def test_every_process_has_a_share_of_each_global_batch() -> None:
    """Dealt out in turn they are the batches of one process; an empty one fills the last turn."""
    lengths = [(7 * number) % 11 + 1 for number in range(37)]
    whole = list(LengthGroupedBatches(lengths, lengths, batch_size=3, seed=5))
    for processes in (1, 2, 3, 5):
        shares = [
            SharedBatches(lengths, lengths, batch_size=3, seed=5, rank=rank, processes=processes)
            for rank in range(processes)
        ]
        turns = [*zip(*shares, strict=True)]
        assert {len(share) for share in shares} == {len(turns)}
        dealt = [batch for turn in turns for batch in turn]
        assert dealt[: len(whole)] == whole
        assert dealt[len(whole) :] == [[]] * (processes * len(turns) - len(whole))


def test_other_number_of_processes_with_other_global_batches_is_refused(
    trainer: Trainer,
) -> None:
    """Two processes of two micro-batches are no resume of one process of two."""
    from igrag.errors import UsageError
    from lora_training.setup import resume_record

    output = trainer.train(training__num_train_epochs=1)
    checkpoint = output / "checkpoint-5"
    new = TrainingRecord.read(output / "all_results.json")
    new.config = {**new.config, "processes": 2}
    with pytest.raises(UsageError, match=r"gradient_accumulation_steps was 2, is 4"):
        resume_record(new, checkpoint)
    new.config["training"] = {**new.config["training"], "gradient_accumulation_steps": 1}
    assert resume_record(new, checkpoint).config["processes"] == 2
