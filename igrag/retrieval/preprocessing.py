"""From images to the pixels that a CLIP model takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from igrag.errors import ModelError
from igrag.hub import from_pretrained, reason_of

if TYPE_CHECKING:  # torch takes seconds to load
    import torch

# What of the processor's settings changes the pixels; anything else may differ between versions.
PREPROCESSING_KEYS = (
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
)
# A 1 x 10,000 image would be enlarged to 224 x 2,240,000 before its center is cut out.
MAX_ASPECT_RATIO = 20


class Preprocessor:
    """Turns images into pixels [3, h, w]; small enough to be sent to a data loader's workers.

    The Pillow backend of CLIP's processor is chosen by name: the default one asks for torchvision
    and falls back with a warning, and the two do not give quite the same pixels.
    """

    def __init__(self, model_path: str) -> None:
        """Reads the processor's settings from a model's folder or the hub."""
        from transformers import CLIPImageProcessorPil

        self._processor = from_pretrained(CLIPImageProcessorPil, model_path)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that change the pixels, as plain JSON data."""
        settings = self._processor.to_dict()
        chosen = {key: settings.get(key) for key in PREPROCESSING_KEYS}
        plain: dict[str, Any] = json.loads(json.dumps(chosen))  # tuples become lists
        return plain

    @property
    def shortest_edge(self) -> int | None:
        """The shorter edge that an image is resized to; None where images are not resized."""
        settings = self.settings
        if not settings["do_resize"]:
            return None
        size = settings["size"]
        return size.get("shortest_edge") or max(size.get("height", 0), size.get("width", 0)) or None

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Resizes, crops and normalizes one RGB image to [3, h, w], float32."""
        pixels: torch.Tensor = self._processor(_trim(image), return_tensors="pt")["pixel_values"][0]
        return pixels


def load_preprocessor(model_path: str, *, size: int) -> Preprocessor:
    """Loads a model's preprocessing, and tries it out: the library checks its settings only in use.

    Args:
        model_path: The model's folder or hub id.
        size: Height and width of the images that the model takes.

    Raises:
        ModelError: It is missing, damaged, or another model's.
    """
    try:
        preprocess = Preprocessor(model_path)
        found = list(preprocess(Image.new("RGB", (size, size))).shape)
    except Exception as error:
        # AttributeError, TypeError, ...: the library takes the file for what it should be.
        raise ModelError(
            f"{model_path}: the preprocessing cannot be loaded "
            f"(expected preprocessor_config.json: {reason_of(error, Path(model_path))})"
        ) from error
    expected = [3, size, size]
    if found != expected:
        raise ModelError(
            f"{model_path}: preprocessor_config.json makes images of {found} values, the model "
            f"takes {expected}; they do not belong together"
        )
    return preprocess


def _trim(image: Image.Image) -> Image.Image:
    """Cuts the ends off an extremely long image; CLIP looks at its central square anyway."""
    width, height = image.size
    limit = MAX_ASPECT_RATIO * min(width, height)
    left, top = max(0, width - limit) // 2, max(0, height - limit) // 2
    if not (left or top):
        return image
    return image.crop((left, top, width - left, height - top))
