"""Encodes batches side by side, each in one thread, so that the number of threads changes no bit.

The libraries share a matrix product out among threads by its shape and their number, and its last
digits change with both: of five images, one thread and two made vectors that differed by 1e-6.
With a thread for each batch, one process on a large machine and many processes make the same bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from igrag.processes import Ranks
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.image_loader import Batch

EncodedBatch = tuple[NDArray[np.float32], dict[int, str]]


def encoding_threads(encoder: ImageEncoder, ranks: Ranks) -> int:
    """Returns how many batches this process encodes at once: one on a GPU."""
    import torch

    if not encoder.is_on_cpu:
        return 1
    # torchrun limits each process to one thread, however many cores there are.
    return torch.get_num_threads() if ranks.size == 1 else ranks.cores()


def encode_batches(
    encoder: ImageEncoder, batches: Iterator[Batch], *, threads: int
) -> Generator[EncodedBatch, None, None]:
    """Encodes batches of pixels, at most a few ahead of those that are read.

    Args:
        encoder: Makes the vectors.
        batches: Pixels [b, 3, h, w], and by index in the batch why an image has none.
        threads: How many batches are encoded at once.

    Yields:
        For each batch, in order, unit vectors [b, D] and the same reasons.
    """
    import torch

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[Future[EncodedBatch]] = deque()
    try:
        for batch in batches:
            waiting.append(pool.submit(_encode, encoder, batch))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _encode(encoder: ImageEncoder, batch: Batch) -> EncodedBatch:
    import torch

    pixels, reasons = batch
    if not len(pixels):
        return np.empty((0, encoder.identity.dimension), np.float32), reasons
    return encoder.encode_pixels(torch.from_numpy(pixels)), reasons
