"""Generation in which the beams of a caption share the keys and values of its prompt.

All beams of a caption attend to the same encoder states. The library nevertheless projects the
states to keys and values once for each beam, and copies both at every step of beam search.
"""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    T5ForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutput

# Earlier versions of transformers 5 call the argument past_key_values.
_CACHE = "cache" if "cache" in signature(T5ForConditionalGeneration.forward).parameters else (
    "past_key_values"
)  # fmt: skip


class CrossAttentionCache(DynamicCache):
    """Keys and values of the encoder states, each [B, heads, S, D] a layer."""

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Leaves them as they are: a beam is replaced by another of the same caption."""


@torch.no_grad()
def generate(model: Any, encoder_inputs: Mapping[str, Tensor], **options: Any) -> Tensor:
    """Generates as the model's own `generate`, which computes the same for each beam.

    Args:
        model: A seq2seq model of transformers, or a PeftModel around one.
        encoder_inputs: input_ids [B, T] or inputs_embeds [B, T, H], and attention_mask [B, T].
        **options: As the model's `generate` takes them.

    Returns:
        Token ids [B, L].
    """
    states: Tensor = model.get_encoder()(**encoder_inputs).last_hidden_state
    return generate_from(model, states, encoder_inputs["attention_mask"], **options)


@torch.no_grad()
def generate_from(
    model: Any,
    states: Tensor,
    mask: Tensor,
    *,
    keys_and_values: CrossAttentionCache | None = None,
    **options: Any,
) -> Tensor:
    """Generates from encoder states; see `generate`.

    Args:
        model: As for `generate`.
        states: [B, S, H].
        mask: [B, S].
        keys_and_values: Those of the states, if `forward_from` has computed them; they serve once.
        **options: As for `generate`.
    """
    if keys_and_values is None:
        keys_and_values = CrossAttentionCache()
        any_token = states.new_zeros((len(states), 1), dtype=torch.long)
        forward_from(
            model, states, mask, keys_and_values=keys_and_values, decoder_input_ids=any_token
        )
    copies = _copies(options.get("generation_config") or model.generation_config, options)
    if copies > 1:
        keys_and_values.batch_repeat_interleave(copies)
    options[_CACHE] = EncoderDecoderCache(DynamicCache(), keys_and_values)
    # A new object at every call: beam search expands the states in place.
    encoded = BaseModelOutput(last_hidden_state=states)
    tokens: Tensor = model.generate(encoder_outputs=encoded, attention_mask=mask, **options)
    return tokens


def forward_from(
    model: Any,
    states: Tensor,
    mask: Tensor,
    *,
    keys_and_values: CrossAttentionCache | None = None,
    **options: Any,
) -> Any:
    """Runs the decoder on encoder states.

    Args:
        model: As for `generate`.
        states: [B, S, H].
        mask: [B, S].
        keys_and_values: An empty cache, where those of the states are kept for `generate_from`.
        **options: As the model's forward takes them, such as decoder_input_ids.

    Returns:
        The model's output.
    """
    if keys_and_values is not None:
        options[_CACHE] = EncoderDecoderCache(DynamicCache(), keys_and_values)
    options["use_cache"] = keys_and_values is not None
    encoded = BaseModelOutput(last_hidden_state=states)
    return model(encoder_outputs=encoded, attention_mask=mask, **options)


def _copies(config: GenerationConfig, options: Mapping[str, Any]) -> int:
    """Returns how many sequences are decoded at once for each row."""
    names = ("num_beams", "num_return_sequences")
    return max(options.get(name, getattr(config, name)) or 1 for name in names)
