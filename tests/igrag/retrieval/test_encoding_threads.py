"""Batches that are encoded side by side."""

from pathlib import Path

import numpy as np
import pytest
import torch

from igrag.processes import Ranks
from igrag.retrieval.encoding_threads import encode_batches, encoding_threads
from igrag.retrieval.image_encoder import ImageEncoder


@pytest.fixture
def encoder(tiny_clip: Path) -> ImageEncoder:
    """Returns the tiny model's encoder."""
    return ImageEncoder(str(tiny_clip), device="cpu")


def test_number_of_threads_changes_no_bit(encoder: ImageEncoder) -> None:
    """Each batch has the bytes of one thread, in the order of the batches; reasons stay with it."""
    pixels = np.random.default_rng(0).standard_normal((40, 3, 32, 32)).astype(np.float32)
    batches = [(pixels[first : first + 7], {first: "why"}) for first in range(0, 40, 7)]
    batches.insert(2, (pixels[:0], {0: "all"}))
    before = torch.get_num_threads()
    found = {
        threads: list(encode_batches(encoder, iter(batches), threads=threads))
        for threads in (1, 3, 9)
    }
    assert torch.get_num_threads() == before
    for encoded in found.values():
        assert [reasons for _, reasons in encoded] == [reasons for _, reasons in batches]
        assert [len(rows) for rows, _ in encoded] == [7, 7, 0, 7, 7, 7, 5]
        for (rows, _), (expected, _) in zip(encoded, found[1], strict=True):
            assert rows.tobytes() == expected.tobytes()


def test_error_of_a_batch_is_raised(encoder: ImageEncoder) -> None:
    """It comes where its batch would, and batches that nobody waits for are not encoded."""
    read = []

    def batches() -> object:
        for number in range(100):
            read.append(number)
            yield np.zeros((1, 3, 32, 32 if number != 2 else 31), np.float32), {}

    encoded = encode_batches(encoder, batches(), threads=2)  # type: ignore[arg-type]
    assert [len(rows) for rows, _ in (next(encoded), next(encoded))] == [1, 1]
    with pytest.raises(Exception, match=r"31|shape|size"):
        next(encoded)
    assert len(read) < 10


def test_threads_are_those_of_the_process(encoder: ImageEncoder) -> None:
    """One process has torch's; torchrun would leave each of several a single one."""
    assert encoding_threads(encoder, Ranks()) == torch.get_num_threads()
    assert encoding_threads(encoder, Ranks(0, 2, 0, 2)) == Ranks(0, 2, 0, 2).cores()
