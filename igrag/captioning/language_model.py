"""Loads the frozen seq2seq model that generates captions, with its tokenizer and LoRA adapter."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from igrag.captioning.adapters import (
    BaseModelIdentity,
    check_adapter,
    find_adapter,
    load_adapter,
)
from igrag.captioning.base_weights import BaseWeights, changes_base_weights
from igrag.captioning.fused_layers import fuse_layers
from igrag.devices import resolve_device, resolve_dtype
from igrag.errors import ModelError
from igrag.fingerprints import weights_hash
from igrag.finite import check_weights, watch_logits
from igrag.hub import from_pretrained, is_fetch_failure, reason_of


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A frozen model in eval mode, its tokenizer, and what they were loaded from.

    Attributes:
        model: The model; a PeftModel around it where an adapter is not merged.
        tokenizer: Its tokenizer.
        name: Folder or hub id.
        lora_path: The adapter's folder, None without one.
        weights: `weights_hash` of the model without its adapter.
        base_weights: The base model's values of weights that loading the adapter changed.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    lora_path: Path | None
    weights: str | None
    base_weights: BaseWeights = field(default_factory=BaseWeights)


def load_language_model(
    path: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    attn_implementation: str = "eager",
    lora_path: Path | None = None,
    merge_lora: bool = True,
) -> LanguageModel:
    """Loads a seq2seq model such as Flan-T5 and freezes it.

    Args:
        path: Folder or hub id.
        device: auto, cpu, cuda, cuda:N or mps.
        dtype: A torch dtype's name, or auto: bfloat16 where the device is faster with it, else
            float32.
        attn_implementation: eager or sdpa.
        lora_path: A PEFT adapter's folder or hub id, to load on top.
        merge_lora: Merge the adapter into the weights: the same numbers without overhead; see
            `load_adapter`.

    Raises:
        ModelError: Not found, offline, damaged, not a seq2seq model, or tokenizer and model differ;
            later, where it computes values that are not finite.
        CheckpointError: The adapter is missing, damaged, not LoRA, or for another model.
    """
    if lora_path is not None:  # quicker to check than the model is to load
        lora_path = find_adapter(lora_path)
        check_adapter(lora_path)
    torch_device = resolve_device(device)
    torch_dtype = resolve_dtype(dtype, torch_device)
    tokenizer = load_tokenizer(path)
    model = _load_model(path, dtype=torch_dtype, attn_implementation=attn_implementation)
    embeddings = len(embedding_weight(model))
    if len(tokenizer) > embeddings:
        raise ModelError(
            f"{path}: the tokenizer has {len(tokenizer)} tokens and the model {embeddings} "
            "embeddings; they do not belong together"
        )
    check_weights(model, path)
    fuse_layers(model)
    watch_logits(model, path)
    weights = weights_hash(model)  # Before an adapter is merged, which changes them.
    base_weights = BaseWeights()
    if lora_path is not None:
        BaseModelIdentity(path, weights).check(lora_path)
        if not merge_lora and changes_base_weights(lora_path):
            base_weights = BaseWeights.copy_of(model)
        model = load_adapter(model, lora_path, merge=merge_lora)
    model.requires_grad_(False)
    model = cast(Any, model).to(torch_device).eval()  # The library's `to` has a wrong signature.
    base_weights.keep_changed(model)
    return LanguageModel(model, tokenizer, path, lora_path, weights, base_weights)


def embedding_weight(model: nn.Module) -> Tensor:
    """Returns the input embeddings [V, H] of a model, or of a PeftModel around it."""
    embedding: nn.Embedding = cast(Any, model).get_input_embeddings()
    return embedding.weight


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Loads a model's tokenizer alone; errors as `load_language_model`'s."""
    config = _load(path, AutoConfig)
    if not getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{path}: found a {config.model_type} model, expected a seq2seq model such as Flan-T5"
        )
    tokenizer: PreTrainedTokenizerBase = _load(path, AutoTokenizer)
    return tokenizer


def _load_model(path: str, **options: Any) -> PreTrainedModel:
    model: PreTrainedModel
    model, report = _load(path, AutoModelForSeq2SeqLM, output_loading_info=True, **options)
    if report["missing_keys"]:  # The library fills them with random numbers and goes on.
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise ModelError(f"{path}: weights are missing ({missing}, ...); expected a whole model")
    _complete_ids(model, path)
    return model


def _complete_ids(model: PreTrainedModel, path: str) -> None:
    """Takes ids that config.json leaves open from generation_config.json."""
    for name in ("decoder_start_token_id", "pad_token_id"):
        if getattr(model.config, name, None) is None:
            setattr(model.config, name, getattr(model.generation_config, name, None))
    if model.config.decoder_start_token_id is None:
        raise ModelError(
            f"{path}: neither config.json nor generation_config.json has decoder_start_token_id, "
            "expected the token that captions begin with; add it"
        )


def _load(path: str, factory: Any, **options: Any) -> Any:
    """Calls `factory.from_pretrained` and names the model in whatever goes wrong."""
    try:
        return from_pretrained(factory, path, **options)
    except Exception as error:
        # OSError, the tokenizers' bare Exception, AttributeError, the checks of a configuration:
        # whatever is wrong with a model's files.
        reason = reason_of(error, Path(path))
        if Path(path).is_dir() and not isinstance(error, ImportError):
            raise ModelError(f"{path}: not a complete language model folder ({reason})") from error
        if is_fetch_failure(error):
            raise ModelError(
                f"{path}: no such folder, and the model cannot be fetched from the hub (offline, "
                "or no such id); download it once with a network, or give its local folder"
            ) from error
        raise ModelError(f"{path}: the language model cannot be loaded ({reason})") from error
