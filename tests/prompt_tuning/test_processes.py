"""Two processes train as one does."""

import pytest

from igrag.errors import ConfigError, UsageError
from prompt_tuning.sharding import check_sharding
from tests.launchers import TORCHRUN, two_nodes
from tests.prompt_tuning.training import Trainer, losses, record_of


@pytest.mark.slow
def test_processes_that_share_the_weights_train_as_one_that_has_them(trainer: Trainer) -> None:
    """A sharded model gives the same losses and scores, also where batches do not go round."""
    size = {"training__per_device_train_batch_size": 3}
    two = trainer.start(
        "two", launcher=TORCHRUN, training__shard_model="true",
        training__gradient_accumulation_steps=1, **size,
    )  # fmt: skip
    one = trainer.train("one", training__gradient_accumulation_steps=2, **size)
    _, stderr = two.communicate(timeout=300)
    assert two.returncode == 0, stderr
    sharded = trainer.output / "two"
    assert losses(one) == pytest.approx(losses(sharded), abs=1e-5)
    for alone, shared in zip(
        record_of(one).evaluations, record_of(sharded).evaluations, strict=True
    ):
        assert alone.loss == pytest.approx(shared.loss, abs=1e-5)
        assert alone.bleu4 == shared.bleu4


def test_sharding_needs_several_processes_and_a_batch_size(trainer: Trainer) -> None:
    """One process has nothing to share the model with; it does not try out batch sizes alone."""
    with pytest.raises(UsageError, match="start them with torchrun"):
        trainer.train(training__shard_model="true")
    with pytest.raises(ConfigError, match=r"found .*auto, expected a number"):
        check_sharding(2, "auto")


@pytest.mark.slow
def test_two_machines_train_as_one_process(trainer: Trainer) -> None:
    """The same global batches give the same losses, BLEU and prompt."""
    two = [
        trainer.start("two", launcher=launcher, training__gradient_accumulation_steps=1)
        for launcher in two_nodes()
    ]
    one = trainer.train("one", training__gradient_accumulation_steps=2)
    for process in two:
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
    outputs = [one, trainer.output / "two"]
    assert losses(outputs[0]) == pytest.approx(losses(outputs[1]), abs=1e-5)
    first, second = (record_of(output) for output in outputs)
    for alone, shared in zip(first.evaluations, second.evaluations, strict=True):
        assert alone.loss == pytest.approx(shared.loss, abs=1e-5)
        assert alone.bleu4 == shared.bleu4
    assert sorted(path.name for path in outputs[0].iterdir()) == sorted(
        path.name for path in outputs[1].iterdir()
    )
