"""A model whose LoRA adapter is off while it generates."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformers import GenerationConfig

from igrag.captioning.base_weights import BaseWeights
from igrag.captioning.generator import GenerativeModel, generate_tokens, takes_image_vectors


class WithoutAdapter:
    """A model with its adapter disabled while it generates.

    Args:
        adapted: A PeftModel.
        model: The PeftModel itself, or a PromptTuner or an ensemble around it.
        base_weights: Weights that loading the adapter changed.
    """

    def __init__(
        self, adapted: Any, model: GenerativeModel, base_weights: BaseWeights | None = None
    ) -> None:
        self._adapted = adapted
        self._model = model
        self._base_weights = base_weights or BaseWeights()

    @property
    def takes_image_vectors(self) -> bool:
        """Whether the model generates from the vectors of the images, too."""
        return takes_image_vectors(self._model)

    def generate(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor,
        generation_config: GenerationConfig,
        **options: Any,
    ) -> Tensor:
        """Returns token ids [B, L] for ids and mask [B, T]; see `GenerativeModel`."""
        with self.disabled() as model:
            return generate_tokens(
                model,
                input_ids=input_ids,
                attention_mask=attention_mask,
                generation_config=generation_config,
                **options,
            )

    @contextmanager
    def disabled(self) -> Iterator[GenerativeModel]:
        """Gives the model; inside the block, its adapter is disabled."""
        try:
            with self._adapted.disable_adapter(), self._base_weights.restored():
                yield self._model
        finally:
            self._adapted.requires_grad_(False)  # PEFT unfreezes an adapter that it enables again.
