"""Sample captions with their images, and final files, for the tracker that a training reports to.

Losses and scores are logged by accelerate (prompt tuning) and by transformers' Trainer (LoRA); what
neither of them logs is added here, where the tracker can show it: tensorboard gets texts
and images, wandb a table and an artifact, mlflow artifacts, and those whose tracker of accelerate
has `log_table` or `log_images` get that. Others get nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from igrag.data.image_folder import find_files
from igrag.data.images import open_image
from igrag.errors import ImageError

SAMPLES = 8  # Captions of a validation that are reported: those of the first examples.
_LONGEST_SIDE = 256  # pixels of a reported image
_COLUMNS = ("image_id", "caption", "reference")
_CAPTIONS, _IMAGES, _ARTIFACT = "val/captions", "val/images", "igrag"
# Of accelerate's `log_images`, some take one image for each name, the others a list.
_TAKE_ONE_IMAGE = ("aim", "clearml")


@dataclass(frozen=True, slots=True)
class Sample:
    """A validation example whose captions are reported.

    Attributes:
        image_id: Its image's id, or the example's number.
        reference: One of its references.
        image: The image, where it was found.
    """

    image_id: str
    reference: str
    image: Image.Image | None = None


class Reporter(Protocol):
    """Where sample captions and final files go."""

    def captions(self, samples: Sequence[Sample], captions: Sequence[str], step: int) -> None:
        """Reports the captions of a validation, one for each sample."""

    def files(self, paths: Sequence[Path]) -> None:
        """Reports files at the end of a training."""


def choose_samples(
    image_ids: Sequence[str], references: Sequence[Sequence[str]], folder: Path | None
) -> list[Sample]:
    """Returns the first examples, with their images where the folder has them.

    Args:
        image_ids: Of the validation examples; "" is unknown.
        references: Of the same examples.
        folder: Where images are found by their ids; None for none.

    Raises:
        ImageError: The folder is missing or holds no image.
    """
    ids = list(image_ids[:SAMPLES])
    files = find_files(folder, [each for each in ids if each]) if folder is not None else {}
    return [
        Sample(str(image_id or number), texts[0], _thumbnail(files.get(image_id)))
        for number, (image_id, texts) in enumerate(zip(ids, references[:SAMPLES], strict=True))
    ]


def _thumbnail(path: Path | None) -> Image.Image | None:
    if path is None:
        return None
    try:
        image = open_image(path)
    except ImageError:  # A sample without its image is better than no training.
        return None
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    return image


def make_reporter(name: str, tracker: Any = None) -> Reporter | None:
    """Returns the reporter of a tracker; None of one that takes neither captions nor files.

    Args:
        name: Of the tracker, as in `report_to`.
        tracker: Of tensorboard, its SummaryWriter; of wandb and mlflow, whose running run is taken,
            nothing; of others, accelerate's tracker.
    """
    if name == "tensorboard":
        return TensorBoardReporter(tracker)
    if name == "wandb":
        return WandbReporter()
    if name == "mlflow":
        return MlflowReporter()
    if hasattr(tracker, "log_table") or hasattr(tracker, "log_images"):
        return AccelerateReporter(tracker)
    return None


class TensorBoardReporter:
    """Texts with a table of the captions, and the images once; event files hold no other files."""

    def __init__(self, events: Any) -> None:
        self._events = events
        self._has_images = False

    def captions(self, samples: Sequence[Sample], captions: Sequence[str], step: int) -> None:
        """Writes a text, and at the first time the images."""
        self._events.add_text(_CAPTIONS, as_markdown(samples, captions), step)
        for sample in [] if self._has_images else samples:
            if sample.image is not None:
                pixels = np.asarray(sample.image.convert("RGB"))
                tag = f"{_IMAGES}/{sample.image_id}"
                self._events.add_image(tag, pixels, step, dataformats="HWC")
        self._has_images = True
        self._events.flush()

    def files(self, paths: Sequence[Path]) -> None:
        """Does nothing."""


class WandbReporter:
    """A table of the captions with their images, and an artifact with the files."""

    def captions(self, samples: Sequence[Sample], captions: Sequence[str], step: int) -> None:
        """Logs a table."""
        import wandb

        images = [None if each.image is None else wandb.Image(each.image) for each in samples]
        rows = [
            [step, image, *row] for image, row in zip(images, _rows(samples, captions), strict=True)
        ]
        table = wandb.Table(columns=["step", "image", *_COLUMNS], data=rows)
        # Without a step: the Trainer's callback counts its own, and an earlier one is dropped.
        wandb.run.log({_CAPTIONS: table})

    def files(self, paths: Sequence[Path]) -> None:
        """Logs an artifact."""
        import wandb

        artifact = wandb.Artifact(f"{_ARTIFACT}-{wandb.run.id}", type="model")
        for path in paths:
            artifact.add_dir(str(path), name=path.name) if path.is_dir() else artifact.add_file(
                str(path)
            )
        wandb.run.log_artifact(artifact)


class MlflowReporter:
    """Artifacts of the run: a text with the captions, the images once, and the files."""

    def __init__(self) -> None:
        self._run_id: str | None = None  # Kept: the Trainer's callback ends its run before `files`.
        self._has_images = False

    def captions(self, samples: Sequence[Sample], captions: Sequence[str], step: int) -> None:
        """Logs a text, and at the first time the images."""
        client, run_id = self._client()
        text = as_markdown(samples, captions)
        client.log_text(run_id, text, f"{_CAPTIONS}/step-{step:06}.md")
        for sample in [] if self._has_images else samples:
            if sample.image is not None:
                client.log_image(run_id, sample.image, f"{_IMAGES}/{sample.image_id}.png")
        self._has_images = True

    def files(self, paths: Sequence[Path]) -> None:
        """Logs the files, those of a folder in one of its name."""
        client, run_id = self._client()
        for path in paths:
            log = client.log_artifacts if path.is_dir() else client.log_artifact
            log(run_id, str(path), path.name if path.is_dir() else None)

    def _client(self) -> tuple[Any, str]:
        import mlflow

        if self._run_id is None:
            self._run_id = mlflow.active_run().info.run_id
        return mlflow.MlflowClient(), self._run_id


class AccelerateReporter:
    """What accelerate's tracker has: a table of the captions, the images once."""

    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker
        self._has_images = False

    def captions(self, samples: Sequence[Sample], captions: Sequence[str], step: int) -> None:
        """Logs a table, and at the first time the images."""
        if hasattr(self._tracker, "log_table"):
            rows = _rows(samples, captions)
            self._tracker.log_table(_CAPTIONS, columns=list(_COLUMNS), data=rows, step=step)
        shown = [each for each in samples if each.image is not None and not self._has_images]
        if shown and hasattr(self._tracker, "log_images"):
            takes_one = self._tracker.name in _TAKE_ONE_IMAGE
            images = {f"{_IMAGES}/{each.image_id}": each.image for each in shown}
            values = images if takes_one else {name: [image] for name, image in images.items()}
            self._tracker.log_images(values, step=step)
        self._has_images = True

    def files(self, paths: Sequence[Path]) -> None:
        """Does nothing."""


def as_markdown(samples: Sequence[Sample], captions: Sequence[str]) -> str:
    """Returns a table in Markdown, a sample a line."""
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *_rows(samples, captions)]
    cells = ([str(cell).replace("|", r"\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _rows(samples: Sequence[Sample], captions: Sequence[str]) -> list[list[str]]:
    return [
        [sample.image_id, caption, sample.reference]
        for sample, caption in zip(samples, captions[: len(samples)], strict=True)
    ]
