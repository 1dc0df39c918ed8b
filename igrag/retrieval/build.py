"""Builds a knowledge base from a COCO captions file and its images, in batches, resumably."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from igrag.data.coco import CaptionedImage, read_captions
from igrag.data.images import SUFFIXES, file_in
from igrag.errors import KnowledgeBaseError
from igrag.files import exists, naming_full_disk, remove_leftovers, sha256_file
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.image_loader import read_images, report_killed_workers
from igrag.retrieval.knowledge_base import KnowledgeBase, SkippedImage
from igrag.retrieval.partial_vectors import PartialVectors
from igrag.retrieval.storage import check_output_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What to encode, and where it goes.

    Attributes:
        captions: COCO captions file.
        images: Folder that its file names count from.
        output: Folder to make.
        force: Replace an existing knowledge base.
        limit: Only so many images of the file were taken, the first; None for all.
        split: The split that they are from, where the file has some.
        keep_rejected: Whether captions that were rejected were kept.
        captions_sha256: The file's hash.
        entries: The images to be encoded, in this order.
        without_captions: Images of the file that have none.
        uncaptioned: Names of images in the folder that the file does not list.
    """

    captions: Path
    images: Path
    output: Path
    force: bool
    limit: int | None
    split: str | None
    keep_rejected: bool
    captions_sha256: str
    entries: list[CaptionedImage]
    without_captions: tuple[SkippedImage, ...]
    uncaptioned: tuple[str, ...]

    @property
    def inputs(self) -> dict[str, Any]:
        """What decides which images are encoded in which order, as JSON data."""
        found: dict[str, Any] = {
            "captions_sha256": self.captions_sha256,
            "images": str(self.images.resolve()),
            "limit": self.limit,
        }
        # Added later: an interrupted build of an earlier version has neither.
        optional = {"split": self.split, "keep_rejected": self.keep_rejected}
        return found | {key: value for key, value in optional.items() if value}

    @property
    def source(self) -> dict[str, Any]:
        """The same for a folder that may be passed on: no path of this machine is in it."""
        names = {"captions": self.captions.name, "images": self.images.resolve().name}
        return self.inputs | names


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.

    Attributes:
        count: Images in the knowledge base, N.
        dimension: Length of their vectors, D.
        skipped: Images of the captions file that are not in it.
        uncaptioned: Names of images in the folder that the captions file does not list.
        resumed: How many images an interrupted build had already dealt with.
    """

    count: int
    dimension: int
    skipped: tuple[SkippedImage, ...]
    uncaptioned: tuple[str, ...]
    resumed: int


def plan_build(
    captions: Path,
    images: Path,
    output: Path,
    *,
    limit: int | None = None,
    force: bool = False,
    split: str | None = None,
    keep_rejected: bool = False,
) -> BuildPlan:
    """Matches a captions file with its folder of images, and checks that the output is free.

    Args:
        captions: COCO captions file.
        images: Folder that its file names count from.
        output: Folder to make; of a link to a folder, the folder is meant.
        limit: Take only this many images, the first of the file.
        force: Replace an existing knowledge base.
        split: See `read_captions`.
        keep_rejected: See `read_captions`.

    Raises:
        DataError: The captions file is not one, or names a file outside the folder.
        KnowledgeBaseError: Nothing is to be encoded, or the output may not be written.
    """
    check_output_folder(output, force=force)
    listed = read_captions(captions, split=split, keep_rejected=keep_rejected)
    if not images.is_dir():
        found = "not a folder" if images.exists() else "no such folder"
        raise KnowledgeBaseError(f"{images}: {found}, expected the folder of the images")
    chosen = listed[:limit]
    for entry in chosen:
        file_in(images, entry.file_name, listed_in=captions)
    entries = [entry for entry in chosen if entry.captions]
    if not entries:
        raise KnowledgeBaseError(f"{captions}: none of its {len(chosen)} images has a caption")
    if not any(exists(images / entry.file_name) for entry in entries):
        raise KnowledgeBaseError(
            f"{images}: holds none of the {len(entries)} images that {captions} names "
            f"(the first is {entries[0].file_name})"
        )
    without = [SkippedImage(e.file_name, "has no captions") for e in chosen if not e.captions]
    return BuildPlan(
        captions=captions,
        images=images,
        output=output.resolve(),
        force=force,
        limit=limit,
        split=split,
        keep_rejected=keep_rejected,
        captions_sha256=sha256_file(captions),
        entries=entries,
        without_captions=tuple(without),
        uncaptioned=_uncaptioned(images, {entry.file_name for entry in listed}),
    )


def build_knowledge_base(
    captions: Path,
    images: Path,
    output: Path,
    *,
    encoder: ImageEncoder,
    batch_size: int = 32,
    workers: int = 0,
    limit: int | None = None,
    force: bool = False,
    progress: bool = True,
) -> BuildReport:
    """Encodes captioned images and saves them: `plan_build`, then `build_planned`."""
    plan = plan_build(captions, images, output, limit=limit, force=force)
    return build_planned(
        plan, encoder=encoder, batch_size=batch_size, workers=workers, progress=progress
    )


def build_planned(
    plan: BuildPlan,
    *,
    encoder: ImageEncoder,
    batch_size: int = 32,
    workers: int = 0,
    progress: bool = True,
) -> BuildReport:
    """Encodes the planned images and saves them with their captions.

    Finished batches are kept in `OUTPUT.partial`; after an interruption the same call continues
    there if the captions file, the folder of images, the limit and the encoder are the same. The
    output appears only when it is complete, and only then is a replaced one removed.

    Args:
        plan: What to encode, and where it goes.
        encoder: Makes the vectors.
        batch_size: Images encoded at once.
        workers: Processes that read images; 0: this process reads them.
        progress: Show a progress bar on stderr, where that is a terminal.

    Raises:
        KnowledgeBaseError: Nothing could be encoded, the output may not be written, or a worker
            was killed.
    """
    output = plan.output
    inputs = plan.inputs | {"encoder": encoder.identity.to_json(), "encoder_dtype": encoder.dtype}
    unfinished = output.with_name(f"{output.name}.partial")
    with _writing(output):
        opened = PartialVectors(unfinished, inputs=inputs, dimension=encoder.identity.dimension)
    with opened as partial:
        remove_leftovers(output.parent, is_own=output.name.__eq__, before=partial.held_since)
        resumed = partial.processed
        _encode(plan, encoder, partial, batch_size, workers, progress)
        skipped = _check_skipped(plan, partial)
        with _writing(output):
            KnowledgeBase.write(
                output,
                vectors=partial.vectors(),
                entries=[plan.entries[index] for index in partial.kept()],
                encoder=encoder.identity,
                source=plan.source | {"encoder_dtype": encoder.dtype},
                skipped=skipped,
                force=plan.force,
            )
            partial.remove()
    count = len(partial.kept())
    return BuildReport(count, encoder.identity.dimension, skipped, plan.uncaptioned, resumed)


def _uncaptioned(images: Path, known: set[str]) -> tuple[str, ...]:
    with os.scandir(images) as files:
        names = {file.name for file in files if Path(file.name).suffix.lower() in SUFFIXES}
    return tuple(sorted(names - known))


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Names the folder in errors of writing."""
    try:
        with naming_full_disk(path):
            yield
    except OSError as error:
        raise KnowledgeBaseError(f"{path}: cannot be written ({error})") from error


def _encode(
    plan: BuildPlan,
    encoder: ImageEncoder,
    partial: PartialVectors,
    batch_size: int,
    workers: int,
    progress: bool,
) -> None:
    """Encodes what the unfinished build does not hold yet, batch by batch."""
    import torch
    from tqdm import tqdm

    if partial.restarted:
        logger.warning("%s: left by a build from other inputs; starting over", partial.folder)
    todo = range(partial.processed, len(plan.entries))
    paths = [plan.images / plan.entries[index].file_name for index in todo]
    bar = tqdm(
        total=len(plan.entries),
        initial=partial.processed,
        desc="Encoding images",
        unit="image",
        file=sys.stderr,
        disable=None if progress else True,  # None: where stderr is no terminal
    )
    batches = read_images(paths, encoder.preprocess, batch_size=batch_size, workers=workers)
    with bar, report_killed_workers():
        for pixels, reasons in batches:
            vectors = encoder.encode_pixels(torch.from_numpy(pixels)) if len(pixels) else None
            start = partial.processed
            with _writing(partial.folder):
                partial.append(
                    vectors, {start + index: reason for index, reason in reasons.items()}
                )
            bar.update(partial.processed - start)


def _check_skipped(plan: BuildPlan, partial: PartialVectors) -> tuple[SkippedImage, ...]:
    """Lists what has no vector; if that is everything, there is nothing to save or continue."""
    skipped = tuple(
        SkippedImage(plan.entries[index].file_name, reason)
        for index, reason in partial.skipped.items()
    )
    if len(skipped) == len(plan.entries):
        partial.remove()
        raise KnowledgeBaseError(
            f"{plan.captions}: none of its {len(skipped)} images could be read "
            f"(the first, {skipped[0].file_name}: {skipped[0].reason})"
        )
    return plan.without_captions + skipped
