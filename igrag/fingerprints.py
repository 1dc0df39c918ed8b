"""Identifies a model's weights, by a hash over a sample of every parameter, and a tokenizer."""

import hashlib
import json
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

# Values of each parameter that are hashed: another training changes nearly all of them, and hashing
# a large model as a whole would take seconds at every start.
_SAMPLED = 4096
# How PEFT names what it wraps: "base_model.model." first, a layer's own weights "base_layer" or
# "original_module", what it adds with one of the last two.
_PREFIX = "base_model.model."
_WRAPPERS = (".base_layer", ".original_module")
_ADDED = ("lora_", "modules_to_save.")


def weights_hash(model: nn.Module) -> str | None:
    """Hashes the base model's parameters; an adapter that is not merged into them does not count.

    A model in bfloat16 has the same hash as in float32.

    Args:
        model: The model, or a PeftModel around it.

    Returns:
        SHA-256 in hexadecimal; None for a model in float16, whose values are rounded differently.
    """
    parameters = base_parameters(model)
    if any(value.dtype == torch.float16 for value in parameters.values()):
        return None
    digest = hashlib.sha256()
    for name in sorted(parameters):
        value = parameters[name]
        digest.update(f"{name} {list(value.shape)}".encode())
        digest.update(rounded_bytes(sample(value)))
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns a SHA-256 that changes with the vocabulary and with how text is split."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state: Any = sorted(tokenizer.get_vocab().items())
    if backend is not None:
        state = json.loads(backend.to_str())
        # These hold how the last call padded and truncated.
        del state["truncation"], state["padding"]
    text = json.dumps([state, tokenizer.eos_token_id], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def base_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the base model's own parameters by name, without and inside a PeftModel alike."""
    return {
        _base_name(name): value
        for name, value in model.named_parameters()
        if not any(part in name for part in _ADDED)
    }


def rounded_bytes(tensor: Tensor) -> bytes:
    """Returns a tensor's values as bfloat16 bytes, the same for float32 and bfloat16."""
    values: Any = tensor.detach().to(torch.bfloat16).cpu().contiguous().view(torch.int16).numpy()
    content: bytes = values.tobytes()
    return content


def sample(value: Tensor) -> Tensor:
    """Returns some thousand values of a tensor, at equal distances."""
    flat = value.detach().flatten()
    return flat[:: max(1, len(flat) // _SAMPLED)]


def _base_name(name: str) -> str:
    name = name.removeprefix(_PREFIX)
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name
