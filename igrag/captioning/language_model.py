"""Loads the frozen seq2seq model that writes captions, with its tokenizer and a LoRA adapter."""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from igrag.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from igrag.captioning.adapter_base import BaseModel
from igrag.devices import resolve_device
from igrag.errors import CheckpointError, DataError, ModelError
from igrag.files import read_json
from igrag.fingerprints import weights_hash
from igrag.hub import is_fetch_failure, prepare_for, reason_of

_KIND = "LORA"  # as PEFT names it
_LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A frozen model in eval mode, its tokenizer, and what they were loaded from.

    Attributes:
        model: The model; a PeftModel around it where an adapter is not merged.
        tokenizer: Its tokenizer.
        name: Folder or hub id.
        lora_path: The adapter's folder, None without one.
        weights: `weights_hash` of the model without its adapter.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    lora_path: Path | None
    weights: str | None


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
        dtype: auto (bfloat16 on a GPU that has it, else float32) or a torch dtype's name.
        attn_implementation: eager or sdpa.
        lora_path: A PEFT adapter folder to load on top.
        merge_lora: Merge the adapter into the weights: the same numbers without overhead. One on
            weights that several layers share stays beside them, see `layers_on_shared`.

    Raises:
        ModelError: Not found, offline, damaged, not a seq2seq model, or tokenizer and model differ.
        CheckpointError: The adapter is missing, damaged, of another kind, or for another model.
    """
    if lora_path is not None:  # quicker to look at than the model is to load
        _check_adapter(lora_path)
    place = resolve_device(device)
    kind = resolve_dtype(dtype, place)
    tokenizer = load_tokenizer(path)
    model = _load_model(path, dtype=kind, attn_implementation=attn_implementation)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"{path}: the tokenizer has {len(tokenizer)} tokens and the model {rows} embeddings; "
            "they do not belong together"
        )
    weights = weights_hash(model)  # Before an adapter is merged, which changes them.
    if lora_path is not None:
        BaseModel(path, weights).check(lora_path)
        model = _with_adapter(model, lora_path, merge=merge_lora)
    model.requires_grad_(False)
    return LanguageModel(model.to(place).eval(), tokenizer, path, lora_path, weights)


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Loads a model's tokenizer alone; errors as `load_language_model`'s."""
    _check_seq2seq(path)
    tokenizer: PreTrainedTokenizerBase = _load(path, AutoTokenizer)
    return tokenizer


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Turns a config's dtype into torch's; "auto" is bfloat16 only on a GPU that has it."""
    if name != "auto":
        return getattr(torch, name)  # type: ignore[no-any-return]
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32


def _check_seq2seq(path: str) -> None:
    config = _load(path, AutoConfig)
    if not getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{path}: found a {config.model_type} model, expected a seq2seq model such as Flan-T5"
        )


def _load_model(path: str, **options: Any) -> PreTrainedModel:
    model: PreTrainedModel
    model, report = _load(path, AutoModelForSeq2SeqLM, output_loading_info=True, **options)
    if report["missing_keys"]:  # The library fills them with random numbers and goes on.
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise ModelError(f"{path}: weights are missing ({missing}, ...); expected a whole model")
    return model


def _load(path: str, factory: Any, **options: Any) -> Any:
    """Calls `factory.from_pretrained` and names the model in whatever goes wrong."""
    prepare_for(path)
    try:
        return factory.from_pretrained(path, **options)
    except Exception as error:
        # OSError, the tokenizers' bare Exception, AttributeError, the checks of a configuration:
        # whatever is wrong with a model's files.
        reason = reason_of(error)
        if Path(path).is_dir() and not isinstance(error, ImportError):
            raise ModelError(f"{path}: not a complete language model folder ({reason})") from error
        if is_fetch_failure(error):
            raise ModelError(
                f"{path}: no such folder, and the model cannot be fetched from the hub (offline, "
                "or no such id); download it once with a network, or give its local folder"
            ) from error
        raise ModelError(f"{path}: the language model cannot be loaded ({reason})") from error


def shared_weights(model: PreTrainedModel) -> frozenset[int]:
    """Finds the tensors that several layers share, by identity: T5's tied embeddings."""
    uses = Counter(id(tensor) for _, tensor in model.named_parameters(remove_duplicate=False))
    return frozenset(tensor for tensor, count in uses.items() if count > 1)


def layers_on_shared(adapted: Any, shared: frozenset[int]) -> list[str]:
    """Names the adapted layers whose weights other layers have too.

    The adapter is for that one layer; merged into the weights it would change the others as well,
    and with them what the model writes.

    Args:
        adapted: A PeftModel.
        shared: `shared_weights` of the model before the adapter was put on.
    """
    from peft.tuners.lora import LoraLayer

    return [
        name.removeprefix("base_model.model.")
        for name, layer in adapted.named_modules()
        if isinstance(layer, LoraLayer)
        and any(id(tensor) in shared for tensor in layer.get_base_layer().parameters())
    ]


def _with_adapter(model: PreTrainedModel, path: Path, *, merge: bool) -> Any:
    from peft import PeftModel

    base, shared = model.config.name_or_path, shared_weights(model)
    try:
        with safe_open(path / ADAPTER_WEIGHTS, "pt") as weights:
            saved = {name for name in weights.keys() if "lora_" in name}  # noqa: SIM118
        adapted = PeftModel.from_pretrained(model, str(path), is_trainable=False)
    except _LOADING_ERRORS as error:
        reason = reason_of(error)
        raise CheckpointError(f"{path}: this adapter does not fit {base} ({reason})") from error
    _check_complete(adapted, saved, path, base)
    if merge and (layers := layers_on_shared(adapted, shared)):
        logger.warning(
            "%s: adapts %s, whose weights other layers of %s share; merged it would change those "
            "too, so it runs beside the weights",
            path, ", ".join(layers), base,
        )  # fmt: skip
        return adapted
    return adapted.merge_and_unload() if merge else adapted


def _check_adapter(path: Path) -> None:
    """Makes sure that a LoRA adapter is there: PEFT would load other kinds just as well."""
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (path / name).is_file():
            raise CheckpointError(
                f"{path}: no LoRA adapter there ({name} is missing); train one with python "
                "lora_training/train_lora.py --all, name another folder, or switch LoRA off"
            )
    try:
        config = read_json(path / ADAPTER_CONFIG)
    except DataError as error:
        raise CheckpointError(str(error)) from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != _KIND:
        raise CheckpointError(
            f"{path / ADAPTER_CONFIG}: found an adapter of the type {kind}, expected {_KIND}; name "
            "the folder of a LoRA adapter, or switch LoRA off"
        )


def _check_complete(adapted: Any, saved: set[str], path: Path, base: str) -> None:
    """Compares names: PEFT leaves out what has no place, and starts again what is not in the file.

    Args:
        adapted: The model with its adapter.
        saved: The tensors of the adapter's file.
        path: The adapter's folder.
        base: The model's name.
    """
    from peft import get_peft_model_state_dict

    expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    odd = sorted(saved ^ {name for name in expected if "lora_" in name})
    if odd:
        raise CheckpointError(
            f"{path}: this adapter does not fit {base} (one of them lacks {odd[0]})"
        )
