"""LoRA adapters: their files, loading one onto a model, and the base model it was trained on.

`base_model.json` next to PEFT's files, which PEFT ignores, identifies the base model: an adapter of
the same shapes loads on any model, and is only right on its own.
"""

import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from igrag.captioning.adapter_config import check_adapter_config, check_fits
from igrag.errors import CheckpointError, DataError
from igrag.files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    BASE_NAME,
    is_file,
    read_json,
    write_json,
)
from igrag.finite import find_not_finite
from igrag.hub import fetch, reason_of

# What PEFT wrote before version 0.7, and how it becomes safetensors without running its code.
_OLD_WEIGHTS = "adapter_model.bin"
_CONVERT = (
    'python -c "import torch, safetensors.torch as s; s.save_file(torch.load('
    f"'{_OLD_WEIGHTS}', weights_only=True), '{ADAPTER_WEIGHTS}')\""
)
_SHOWN = 12  # characters of a hash in a message
_LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BaseModelIdentity:
    """The model that an adapter belongs to.

    Attributes:
        name: Folder or hub id; shown, never compared, because a folder may be moved.
        weights: `igrag.fingerprints.weights_hash` of it, None where it has none.
    """

    name: str
    weights: str | None

    def write(self, folder: Path) -> None:
        """Writes base_model.json next to an adapter."""
        write_json(folder / BASE_NAME, asdict(self))

    def check(self, folder: Path) -> None:
        """Checks that an adapter was trained on this model, where its folder identifies one.

        Raises:
            CheckpointError: It was trained on another one, or the file is damaged.
        """
        path = folder / BASE_NAME
        if not path.is_file():  # An adapter from elsewhere.
            return
        trained_on = _read_identity(path)
        if self.weights is None or trained_on.weights is None:
            logger.warning(
                "%s: cannot be compared with the weights of %s, for in float16 they have no hash",
                path, self.name,
            )  # fmt: skip
        elif self.weights != trained_on.weights:
            raise CheckpointError(
                f"{folder}: was trained on {trained_on.name} (weights "
                f"{trained_on.weights[:_SHOWN]}...), found {self.name} (weights "
                f"{self.weights[:_SHOWN]}...); use that model, or train an adapter for this one"
            )


def find_adapter(path: Path) -> Path:
    """Returns an adapter's folder: the path itself, or the local copy of a hub id's.

    Raises:
        CheckpointError: It is a hub id, and cannot be fetched; see `igrag.hub.fetch`.
    """
    return fetch(path, (ADAPTER_CONFIG, ADAPTER_WEIGHTS), optional=(BASE_NAME,))


def check_adapter(path: Path) -> None:
    """Checks that a folder holds a LoRA adapter: PEFT would load adapters of other types as well.

    Raises:
        CheckpointError: It does not.
    """
    refuse_old_weights(path)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not is_file(path / name):
            raise CheckpointError(
                f"{path}: no LoRA adapter there ({name} is missing); train one with python "
                "lora_training/train_lora.py --all, name another folder, or disable LoRA"
            )
    check_adapter_config(path)


def refuse_old_weights(path: Path) -> None:
    """Checks that an adapter's weights are not those of PEFT before version 0.7 alone.

    Raises:
        CheckpointError: They are; with the command that converts them.
    """
    if is_file(path / _OLD_WEIGHTS) and not is_file(path / ADAPTER_WEIGHTS):
        raise CheckpointError(
            f"{path / _OLD_WEIGHTS}: found PyTorch's old pickle format, expected "
            f"{ADAPTER_WEIGHTS}; convert it, in its folder: {_CONVERT}"
        )


def load_adapter(model: PreTrainedModel, path: Path, *, merge: bool) -> Any:
    """Loads an adapter onto a model, which is changed by it.

    Args:
        model: The base model.
        path: The adapter's folder, see `check_adapter`.
        merge: Merge it into the weights. One on weights that several layers share, see
            `layers_on_shared`, or with a bias stays separate.

    Returns:
        The model with the adapter merged, or a PeftModel around it.

    Raises:
        CheckpointError: The adapter is damaged, or for another model.
    """
    from peft import PeftModel

    base, shared = model.config.name_or_path, shared_weights(model)
    try:
        with safe_open(path / ADAPTER_WEIGHTS, "pt") as weights:
            saved = {name for name in weights.keys() if "lora_" in name}  # noqa: SIM118
            ranks = [_rank(weights, name) for name in saved if _is_down_projection(name)]
            wrong = find_not_finite((name, weights.get_tensor(name)) for name in weights.keys())  # noqa: SIM118
        names = [name for name, _ in model.named_modules()]
        check_fits(path, check_adapter_config(path), names, ranks)
        adapted = PeftModel.from_pretrained(model, str(path), is_trainable=False)
    except _LOADING_ERRORS as error:
        reason = reason_of(error, path)
        raise CheckpointError(f"{path}: this adapter does not fit {base} ({reason})") from error
    if wrong is not None:
        raise CheckpointError(
            f"{path / ADAPTER_WEIGHTS}: {wrong} holds values that are not finite, expected "
            "numbers; its training diverged: train it again with a lower learning rate"
        )
    _check_complete(adapted, saved, path, base)
    if merge and getattr(adapted.peft_config["default"], "lora_bias", False):
        logger.warning(
            "%s: has a bias (lora_bias), which layers without one cannot take; it is not merged",
            path,
        )
        return adapted
    if merge and (layers := layers_on_shared(adapted, shared)):
        logger.warning(
            "%s: adapts %s, whose weights other layers of %s share; merging would change those "
            "too, so it is not merged",
            path, ", ".join(layers), base,
        )  # fmt: skip
        return adapted
    return adapted.merge_and_unload() if merge else adapted


def shared_weights(model: PreTrainedModel) -> frozenset[int]:
    """Returns the `id` of each tensor that several layers share, such as T5's tied embeddings."""
    uses = Counter(id(tensor) for _, tensor in model.named_parameters(remove_duplicate=False))
    return frozenset(tensor for tensor, count in uses.items() if count > 1)


def layers_on_shared(adapted: Any, shared: frozenset[int]) -> list[str]:
    """Returns the names of the adapted layers whose weights other layers share.

    The adapter is for that one layer; merged into the weights it would change the others as well,
    and with them the generated captions.

    Args:
        adapted: A PeftModel.
        shared: `shared_weights` of the model before the adapter was added.
    """
    from peft.tuners.lora import LoraLayer

    return [
        name.removeprefix("base_model.model.")
        for name, layer in adapted.named_modules()
        if isinstance(layer, LoraLayer)
        and any(id(tensor) in shared for tensor in layer.get_base_layer().parameters())
    ]


def _is_down_projection(name: str) -> bool:
    return "lora_A" in name or "lora_embedding_A" in name


def _rank(weights: Any, name: str) -> int:
    shape: list[int] = weights.get_slice(name).get_shape()  # [r, ...], without reading it
    return shape[0] if shape else 0


def _check_complete(adapted: Any, saved: set[str], path: Path, base: str | None) -> None:
    """Compares the adapter's tensors with those of the file.

    PEFT drops tensors for layers that the model lacks, and initializes those missing in the file.
    """
    from peft import get_peft_model_state_dict

    expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    different = sorted(saved ^ {name for name in expected if "lora_" in name})
    if different:
        raise CheckpointError(
            f"{path}: this adapter does not fit {base} (one of them lacks {different[0]})"
        )


def _read_identity(path: Path) -> BaseModelIdentity:
    content = _read(path)
    name, weights = (
        (content.get("name"), content.get("weights")) if isinstance(content, dict) else (None, None)
    )
    if not isinstance(name, str) or not isinstance(weights, str | None):
        raise CheckpointError(f'{path}: expected {{"name", "weights"}} as texts; train it again')
    return BaseModelIdentity(name, weights)


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except DataError as error:
        raise CheckpointError(str(error)) from None
