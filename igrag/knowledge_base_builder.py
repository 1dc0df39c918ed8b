"""Build a knowledge base from a COCO captions file and its pictures, in batches, resumably."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igrag.coco import CaptionedImage, read_captions
from igrag.errors import ImageError, KnowledgeBaseError
from igrag.files import sha256_file
from igrag.image_encoder import ImageEncoder, Preprocessor
from igrag.images import SUFFIXES, open_image
from igrag.knowledge_base import KnowledgeBase, SkippedPicture
from igrag.knowledge_base_files import check_output_folder
from igrag.partial_vectors import PartialVectors

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.

    Attributes:
        count: Pictures in the knowledge base, N.
        dimension: Length of their vectors, D.
        skipped: Pictures of the captions file that are not in it.
        uncaptioned: Names of pictures in the folder that the captions file does not list.
        resumed: How many pictures an interrupted build had already dealt with.
    """

    count: int
    dimension: int
    skipped: tuple[SkippedPicture, ...]
    uncaptioned: tuple[str, ...]
    resumed: int


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
    """Encode captioned pictures and save them with their captions.

    Finished batches are kept in ``OUTPUT.partial``; after an interruption the same call continues
    there if the captions file, the folder of pictures, the limit and the encoder are the same. The
    output appears only when it is complete, and only then is a replaced one removed.

    Args:
        captions: COCO captions file.
        images: Folder that its file names count from.
        output: Folder to make.
        encoder: Makes the vectors.
        batch_size: Pictures encoded at once.
        workers: Processes that read pictures beside this one; 0 reads them here.
        limit: Take only this many pictures, the first of the file.
        force: Replace an existing knowledge base.
        progress: Show a progress bar on stderr.

    Raises:
        DataError: The captions file is not one.
        KnowledgeBaseError: Nothing could be encoded, or the output may not be written.
    """
    output = output.resolve()  # of a link to a folder, the folder is replaced
    check_output_folder(output, force=force)
    plan = _make_plan(captions, images, limit)
    inputs = {
        "captions_sha256": sha256_file(captions),
        "images": str(images.resolve()),
        "limit": limit,
        "encoder": encoder.identity.to_json(),
        "encoder_dtype": encoder.dtype,
    }
    # No path of this machine goes into a folder that may be passed on.
    source = {"captions": captions.name, "captions_sha256": inputs["captions_sha256"]}
    source |= {"images": images.resolve().name, "limit": limit, "encoder_dtype": encoder.dtype}
    unfinished = output.with_name(f"{output.name}.partial")
    with _writing(output):
        opened = PartialVectors(unfinished, inputs=inputs, dimension=encoder.identity.dimension)
    with opened as partial:
        resumed = partial.processed
        _encode(plan, images, encoder, partial, batch_size, workers, progress)
        skipped = _check_skipped(captions, plan, partial)
        with _writing(output):
            KnowledgeBase.write(
                output,
                vectors=partial.vectors(),
                entries=[plan.entries[place] for place in partial.kept()],
                encoder=encoder.identity,
                source=source,
                skipped=skipped,
                force=force,
            )
            partial.remove()
    count = len(partial.kept())
    return BuildReport(count, encoder.identity.dimension, skipped, plan.uncaptioned, resumed)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Blame a folder for a full disk and the like; what is read meanwhile has errors of its own."""
    try:
        yield
    except OSError as error:
        raise KnowledgeBaseError(f"{path}: cannot be written ({error})") from error


@dataclass(frozen=True, slots=True)
class _Plan:
    entries: list[CaptionedImage]  # to be encoded, in this order
    without_captions: tuple[SkippedPicture, ...]
    uncaptioned: tuple[str, ...]


def _make_plan(captions: Path, images: Path, limit: int | None) -> _Plan:
    """Match the captions file with the folder of pictures."""
    listed = read_captions(captions)
    if not images.is_dir():
        found = "not a folder" if images.exists() else "no such folder"
        raise KnowledgeBaseError(f"{images}: {found}, expected the folder of the pictures")
    chosen = listed[:limit]
    entries = [entry for entry in chosen if entry.captions]
    if not entries:
        raise KnowledgeBaseError(f"{captions}: none of its {len(chosen)} pictures has a caption")
    if not any(_is_there(images / entry.file_name) for entry in entries):
        raise KnowledgeBaseError(
            f"{images}: holds none of the {len(entries)} pictures that {captions} names "
            f"(the first is {entries[0].file_name})"
        )
    known = {entry.file_name for entry in listed}
    with os.scandir(images) as files:
        others = [file.name for file in files if Path(file.name).suffix.lower() in SUFFIXES]
    without = [SkippedPicture(e.file_name, "has no captions") for e in chosen if not e.captions]
    return _Plan(entries, tuple(without), tuple(sorted(set(others) - known)))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # A name too long, a closed folder: told with its picture, which is skipped.
        return False


def _encode(
    plan: _Plan,
    images: Path,
    encoder: ImageEncoder,
    partial: PartialVectors,
    batch_size: int,
    workers: int,
    progress: bool,
) -> None:
    """Encode what the unfinished build does not hold yet, batch by batch."""
    import torch
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    if partial.started_anew:
        logger.warning("%s: left by a build from other inputs; starting anew", partial.folder)
    todo = range(partial.processed, len(plan.entries))
    paths = [images / plan.entries[place].file_name for place in todo]
    pictures: Any = _Pictures(paths, encoder.preprocess)
    loader: DataLoader[Any] = DataLoader(
        pictures,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_collate,
    )
    with tqdm(
        total=len(plan.entries),
        initial=partial.processed,
        desc="Encoding pictures",
        unit="picture",
        file=sys.stderr,
        disable=not progress,
    ) as bar:
        for pixels, reasons in loader:
            vectors = encoder.encode_pixels(torch.from_numpy(pixels)) if len(pixels) else None
            start = partial.processed
            with _writing(partial.folder):
                partial.append(vectors, {start + at: reason for at, reason in reasons.items()})
            bar.update(partial.processed - start)


class _Pictures:
    """The pictures as a data loader's dataset: pixels [3, h, w], or why there are none."""

    def __init__(self, paths: Sequence[Path], preprocess: Preprocessor) -> None:
        self._paths = paths
        self._preprocess = preprocess

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> NDArray[np.float32] | str:
        path = self._paths[index]
        try:
            pixels = self._preprocess(open_image(path))
        except ImageError as error:
            return str(error).removeprefix(f"{path}: ")
        array: NDArray[np.float32] = pixels.numpy()
        return array


def _collate(
    items: Sequence[NDArray[np.float32] | str],
) -> tuple[NDArray[np.float32], dict[int, str]]:
    """Separate pixels [b, 3, h, w] from the reasons, by place in the batch, for having none.

    Arrays and not tensors: tensors travel from the workers through shared memory, of which a
    container often has only 64 MB.
    """
    reasons = {place: item for place, item in enumerate(items) if isinstance(item, str)}
    arrays = [item for item in items if not isinstance(item, str)]
    return np.stack(arrays) if arrays else np.empty((0, 3, 0, 0), np.float32), reasons


def _check_skipped(
    captions: Path, plan: _Plan, partial: PartialVectors
) -> tuple[SkippedPicture, ...]:
    """List what has no vector; if that is everything, there is nothing to save or continue."""
    skipped = tuple(
        SkippedPicture(plan.entries[place].file_name, reason)
        for place, reason in partial.skipped.items()
    )
    if len(skipped) == len(plan.entries):
        partial.remove()
        raise KnowledgeBaseError(
            f"{captions}: none of its {len(skipped)} pictures could be read "
            f"(the first, {skipped[0].file_name}: {skipped[0].reason})"
        )
    return plan.without_captions + skipped
