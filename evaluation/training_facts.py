"""The cost of a method, from the record of its training and from its files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from igrag.training.checkpoints import find_record
from igrag.training.record import TrainingRecord

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """The cost of a method; None where no record has it.

    Attributes:
        trainable_parameters: Number of trained parameters.
        total_parameters: Parameters of the model including what was added to it.
        training_seconds: Time up to the last optimizer step, over all runs, including the
            validations in between, but not the one after the last step.
        size_bytes: Size of what is loaded in addition to the model.
    """

    trainable_parameters: int | None = None
    total_parameters: int | None = None
    training_seconds: float | None = None
    size_bytes: int | None = None

    @property
    def trainable_percent(self) -> float | None:
        """The trained share of all parameters, from 0 to 100."""
        if self.trainable_parameters == 0:
            return 0.0
        if self.trainable_parameters is None or not self.total_parameters:
            return None
        return 100 * self.trainable_parameters / self.total_parameters


NOTHING_TRAINED = TrainingFacts(trainable_parameters=0, training_seconds=0.0, size_bytes=0)


def prompt_facts(path: Path) -> TrainingFacts:
    """Returns the cost of a soft prompt, from its file in best_model or checkpoint-N.

    Raises:
        CheckpointError: The training's all_results.json is damaged.
    """
    return _facts(path.parent, method="prompt_tuning", size=path.stat().st_size)


def adapter_facts(path: Path) -> TrainingFacts:
    """Returns the cost of a LoRA adapter, from its folder: best or checkpoint-N.

    Raises:
        CheckpointError: The training's all_results.json is damaged.
    """
    from igrag.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS

    files = (path / ADAPTER_CONFIG, path / ADAPTER_WEIGHTS)
    size = sum(file.stat().st_size for file in files if file.is_file())
    return _facts(path, method="lora", size=size)


def both_facts(first: TrainingFacts, second: TrainingFacts) -> TrainingFacts:
    """Returns the cost of two that are used together, added up.

    Args:
        first: That of an adapter or a soft prompt.
        second: That of the soft prompt that was trained on the adapter, or of another one.
    """
    return TrainingFacts(
        trainable_parameters=_sum(first.trainable_parameters, second.trainable_parameters),
        # The first one's record includes the model already.
        total_parameters=_sum(first.total_parameters, second.trainable_parameters),
        training_seconds=_sum(first.training_seconds, second.training_seconds),
        size_bytes=_sum(first.size_bytes, second.size_bytes),
    )


def _facts(folder: Path, *, method: str, size: int) -> TrainingFacts:
    record = find_record(folder, method)
    if record is None:
        return TrainingFacts(size_bytes=size)
    return TrainingFacts(
        trainable_parameters=record.model.trainable_parameters,
        total_parameters=record.model.total_parameters,
        training_seconds=_seconds(record, folder.name),
        size_bytes=size,
    )


def _seconds(record: TrainingRecord, name: str) -> float | None:
    """Returns the time of the training, for a checkpoint up to its step."""
    if name == record.best_folder:
        return record.training_seconds
    step = next(found.step for found in record.evaluations if found.checkpoint == name)
    return next((each.seconds for each in record.history if each.step == step), None)


def _sum(first: _Number | None, second: _Number | None) -> _Number | None:
    return None if first is None or second is None else first + second
