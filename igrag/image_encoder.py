"""CLIP's image tower: pictures in, unit vectors out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from igrag.devices import resolve_device
from igrag.encoder_identity import EncoderIdentity
from igrag.errors import ModelError
from igrag.hub import is_fetch_failure, reason_of

if TYPE_CHECKING:  # imported where used: torch and transformers take seconds to load
    import torch
    from transformers import CLIPConfig

__all__ = ["DTYPES", "EncoderIdentity", "ImageEncoder", "Preprocessor"]

DTYPES = ("auto", "float32", "bfloat16", "float16")
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
# A 1 x 10,000 picture would be enlarged to 224 x 2,240,000 before its centre is cut out.
MAX_ASPECT_RATIO = 20


class Preprocessor:
    """Pictures to pixels [3, h, w]; small enough to be sent to a data loader's workers.

    The Pillow backend of CLIP's processor is chosen by name: the default one asks for torchvision
    and falls back with a warning, and the two do not give quite the same pixels.
    """

    def __init__(self, model_path: str) -> None:
        """Read the processor's settings from a model's folder or the hub."""
        from transformers import CLIPImageProcessorPil

        self._processor = CLIPImageProcessorPil.from_pretrained(model_path)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that change the pixels, as plain JSON data."""
        settings = self._processor.to_dict()
        chosen = {key: settings.get(key) for key in PREPROCESSING_KEYS}
        plain: dict[str, Any] = json.loads(json.dumps(chosen))  # tuples become lists
        return plain

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Resize, crop and normalise one RGB picture to [3, h, w], float32."""
        pixels: torch.Tensor = self._processor(_trim(image), return_tensors="pt")["pixel_values"][0]
        return pixels


class ImageEncoder:
    """The image tower of any CLIP model in transformers' format; its text tower is not loaded."""

    def __init__(self, model_path: str, *, device: str = "auto", dtype: str = "float32") -> None:
        """Load the tower and its preprocessing, frozen.

        Args:
            model_path: A folder with a CLIPModel, or a hub id.
            device: "auto", "cpu", "cuda", "cuda:1", "mps", ...
            dtype: One of ``DTYPES``; vectors are float32 whatever it is. "auto" computes in
                float32: vectors are compared with those of other days and machines.

        Raises:
            ModelError: The model is missing, is not a CLIP model, or lacks weights.
        """
        import torch

        from igrag.model_identity import weights_hash

        if dtype not in DTYPES:
            raise ModelError(f"encoder dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
        self._device = resolve_device(device)
        self._dtype: torch.dtype = getattr(torch, "float32" if dtype == "auto" else dtype)
        with _quiet_transformers():
            model = _load_tower(model_path, _read_config(model_path))
            try:
                self.preprocess = Preprocessor(model_path)
            except (OSError, ValueError) as error:
                raise ModelError(
                    f"{model_path}: the preprocessing cannot be loaded "
                    f"(expected preprocessor_config.json: {reason_of(error)})"
                ) from error
        self._identity = EncoderIdentity(
            name=Path(model_path).resolve().name if Path(model_path).is_dir() else model_path,
            dimension=len(model.get_parameter("visual_projection.weight")),
            weights_fingerprint=str(weights_hash(model)),
            preprocessing=self.preprocess.settings,
        )
        self._model = model.eval().requires_grad_(False)
        self._model.to(device=self._device, dtype=self._dtype)

    @property
    def dtype(self) -> str:
        """The precision that the model computes in."""
        return str(self._dtype).removeprefix("torch.")

    @property
    def identity(self) -> EncoderIdentity:
        """What a knowledge base records about its encoder."""
        return self._identity

    def encode(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Encode RGB pictures as one batch.

        Returns:
            Unit vectors [B, D].
        """
        import torch

        if not images:
            return np.empty((0, self._identity.dimension), np.float32)
        return self.encode_pixels(torch.stack([self.preprocess(image) for image in images]))

    def encode_pixels(self, pixels: torch.Tensor) -> NDArray[np.float32]:
        """Encode preprocessed pictures [B, 3, h, w].

        Returns:
            Unit vectors [B, D].

        Raises:
            ModelError: The model gave values that are not finite.
        """
        import torch

        with torch.inference_mode():
            output = self._model(pixel_values=pixels.to(self._device, self._dtype))
            vectors = torch.nn.functional.normalize(output.image_embeds.float(), dim=-1)
        if not bool(torch.isfinite(vectors).all()):
            name, dtype = self._identity.name, self.dtype
            raise ModelError(f"{name}: the encoder gives values that are not finite in {dtype}")
        result: NDArray[np.float32] = vectors.cpu().numpy()
        return result


def _read_config(model_path: str) -> CLIPConfig:
    from transformers import CLIPConfig, PretrainedConfig

    try:
        data, _ = PretrainedConfig.get_config_dict(model_path)
    except (OSError, ValueError, ImportError) as error:
        local = Path(model_path)
        if local.is_dir():
            reason = f"expected a CLIP model's config.json in this folder: {reason_of(error)}"
        elif not is_fetch_failure(error):
            reason = f"cannot be loaded ({reason_of(error)})"
        elif local.is_absolute() or model_path.count("/") != 1:
            reason = "no such model folder"
        else:
            reason = (
                "no such folder, and neither the hub nor its local cache gives it; "
                "download it once while online, or name a folder"
            )
        raise ModelError(f"image encoder {model_path}: {reason}") from error
    if data.get("model_type") != "clip":
        found = f"model_type {data['model_type']}" if data.get("model_type") else "no config.json"
        raise ModelError(f"image encoder {model_path}: expected a CLIP model, found {found}")
    return CLIPConfig.from_dict(data)


def _load_tower(model_path: str, config: CLIPConfig) -> torch.nn.Module:
    """Load the image tower in float32, whatever it was saved in, so that fingerprints agree."""
    import torch
    from transformers import CLIPVisionModelWithProjection

    # The size of the joint space is the whole model's; the vision part of its configuration keeps
    # the default 512 and the projection of another size would be refused.
    vision: Any = config.vision_config
    vision.projection_dim = config.projection_dim
    load: Any = CLIPVisionModelWithProjection.from_pretrained
    try:
        model, report = load(
            model_path, config=vision, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:
        # OSError, RuntimeError, safetensors' own, ...: whatever is wrong with the weights.
        raise ModelError(
            f"image encoder {model_path}: the weights cannot be loaded ({reason_of(error)})"
        ) from error
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise ModelError(f"image encoder {model_path}: weights are missing ({missing}, ...)")
    tower: torch.nn.Module = model
    return tower


def _trim(image: Image.Image) -> Image.Image:
    """Cut the ends off an extremely long picture; CLIP looks at its central square anyway."""
    width, height = image.size
    limit = MAX_ASPECT_RATIO * min(width, height)
    left, top = max(0, width - limit) // 2, max(0, height - limit) // 2
    if not (left or top):
        return image
    return image.crop((left, top, width - left, height - top))


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence what loading one tower of two says (a list of the text tower's unused weights)."""
    import transformers

    logging: Any = transformers.utils.logging  # its functions carry no types
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
