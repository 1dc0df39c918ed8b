"""CLIP's text tower: captions in, unit vectors out, in the space of the image encoder's vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from igrag.devices import resolve_device
from igrag.errors import ModelError
from igrag.hub import from_pretrained, reason_of
from igrag.retrieval.image_encoder import load_tower, quiet_transformers, read_clip_config

_BATCH = 256  # texts


class TextEncoder:
    """The text tower of any CLIP model in transformers' format; its image tower is not loaded."""

    def __init__(self, model_path: str, *, device: str = "auto") -> None:
        """Loads the tower in float32 and its tokenizer, frozen.

        Args:
            model_path: A folder with a CLIPModel, or a hub id.
            device: "auto", "cpu", "cuda", "cuda:1", "mps", ...

        Raises:
            ModelError: The model is missing, is not a CLIP model, or lacks weights or tokenizer.
        """
        from transformers import AutoTokenizer, CLIPTextModelWithProjection

        self._name = f"image encoder {model_path}"
        self._device = resolve_device(device)
        with quiet_transformers():
            config = read_clip_config(model_path)
            text = cast(Any, config.text_config)
            model = load_tower(
                model_path, CLIPTextModelWithProjection, text, dimension=config.projection_dim
            )
            try:
                self._tokenizer: Any = from_pretrained(AutoTokenizer, model_path)
            except Exception as error:  # Missing, damaged, or one that the library cannot read.
                raise ModelError(
                    f"image encoder {model_path}: the tokenizer of its text tower cannot be loaded "
                    f"({reason_of(error, Path(model_path))})"
                ) from error
        # Without its file the library makes an empty tokenizer, whose tokens mean nothing.
        if not text.vocab_size / 2 <= len(self._tokenizer) <= text.vocab_size:
            raise ModelError(
                f"image encoder {model_path}: found a tokenizer of {len(self._tokenizer)} tokens, "
                f"expected that of its text tower, about {text.vocab_size}"
            )
        self._max_length: int = text.max_position_embeddings
        self._model: Any = model.eval().requires_grad_(False).to(self._device)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encodes texts; a longer one is truncated to what the tower can read (77 tokens in CLIP).

        Returns:
            Unit vectors [B, D].

        Raises:
            ModelError: The model gave values that are not finite.
        """
        import torch

        vectors = np.empty((len(texts), self._model.config.projection_dim), np.float32)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), _BATCH):  # Texts of about equal length pad little.
            rows = order[start : start + _BATCH]
            # JSON can hold half a surrogate pair, the tokenizer cannot.
            batch = [texts[row].encode("utf-8", "replace").decode() for row in rows]
            tokens = self._tokenizer(
                batch, padding=True, truncation=True, max_length=self._max_length,
                return_tensors="pt",
            ).to(self._device)  # fmt: skip
            with torch.inference_mode():
                found = self._model(tokens["input_ids"], attention_mask=tokens["attention_mask"])
                units = torch.nn.functional.normalize(found.text_embeds, dim=-1)
            vectors[rows] = units.cpu().numpy()
        if not np.isfinite(vectors).all():
            raise ModelError(f"{self._name}: the text tower gives values that are not finite")
        return vectors
