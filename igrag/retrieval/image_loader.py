"""Reads images batch by batch, in worker processes that end with this one, without a traceback."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from igrag.data.images import open_image
from igrag.data.packed_images import PackedImage
from igrag.data.workers import prepare_worker
from igrag.errors import ImageError, KnowledgeBaseError
from igrag.retrieval.preprocessing import Preprocessor

if TYPE_CHECKING:
    from PIL.Image import Image

ImageSource = Path | PackedImage
Batch = tuple[NDArray[np.float32], dict[int, str]]


def read_images(
    sources: Sequence[ImageSource],
    preprocess: Preprocessor,
    *,
    batches: Iterable[Sequence[int]],
    workers: int,
    shortest_edge: int | None = None,
) -> Iterator[Batch]:
    """Yields the images of each batch, in order.

    Args:
        sources: The images: files, or parts of larger ones.
        preprocess: Makes their pixels.
        batches: The indices of each batch's files.
        workers: Processes that read them; 0: this process reads them.
        shortest_edge: See `open_image`.

    Yields:
        Pixels [b, 3, h, w], and by index in the batch why an image has none.
    """
    from torch.utils.data import DataLoader

    images: Any = _Images(sources, preprocess, shortest_edge)
    sampler: Any = batches  # One that is made as it is read: a list of all would fill the memory.
    loader: DataLoader[Any] = DataLoader(
        images,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=prepare_worker,
    )
    yield from loader


@contextmanager
def report_killed_workers() -> Iterator[None]:
    """Reports a killed worker as such; goes around all use of `read_images`.

    Raises:
        KnowledgeBaseError: A worker was killed.
    """
    try:
        yield
    except RuntimeError as error:  # The library has no type of its own for it.
        if "DataLoader worker" not in str(error):
            raise
        raise KnowledgeBaseError(
            "a data-loading worker was killed (out of memory?); the same "
            "command continues from here; --workers 0 uses no such processes"
        ) from error


class _Images:
    """The images as a data loader's dataset: pixels [3, h, w], or why there are none."""

    def __init__(
        self, sources: Sequence[ImageSource], preprocess: Preprocessor, shortest_edge: int | None
    ) -> None:
        self._sources = sources
        self._preprocess = preprocess
        self._shortest_edge = shortest_edge

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, index: int) -> NDArray[np.float32] | str:
        source = self._sources[index]
        try:
            pixels = self._preprocess(self._open(source))
        except ImageError as error:
            return str(error).removeprefix(f"{source}: ")
        array: NDArray[np.float32] = pixels.numpy()
        return array

    def _open(self, source: ImageSource) -> Image:
        if isinstance(source, PackedImage):
            return source.open(shortest_edge=self._shortest_edge)
        return open_image(source, shortest_edge=self._shortest_edge)


def _collate(items: Sequence[NDArray[np.float32] | str]) -> Batch:
    """Separates pixels [b, 3, h, w] from the reasons, by index in the batch, for having none.

    Arrays and not tensors: tensors travel from the workers through shared memory, of which a
    container often has only 64 MB.
    """
    reasons = {index: item for index, item in enumerate(items) if isinstance(item, str)}
    arrays = [item for item in items if not isinstance(item, str)]
    return np.stack(arrays) if arrays else np.empty((0, 3, 0, 0), np.float32), reasons
