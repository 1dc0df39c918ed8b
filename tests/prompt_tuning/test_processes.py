"""Two processes train as one does."""

import sys

import pytest

from tests.prompt_tuning.training import Trainer, losses, record_of

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


@pytest.mark.slow
def test_two_processes_train_as_one(trainer: Trainer) -> None:
    """The same global batches give the same losses, BLEU and prompt."""
    two = trainer.start("two", launcher=TORCHRUN, training__gradient_accumulation_steps=1)
    one = trainer.start("one", training__gradient_accumulation_steps=2)
    for process in (one, two):
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
    outputs = [trainer.output / name for name in ("one", "two")]
    assert losses(outputs[0]) == pytest.approx(losses(outputs[1]), abs=1e-5)
    first, second = (record_of(output) for output in outputs)
    for alone, shared in zip(first.evaluations, second.evaluations, strict=True):
        assert alone.loss == pytest.approx(shared.loss, abs=1e-5)
        assert alone.bleu4 == shared.bleu4
    assert sorted(path.name for path in outputs[0].iterdir()) == sorted(
        path.name for path in outputs[1].iterdir()
    )
