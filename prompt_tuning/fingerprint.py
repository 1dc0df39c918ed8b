"""What a soft prompt belongs to: the model, tokenizer, template and adapter it was trained with."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from igrag.captioning.language_model import embedding_weight
from igrag.errors import CheckpointError, DataError
from igrag.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_json
from igrag.fingerprints import rounded_bytes, tokenizer_fingerprint, weights_hash
from igrag.inputs import check_regular, reason_of

NO_ADAPTER = "none"
_SHOWN = 12  # Characters of a hash in a message.
_OPTIONAL = ("tokenizer", "template", "lora")  # Not every caller knows them.


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Names and SHA-256 hashes; what is None is unknown and not compared.

    Attributes:
        model: Type and size of the base model, such as "t5, width 768, 12 + 12 layers".
        embeddings: Hash of its embedding matrix.
        tokenizer: Hash of the vocabulary and of how text is split.
        template: Hash of the prompt template.
        lora: Hash of the adapter that the prompt was trained on top of, "none" without one.
        weights: Hash of the base model's weights; files of the first version have none.
    """

    model: str | None
    embeddings: str | None
    tokenizer: str | None
    template: str | None
    lora: str | None
    weights: str | None = None

    def to_dict(self) -> dict[str, str | None]:
        """Returns the content of a prompt file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Fingerprint":
        """Reads the output of `to_dict`; unknown keys of a later version are ignored.

        Raises:
            ValueError: A value is not text.
        """
        wrong = [key for key, value in values.items() if not isinstance(value, str | None)]
        if wrong:
            raise ValueError(f"fingerprint: found {wrong[0]} that is not text, expected text")
        return cls(**{field.name: values.get(field.name) for field in fields(cls)})

    def differences(self, expected: "Fingerprint") -> list[str]:
        """Returns both sides of each difference, as text."""
        return [
            f"{name} {_show(found)} instead of {_show(wanted)}"
            for name in self.compared(expected)
            if (found := getattr(self, name)) != (wanted := getattr(expected, name))
        ]

    def compared(self, expected: "Fingerprint") -> list[str]:
        """Returns the names of the parts that are known on both sides."""
        return [
            field.name
            for field in fields(self)
            if None not in (getattr(self, field.name), getattr(expected, field.name))
        ]

    def not_compared(self, expected: "Fingerprint") -> list[str]:
        """Returns the names of the others, without optional ones that `expected` leaves open."""
        compared = self.compared(expected)
        return [
            field.name
            for field in fields(self)
            if field.name not in compared
            and not (field.name in _OPTIONAL and getattr(expected, field.name) is None)
        ]


def fingerprint_of(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    template: str | None = None,
    lora: str | None = None,
    weights: str | None = None,
) -> Fingerprint:
    """Makes the fingerprint of what is loaded.

    Args:
        model: The base model, or a PeftModel around it.
        tokenizer: Its tokenizer; None leaves it open.
        template: `PromptTemplate.fingerprint()`; None leaves it open.
        lora: `adapter_hash` of the model's adapter, merged or not, or `NO_ADAPTER`; None computes
            it from the model, where a merged adapter cannot be seen.
        weights: `LanguageModel.weights`; None computes it, if no merged adapter hides it.
    """
    config: Any = model.config
    is_wrapped = hasattr(model, "peft_config")
    if lora is None:
        lora = _loaded_adapter_hash(model) if is_wrapped else NO_ADAPTER
    if weights is None and (is_wrapped or lora == NO_ADAPTER):
        weights = weights_hash(model)
    decoders = getattr(config, "num_decoder_layers", config.num_hidden_layers)
    embeddings = embedding_weight(model)
    return Fingerprint(
        model=f"{config.model_type}, width {embeddings.shape[1]}, "
        f"{config.num_hidden_layers} + {decoders} layers",
        embeddings=_hash_embeddings(embeddings),
        tokenizer=tokenizer_fingerprint(tokenizer) if tokenizer else None,
        template=template,
        lora=lora,
        weights=weights,
    )


def adapter_hash(path: Path) -> str:
    """Hashes a LoRA adapter in PEFT's format: its weights and their scale.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    try:
        config = read_json(path / ADAPTER_CONFIG)
        check_regular(path / ADAPTER_WEIGHTS)
        return _hash_adapter(load_file(path / ADAPTER_WEIGHTS), config)
    except (OSError, ValueError, AttributeError, SafetensorError, DataError) as error:
        reason = reason_of(error, path)
        raise CheckpointError(
            f"{path}: damaged, or not a LoRA adapter in PEFT's format ({reason}); train it again"
        ) from error


def _loaded_adapter_hash(model: Any) -> str:
    from peft import get_peft_model_state_dict

    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    return _hash_adapter(tensors, model.peft_config[model.active_adapter].to_dict())


def _hash_adapter(tensors: dict[str, Tensor], config: dict[str, Any]) -> str:
    scales = {key: config.get(key) for key in ("r", "lora_alpha", "use_rslora", "use_dora")}
    if config.get("alpha_pattern"):  # Other scales for some layers; most adapters have none.
        scales["alpha_pattern"] = config["alpha_pattern"]
    digest = hashlib.sha256(json.dumps(scales, sort_keys=True).encode())
    for name in sorted(tensors):  # layers that were trained as a whole (modules_to_save) too
        digest.update(name.encode())
        digest.update(_bytes(tensors[name].float()))
    return digest.hexdigest()


def _hash_embeddings(embedding_weight: Tensor) -> str | None:
    """Equal for a model in bfloat16 and in float32; None in float16, which rounds otherwise."""
    if embedding_weight.dtype == torch.float16:
        return None
    return hashlib.sha256(rounded_bytes(embedding_weight)).hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def _show(value: str) -> str:
    is_hash = len(value) == hashlib.sha256().digest_size * 2 and " " not in value
    return f"{value[:_SHOWN]}..." if is_hash else value
