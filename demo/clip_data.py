"""Freshly drawn images and captions for training clip-mini."""

from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.drawing.render import render
from demo.language.annotators import write_brief, write_captions
from demo.world.scenes import sample_scene

_CHUNK = 250
_BRIEF_CAPTIONS = 5


@dataclass(frozen=True, slots=True)
class ClipData:
    """Images uint8 [N, S, S, 3] and the captions of each."""

    images: NDArray[np.uint8]
    captions: list[list[str]]


def render_clip_data(
    count: int, *, seed: str, image_size: int, brief: bool, processes: int = 2
) -> ClipData:
    """Samples and draws `count` scenes afresh: none of the images is in a split.

    Args:
        count: How many; a multiple of 250.
        seed: The same seed gives the same data, whatever the number of processes.
        image_size: The side S of the squares that the images are squeezed into.
        brief: Whether each image also has five captions that only say what is where.
        processes: How many processes draw at the same time.
    """
    images = np.empty((count, image_size, image_size, 3), np.uint8)
    captions: list[list[str]] = []
    seeds = [f"{seed}-clip-{chunk}" for chunk in range(count // _CHUNK)]
    render_chunk = partial(_render_chunk, image_size=image_size, brief=brief)
    with get_context("spawn").Pool(processes) as pool:
        for chunk, (drawn, written) in enumerate(pool.imap(render_chunk, seeds)):
            images[chunk * _CHUNK : (chunk + 1) * _CHUNK] = drawn
            captions.extend(written)
            if (chunk + 1) % 20 == 0:
                print(f"clip-mini: {len(captions)} of {count} images drawn", flush=True)
    return ClipData(images, captions)


def _render_chunk(
    seed: str, *, image_size: int, brief: bool
) -> tuple[NDArray[np.uint8], list[list[str]]]:
    rng, brief_rng = Random(seed), Random(f"{seed}-brief")
    images, captions = [], []
    for _ in range(_CHUNK):
        scene = sample_scene(rng)
        image = render(rng, scene).image
        # As CLIP's image processor does it.
        small = image.resize((image_size, image_size), Image.Resampling.BICUBIC)
        images.append(np.asarray(small))
        captions.append(write_captions(rng, scene))
        if brief:
            captions[-1] += write_brief(brief_rng, scene, _BRIEF_CAPTIONS)
    return np.stack(images), captions
