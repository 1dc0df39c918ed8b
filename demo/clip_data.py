"""Freshly drawn pictures and captions for training clip-mini."""

from dataclasses import dataclass
from multiprocessing import get_context
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.language.annotators import write_captions
from demo.pictures.render import render
from demo.world.scenes import sample_scene

IMAGE_SIZE = 96
_CHUNK = 250


@dataclass(frozen=True, slots=True)
class ClipData:
    """Pictures uint8 [N, 96, 96, 3] and the captions of each."""

    pictures: NDArray[np.uint8]
    captions: list[list[str]]


def render_clip_data(count: int, *, seed: int, processes: int = 2) -> ClipData:
    """Samples and draws `count` scenes that belong to no split.

    Args:
        count: How many; a multiple of 250.
        seed: The same seed gives the same data, whatever the number of processes.
        processes: How many processes draw at the same time.
    """
    pictures = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    captions: list[list[str]] = []
    jobs = [f"{seed}-clip-{chunk}" for chunk in range(count // _CHUNK)]
    with get_context("spawn").Pool(processes) as pool:
        for chunk, (drawn, written) in enumerate(pool.imap(_render_chunk, jobs)):
            pictures[chunk * _CHUNK : (chunk + 1) * _CHUNK] = drawn
            captions.extend(written)
            if (chunk + 1) % 20 == 0:
                print(f"clip-mini: {len(captions)} of {count} pictures drawn", flush=True)
    return ClipData(pictures, captions)


def _render_chunk(seed: str) -> tuple[NDArray[np.uint8], list[list[str]]]:
    rng = Random(seed)
    pictures, captions = [], []
    for _ in range(_CHUNK):
        scene = sample_scene(rng)
        image = render(rng, scene).image
        # As CLIP's image processor does it.
        small = image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
        pictures.append(np.asarray(small))
        captions.append(write_captions(rng, scene))
    return np.stack(pictures), captions
