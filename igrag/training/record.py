"""The record of a training run: every validation, every step, and what they were made with.

Prompt tuning and LoRA write the same all_results.json, so that their figures can be compared.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from igrag.errors import CheckpointError, DataError
from igrag.files import read_json, write_json

FORMAT = 1
_CHECKSUMS = "checksums"  # In a checkpoint's record alone.
_NOT_KEPT = ("format", "best", "untuned", _CHECKSUMS)  # Of the JSON; the rest are the fields.
_LONGEST_FOUND = 60  # characters of a wrong value that an error quotes


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One validation.

    Attributes:
        step: Optimizer steps made before it; 0 is the untuned model.
        epoch: The same in epochs.
        loss: Mean cross-entropy per target token, in nats.
        bleu1: COCO's BLEU-1 of the captions, from 0 to 1; bleu2 to bleu4 likewise.
        seconds: Duration of the validation itself.
        checkpoint: Name of the checkpoint saved with it ("checkpoint-40"); None at step 0.

    Raises:
        ValueError: The loss is not finite, or a BLEU is not from 0 to 1.
    """

    step: int
    epoch: float
    loss: float
    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float
    seconds: float
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        _check_finite(self)
        for name in ("bleu1", "bleu2", "bleu3", "bleu4"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name} at step {self.step} is {value}, expected 0 to 1")


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """One optimizer step.

    Attributes:
        step: Optimizer steps made, this one included.
        epoch: The same in epochs.
        loss: Mean cross-entropy per target token of the global batch, in nats.
        learning_rate: Learning rate of the step.
        grad_norm: L2 norm of the gradient before clipping; None if it was not measured.
        seconds: Training time so far, resumed runs included.

    Raises:
        ValueError: A figure is not finite.
    """

    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float | None
    seconds: float

    def __post_init__(self) -> None:
        _check_finite(self)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The trained model's name and size.

    Attributes:
        name: Folder or hub id of the base model.
        total_parameters: Number of parameters, those of the prompt or adapter included.
        trainable_parameters: Number of those that are trained.
        size_bytes: Size of the trained part on disk; None if unknown.
    """

    name: str
    total_parameters: int
    trainable_parameters: int
    size_bytes: int | None = None

    @property
    def trainable_percent(self) -> float:
        """The trained share of all parameters, from 0 to 100."""
        return 100 * self.trainable_parameters / self.total_parameters

    def describe_parameters(self) -> str:
        """Returns the counts as PEFT prints them: "trainable params: 100 / 4,000 (2.5000%)"."""
        return (
            f"trainable params: {self.trainable_parameters:,} / {self.total_parameters:,} "
            f"({self.trainable_percent:.4f}%)"
        )


@dataclass
class TrainingRecord:
    """The course of a training run so far.

    Attributes:
        method: What was trained.
        config: The settings, as plain JSON data.
        versions: Library -> version, see `library_versions`.
        model: The trained model.
        data: Sizes and hashes of the data files, see `describe_data`.
        evaluations: All validations, in order; the untuned model's comes first.
        history: All steps, in order.
        training_seconds: Training time, resumed runs included.
        best_folder: Folder of the copy of the best checkpoint, relative to the record's own.
    """

    method: Literal["prompt_tuning", "lora"]
    config: dict[str, Any]
    versions: dict[str, str]
    model: ModelFacts
    data: dict[str, Any]
    evaluations: list[Evaluation] = field(default_factory=list)
    history: list[TrainingStep] = field(default_factory=list)
    training_seconds: float = 0.0
    best_folder: str = "best_model"

    @property
    def best(self) -> Evaluation | None:
        """The validation of the best checkpoint; None before the first one.

        It is the one of the highest BLEU-4; the lower validation loss, and then the earlier step,
        decide between equal ones. Both count in the four digits that tables show, beyond which
        differences are noise.
        """
        saved = [evaluation for evaluation in self.evaluations if evaluation.checkpoint]
        return min(
            saved,
            key=lambda found: (-round(found.bleu4, 4), round(found.loss, 4), found.step),
            default=None,
        )

    @property
    def untuned(self) -> Evaluation | None:
        """The validation before the first step; None where there was none."""
        return next((found for found in self.evaluations if found.step == 0), None)

    @property
    def gain(self) -> float | None:
        """The BLEU-4 of the best checkpoint minus the untuned model's; None without both.

        In four digits, as tables show it: captions without any common word differ by less.
        """
        best, untuned = self.best, self.untuned
        return round(best.bleu4 - untuned.bleu4, 4) + 0.0 if best and untuned else None

    def to_json(self) -> dict[str, Any]:
        """Returns the record as plain JSON data.

        Derived values (best, untuned, trainable_percent) are included for the reader.
        """
        best, untuned = self.best, self.untuned
        return {
            "format": FORMAT,
            "method": self.method,
            "config": self.config,
            "versions": self.versions,
            "model": {**asdict(self.model), "trainable_percent": self.model.trainable_percent},
            "data": self.data,
            "best_folder": self.best_folder,
            "best": best and {**asdict(best), "folder": self.best_folder},
            "untuned": untuned and asdict(untuned),
            "evaluations": [asdict(evaluation) for evaluation in self.evaluations],
            "history": [asdict(step) for step in self.history],
            "training_seconds": self.training_seconds,
        }

    @classmethod
    def from_json(cls, content: object, *, path: Path) -> "TrainingRecord":
        """Reads what `to_json` returned; derived values are computed again.

        Args:
            content: Plain JSON data.
            path: The file it comes from, for the error message.

        Raises:
            CheckpointError: It is of another format, or a key is missing, unknown or wrong.
        """
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = {"format": content.get("format")} if isinstance(content, dict) else content
            raise CheckpointError(
                f"{path}: found {_shorten(found)}, expected a training record of format {FORMAT}"
            )
        kept = {key: content[key] for key in content if key not in _NOT_KEPT}
        if isinstance(model := kept.get("model"), dict):
            kept["model"] = {key: model[key] for key in model if key != "trainable_percent"}
        try:
            # As JSON text: strict validation of Python objects would expect the dataclasses.
            return _ADAPTER.validate_json(json.dumps(kept), strict=True, extra="forbid")
        except ValidationError as error:
            raise CheckpointError(f"{path}: {_explain(error)}") from None

    def write(self, path: Path, *, checksums: Mapping[str, str] | None = None) -> None:
        """Writes the record as JSON, atomically.

        Args:
            path: The file.
            checksums: Name -> SHA-256 of the files next to it that belong to it.

        Raises:
            ValueError: The config or the data are not plain JSON data (a path, infinity).
        """
        sums = {} if checksums is None else {_CHECKSUMS: dict(checksums)}
        try:
            write_json(path, self.to_json() | sums)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: the record is not plain JSON data: {error}") from error

    @classmethod
    def read(cls, path: Path) -> "TrainingRecord":
        """Reads a record from a file.

        Raises:
            CheckpointError: The file is missing, damaged, or not a record.
        """
        try:
            content = read_json(path)
        except DataError as error:
            raise CheckpointError(str(error)) from None
        return cls.from_json(content, path=path)


def read_checksums(path: Path) -> dict[str, str]:
    """Reads the checksums of a record that can be read; none of an earlier version's."""
    found = read_json(path).get(_CHECKSUMS)
    return found if isinstance(found, dict) else {}


_ADAPTER = TypeAdapter(TrainingRecord)


def flat_settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, int | float | str]:
    """Returns settings as trackers and tables take them: "section.key" -> a number or a text."""
    flat: dict[str, int | float | str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flat_settings(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, int | float | str) else str(value)
    return flat


def _check_finite(figures: Evaluation | TrainingStep) -> None:
    # JSON has no NaN; checked here, the error names the step and not the file.
    for name, value in asdict(figures).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} at step {figures.step} is {value}, expected a finite number")


def _explain(error: ValidationError) -> str:
    """Returns where the first error is, what was found there and what was expected."""
    problem = error.errors(include_url=False)[0]
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
    where = "".join(parts).removeprefix(".")
    if problem["type"] == "missing":
        return f"{where} is missing; the file is damaged or was changed by hand"
    if problem["type"] == "unexpected_keyword_argument":
        return f"{where} is unknown; the file was changed by hand"
    if problem["type"] == "value_error":  # raised by a __post_init__ of this file
        return f"{where}: {problem['ctx']['error']}"
    expected = problem["msg"].removeprefix("Input should be ")
    return f"{where}: found {_shorten(problem['input'])}, expected {expected}"


def _shorten(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_FOUND else f"{text[:_LONGEST_FOUND]}..."
