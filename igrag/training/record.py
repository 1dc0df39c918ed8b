"""What a training leaves on record: every validation, every step, and what they were made with.

Prompt tuning and LoRA write the same all_results.json from here, so that their figures can be laid
side by side.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from igrag.errors import CheckpointError, DataError
from igrag.files import read_json, write_json

FORMAT = 1
_LONGEST_FOUND = 60  # characters of a wrong value that an error quotes


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One validation.

    Attributes:
        step: Optimizer steps made before it; 0 is the untuned model.
        epoch: The same in epochs.
        loss: Mean cross-entropy of a target token, in nats.
        bleu1: COCO's BLEU-1 of the captions, from 0 to 1; bleu2 to bleu4 likewise.
        seconds: What the validation itself took.
        checkpoint: The folder that was written with it ("checkpoint-40"); None at step 0.

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
        loss: Mean cross-entropy of the step's target tokens, in nats.
        learning_rate: What the step was made with.
        grad_norm: Of the gradient before it was clipped; None where nobody measured it.
        seconds: Since training began, over all runs.

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
    """What was trained.

    Attributes:
        name: Folder or hub id of the base model.
        total_parameters: Of the model with what was added to it.
        trainable_parameters: Those of them that were trained.
        size_bytes: What the trained part takes on disk; None where it is not known.
    """

    name: str
    total_parameters: int
    trainable_parameters: int
    size_bytes: int | None = None

    @property
    def trainable_percent(self) -> float:
        """The trained share of all parameters, from 0 to 100."""
        return 100 * self.trainable_parameters / self.total_parameters


@dataclass
class TrainingRecord:
    """The course of a training so far.

    Attributes:
        method: How it was trained.
        config: The settings, as plain JSON data.
        versions: Library -> version, see `library_versions`.
        model: What was trained.
        data: What it was trained on, as plain JSON data.
        evaluations: All validations, in order; the untuned model's comes first.
        history: All steps, in order.
        training_seconds: Over all runs.
        best_folder: Where a copy of the best checkpoint lies, from the record's own folder.
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
        """The checkpoint of the highest BLEU-4, of equal ones the earliest; None before any."""
        saved = [evaluation for evaluation in self.evaluations if evaluation.checkpoint]
        return max(saved, key=lambda found: (found.bleu4, -found.step), default=None)

    @property
    def untuned(self) -> Evaluation | None:
        """The validation before the first step; None where there was none."""
        return next((found for found in self.evaluations if found.step == 0), None)

    @property
    def gain(self) -> float | None:
        """What the best checkpoint has more in BLEU-4 than the untuned model; None before both.

        In four digits, as tables show it: captions without any common word differ by less.
        """
        best, untuned = self.best, self.untuned
        return round(best.bleu4 - untuned.bleu4, 4) + 0.0 if best and untuned else None

    def to_json(self) -> dict[str, Any]:
        """Returns the record as plain JSON data.

        What follows from the rest (best, untuned, trainable_percent) is there for the reader.
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
        """Reads what `to_json` returned; what follows from the rest is worked out again.

        Args:
            content: Plain JSON data.
            path: The file it comes from, for the error.

        Raises:
            CheckpointError: It is of another format, or a key is missing, unknown or wrong.
        """
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = {"format": content.get("format")} if isinstance(content, dict) else content
            raise CheckpointError(
                f"{path}: found {_shorten(found)}, expected a training record of format {FORMAT}"
            )
        kept = {key: content[key] for key in content if key not in ("format", "best", "untuned")}
        if isinstance(model := kept.get("model"), dict):
            kept["model"] = {key: model[key] for key in model if key != "trainable_percent"}
        try:
            # As JSON text: of Python objects, strict checking would want the dataclasses.
            return _ADAPTER.validate_json(json.dumps(kept), strict=True, extra="forbid")
        except ValidationError as error:
            raise CheckpointError(f"{path}: {_explain(error)}") from None

    def write(self, path: Path) -> None:
        """Writes the record as JSON, atomically.

        Raises:
            ValueError: The config or the data hold what is not JSON (a path, infinity).
        """
        try:
            write_json(path, self.to_json())
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: the record is not plain JSON data: {error}") from error

    @classmethod
    def read(cls, path: Path) -> "TrainingRecord":
        """Reads what `write` wrote.

        Raises:
            CheckpointError: The file is missing, damaged, or not a record.
        """
        try:
            content = read_json(path)
        except DataError as error:
            raise CheckpointError(str(error)) from None
        return cls.from_json(content, path=path)


_ADAPTER = TypeAdapter(TrainingRecord)


def _check_finite(figures: Evaluation | TrainingStep) -> None:
    # JSON has no NaN. Found here, it is the step's fault and not that of the file.
    for name, value in asdict(figures).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} at step {figures.step} is {value}, expected a finite number")


def _explain(error: ValidationError) -> str:
    """Says of the first thing that is wrong where it is, what was found and expected."""
    problem = error.errors(include_url=False)[0]
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
    where = "".join(parts).removeprefix(".")
    if problem["type"] == "missing":
        return f"{where} is missing; the file is damaged or was changed by hand"
    if problem["type"] == "unexpected_keyword_argument":
        return f"{where} is unknown; the file was changed by hand"
    if problem["type"] == "value_error":  # of a __post_init__ here, which says it all
        return f"{where}: {problem['ctx']['error']}"
    expected = problem["msg"].removeprefix("Input should be ")
    return f"{where}: found {_shorten(problem['input'])}, expected {expected}"


def _shorten(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_FOUND else f"{text[:_LONGEST_FOUND]}..."
