"""Controls of methods with image tokens: the same prompt with vectors that are not the images'.

Without them a gain could come from the further soft tokens, and not from what they are made from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evaluation.methods import Method
from evaluation.options import CONTROLS
from igrag.errors import UsageError
from igrag.retrieval.image_encoder import EncoderIdentity
from prompt_tuning.image_prompt import ImagePrompt
from prompt_tuning.prompt_file import load_prompt

SHUFFLED, ZERO = CONTROLS


def read_image_prompts(
    methods: Sequence[Method], encoder: EncoderIdentity | None = None
) -> dict[str, ImagePrompt]:
    """Returns what makes image tokens, of the methods that have some.

    Args:
        methods: The methods.
        encoder: What makes the images' vectors; None takes any.

    Raises:
        CheckpointError: A prompt is damaged, or takes vectors of another encoder.
    """
    paths = {path for method in methods for path in method.prompts}
    read = {path: load_prompt(path, encoder=encoder).image_prompt for path in paths}
    found: dict[str, ImagePrompt] = {}
    for method in methods:
        for image_prompt in filter(None, map(read.get, method.prompts)):
            found.setdefault(method.name, image_prompt)  # An ensemble has several.
    return found


def add_controls(methods: Sequence[Method], controls: Sequence[str]) -> list[Method]:
    """Adds a row for each control after each method that has image tokens.

    Args:
        methods: The methods.
        controls: Some of `SHUFFLED` and `ZERO`.

    Raises:
        UsageError: No method has image tokens.
    """
    seeing = read_image_prompts(methods) if controls else {}
    if controls and not seeing:
        raise UsageError(
            f"--{CONTROLS[controls[0]]}: none of the methods has image tokens; train a prompt with "
            "prompt_tuning.image_tokens"
        )
    rows = []
    for method in methods:
        rows.append(method)
        for control in controls if method.name in seeing else ():
            rows.append(replace(method, name=f"{method.name}-{control}", control=control))
    return rows


def vectors_by_method(
    methods: Sequence[Method],
    image_prompts: Mapping[str, ImagePrompt],
    vectors: NDArray[np.float32],
    *,
    seed: int,
) -> dict[str, NDArray[np.float32]]:
    """Returns the vectors [N, D] that each method with image tokens gets.

    Args:
        methods: The methods and their controls.
        image_prompts: See `read_image_prompts`.
        vectors: The images' vectors [N, D].
        seed: Seed of the order of shuffled ones.

    Raises:
        UsageError: Vectors are to be shuffled, but there is only one.
    """
    found = {}
    for method in methods:
        if method.name not in image_prompts:
            continue
        found[method.name] = vectors
        if method.control == SHUFFLED:
            found[method.name] = vectors[derangement(len(vectors), seed=seed)]
        elif method.control == ZERO:  # The mean is what the prompt's own scaling makes zero.
            mean = image_prompts[method.name].mean.cpu().numpy()
            found[method.name] = np.repeat(mean[None], len(vectors), axis=0)
    return found


def derangement(count: int, *, seed: int) -> NDArray[np.int64]:
    """Returns a random order of 0 to count - 1 that leaves none where it is.

    Raises:
        UsageError: There is only one.
    """
    if count < 2:
        raise UsageError(
            f"--{CONTROLS[SHUFFLED]}: found {count} image, expected at least 2: each gets the "
            "vector of another one"
        )
    cycle = np.random.default_rng(seed).permutation(count)
    order = np.empty(count, np.int64)
    order[cycle] = np.roll(cycle, 1)
    return order
