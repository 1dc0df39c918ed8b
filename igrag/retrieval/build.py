"""Build a knowledge base from a COCO captions file and its images, in batches, resumably."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from igrag.errors import KnowledgeBaseError
from igrag.retrieval.build_plan import BuildPlan, plan_build
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.image_loader import killed_workers_named, read_images
from igrag.retrieval.knowledge_base import KnowledgeBase, SkippedImage
from igrag.retrieval.partial_vectors import PartialVectors

logger = logging.getLogger(__name__)


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
    """Encodes captioned images and save them: `plan_build`, then `carry_out`."""
    plan = plan_build(captions, images, output, limit=limit, force=force)
    return carry_out(
        plan, encoder=encoder, batch_size=batch_size, workers=workers, progress=progress
    )


def carry_out(
    plan: BuildPlan,
    *,
    encoder: ImageEncoder,
    batch_size: int = 32,
    workers: int = 0,
    progress: bool = True,
) -> BuildReport:
    """Encodes the planned images and save them with their captions.

    Finished batches are kept in `OUTPUT.partial`; after an interruption the same call continues
    there if the captions file, the folder of images, the limit and the encoder are the same. The
    output appears only when it is complete, and only then is a replaced one removed.

    Args:
        plan: What to encode, and where it goes.
        encoder: Makes the vectors.
        batch_size: Images encoded at once.
        workers: Processes that read images beside this one; 0 reads them here.
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
        resumed = partial.processed
        _encode(plan, encoder, partial, batch_size, workers, progress)
        skipped = _check_skipped(plan, partial)
        with _writing(output):
            KnowledgeBase.write(
                output,
                vectors=partial.vectors(),
                entries=[plan.entries[place] for place in partial.kept()],
                encoder=encoder.identity,
                source=plan.source | {"encoder_dtype": encoder.dtype},
                skipped=skipped,
                force=plan.force,
            )
            partial.remove()
    count = len(partial.kept())
    return BuildReport(count, encoder.identity.dimension, skipped, plan.uncaptioned, resumed)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Names the folder in errors of writing (a full disk and the like)."""
    try:
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

    if partial.started_again:
        logger.warning("%s: left by a build from other inputs; starting again", partial.folder)
    todo = range(partial.processed, len(plan.entries))
    paths = [plan.images / plan.entries[place].file_name for place in todo]
    bar = tqdm(
        total=len(plan.entries),
        initial=partial.processed,
        desc="Encoding images",
        unit="image",
        file=sys.stderr,
        disable=None if progress else True,  # None: where stderr is no terminal
    )
    batches = read_images(paths, encoder.preprocess, batch_size=batch_size, workers=workers)
    with bar, killed_workers_named():
        for pixels, reasons in batches:
            vectors = encoder.encode_pixels(torch.from_numpy(pixels)) if len(pixels) else None
            start = partial.processed
            with _writing(partial.folder):
                partial.append(vectors, {start + at: reason for at, reason in reasons.items()})
            bar.update(partial.processed - start)


def _check_skipped(plan: BuildPlan, partial: PartialVectors) -> tuple[SkippedImage, ...]:
    """Lists what has no vector; if that is everything, there is nothing to save or continue."""
    skipped = tuple(
        SkippedImage(plan.entries[place].file_name, reason)
        for place, reason in partial.skipped.items()
    )
    if len(skipped) == len(plan.entries):
        partial.remove()
        raise KnowledgeBaseError(
            f"{plan.captions}: none of its {len(skipped)} images could be read "
            f"(the first, {skipped[0].file_name}: {skipped[0].reason})"
        )
    return plan.without_captions + skipped
