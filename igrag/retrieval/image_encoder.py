"""CLIP's image tower: images in, unit vectors out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from igrag.config.choices import DType, words
from igrag.devices import resolve_device
from igrag.errors import ModelError
from igrag.files import json_type_name
from igrag.hub import from_pretrained, is_fetch_failure, load_cached_first, reason_of
from igrag.memory import explain_out_of_memory
from igrag.retrieval.preprocessing import load_preprocessor

if TYPE_CHECKING:  # imported where used: torch and transformers take seconds to load
    import torch
    from transformers import CLIPConfig


@dataclass(frozen=True)
class EncoderIdentity:
    """What vectors must share to be comparable: weights, dimension and preprocessing.

    Every knowledge base records that of its encoder.

    Attributes:
        name: The hub id, or the name of the model's folder; shown, never compared, because a
            folder may be moved.
        dimension: Length D of the vectors.
        weights_fingerprint: SHA-256 of a sample of every weight of the image tower and its
            projection.
        preprocessing: The image processor's settings that change the pixels.
    """

    name: str
    dimension: int
    weights_fingerprint: str
    preprocessing: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Returns the identity as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> EncoderIdentity:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: A key is missing, unknown or of a wrong type.
        """
        expected = {
            "name": str,
            "dimension": int,
            "weights_fingerprint": str,
            "preprocessing": dict,
        }
        if not isinstance(data, Mapping) or set(data) != set(expected):
            raise ValueError(f"expected an encoder's {', '.join(expected)}")
        for key, type_ in expected.items():
            if not isinstance(data[key], type_):
                raise ValueError(f"the encoder's {key} is not of type {type_.__name__}")
        return cls(**data)

    def differences(self, other: EncoderIdentity) -> list[str]:
        """Returns what makes the vectors of two encoders incomparable; empty if nothing does."""
        found = []
        if self.dimension != other.dimension:
            found.append(f"dimension {self.dimension} against {other.dimension}")
        if self.weights_fingerprint != other.weights_fingerprint:
            mine, theirs = self.weights_fingerprint[:8], other.weights_fingerprint[:8]
            found.append(f"weights {mine} against {theirs}")
        for key in sorted(self.preprocessing.keys() | other.preprocessing.keys()):
            setting, others = self.preprocessing.get(key), other.preprocessing.get(key)
            if setting != others:
                found.append(f"preprocessing {key} {setting} against {others}")
        return found


class ImageEncoder:
    """The image tower of any CLIP model in transformers' format; its text tower is not loaded."""

    def __init__(self, model_path: str, *, device: str = "auto", dtype: str = "float32") -> None:
        """Loads the tower and its preprocessing, frozen.

        Args:
            model_path: A folder with a CLIPModel, or a hub id.
            device: "auto", "cpu", "cuda", "cuda:1", "mps", ...
            dtype: auto, float32, bfloat16 or float16; vectors are float32 whatever it is. "auto"
                computes in float32: vectors are compared with those of other machines.

        Raises:
            ModelError: The model is missing, is not a CLIP model, or lacks weights.
        """
        import torch
        from transformers import CLIPVisionModelWithProjection

        from igrag.fingerprints import weights_hash

        if dtype not in words(DType):
            raise ModelError(f"encoder dtype {dtype!r}: expected one of {', '.join(words(DType))}")
        self._device = resolve_device(device)
        self._dtype: torch.dtype = getattr(torch, "float32" if dtype == "auto" else dtype)
        with quiet_transformers():
            config = read_clip_config(model_path)
            vision = cast(Any, config.vision_config)
            model = load_tower(
                model_path,
                CLIPVisionModelWithProjection,
                vision,
                dimension=config.projection_dim,
            )
            self.preprocess = load_preprocessor(model_path, size=vision.image_size)
        self._identity = EncoderIdentity(
            name=Path(model_path).resolve().name if Path(model_path).is_dir() else model_path,
            dimension=len(model.get_parameter("visual_projection.weight")),
            weights_fingerprint=str(weights_hash(model)),  # in float32 there is one
            preprocessing=self.preprocess.settings,
        )
        self._model = model.eval().requires_grad_(False)
        self._model.to(device=self._device, dtype=self._dtype)

    @property
    def dtype(self) -> str:
        """The precision that the model computes in."""
        return str(self._dtype).removeprefix("torch.")

    @property
    def is_on_cpu(self) -> bool:
        """Whether the model computes on the CPU."""
        return self._device.type == "cpu"

    @property
    def identity(self) -> EncoderIdentity:
        """What a knowledge base records about its encoder."""
        return self._identity

    def encode(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Encodes RGB images as one batch.

        Returns:
            Unit vectors [B, D].
        """
        import torch

        if not images:
            return np.empty((0, self._identity.dimension), np.float32)
        return self.encode_pixels(torch.stack([self.preprocess(image) for image in images]))

    def encode_pixels(self, pixels: torch.Tensor) -> NDArray[np.float32]:
        """Encodes preprocessed images [B, 3, h, w].

        Returns:
            Unit vectors [B, D].

        Raises:
            ModelError: The model gave values that are not finite.
        """
        import torch

        size = len(pixels)
        with torch.inference_mode(), explain_out_of_memory("retrieval_config.batch_size", size):
            output = self._model(pixel_values=pixels.to(self._device, self._dtype))
            vectors = torch.nn.functional.normalize(output.image_embeds.float(), dim=-1)
        if not bool(torch.isfinite(vectors).all()):
            name, dtype = self._identity.name, self.dtype
            raise ModelError(
                f"{name}: the encoder gives values that are not finite in {dtype}; "
                "use retrieval_config.encoder_dtype: float32"
            )
        result: NDArray[np.float32] = vectors.cpu().numpy()
        return result


def read_clip_config(model_path: str) -> CLIPConfig:
    """Reads the configuration of a CLIP model.

    Raises:
        ModelError: It is missing, or not one of a CLIP model.
    """
    from transformers import CLIPConfig, PretrainedConfig

    try:
        data, _ = load_cached_first(PretrainedConfig.get_config_dict, model_path)
    except Exception as error:  # Odd content raises TypeError and others.
        local = Path(model_path)
        if local.is_dir():
            found = reason_of(error, local)
            reason = f"expected a CLIP model's config.json in this folder: {found}"
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
    if not isinstance(data, dict):
        raise ModelError(
            f"image encoder {model_path}: found {json_type_name(data)} in config.json, "
            "expected an object"
        )
    if data.get("model_type") != "clip":
        found = f"model_type {data['model_type']}" if data.get("model_type") else "no config.json"
        raise ModelError(f"image encoder {model_path}: expected a CLIP model, found {found}")
    try:
        return CLIPConfig.from_dict(data)
    except Exception as error:  # The library's checks of the values raise errors of their own.
        raise ModelError(
            f"image encoder {model_path}: config.json is not a CLIP model's ({reason_of(error)})"
        ) from error


def load_tower(
    model_path: str, tower: Any, config: Any, *, dimension: int | None
) -> torch.nn.Module:
    """Loads one tower in float32, whatever it was saved in, so that fingerprints agree.

    Args:
        model_path: Folder or hub id of the CLIP model.
        tower: The class of the tower with its projection.
        config: The tower's part of the model's configuration.
        dimension: Size D of the joint space.

    Raises:
        ModelError: The weights are damaged, incomplete or not finite.
    """
    import torch

    from igrag.finite import check_weights

    try:
        # The size of the joint space is the whole model's; a tower's part of its configuration
        # keeps the default 512 and the projection of another size would be refused.
        config.projection_dim = dimension
        model, report = from_pretrained(
            tower, model_path, config=config, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:
        # OSError, RuntimeError, safetensors' own, ...: whatever is wrong with the weights.
        reason = reason_of(error, Path(model_path))
        raise ModelError(
            f"image encoder {model_path}: the weights cannot be loaded ({reason})"
        ) from error
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise ModelError(f"image encoder {model_path}: weights are missing ({missing}, ...)")
    check_weights(model, f"image encoder {model_path}")
    loaded: torch.nn.Module = model
    return loaded


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silences the library's warning that the other tower's weights are not used."""
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
