"""The LoRA adapter on a frozen model (Hu et al. 2021), and what must hold before it is trained."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel, set_seed

from igrag.captioning.adapters import layers_on_shared, shared_weights
from igrag.errors import ConfigError, TrainingError

_SHORTEST = 2  # A token and the end token.
logger = logging.getLogger(__name__)


def add_adapter(
    model: PreTrainedModel,
    *,
    name: str,
    r: int,
    lora_alpha: int,
    lora_dropout: float,
    target_modules: Sequence[str],
    seed: int,
) -> PeftModel:
    """Puts an adapter beside layers of a frozen model; as it begins it changes nothing.

    Args:
        model: The model, which keeps its weights.
        name: What the adapter's files call it.
        r: Rank: each layer W [out, in] gets B [out, r] and A [r, in].
        lora_alpha: B A x is scaled by lora_alpha / r.
        lora_dropout: Share of x that is dropped while training.
        target_modules: Last parts of the layers' names, such as "q".
        seed: Decides A; B is zero.

    Raises:
        ConfigError: A target module is not there, or of a kind that cannot have an adapter.
    """
    lora = LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM,
        r=r,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        target_modules=list(target_modules),
    )
    set_seed(seed)
    shared = shared_weights(model)
    try:
        adapted = get_peft_model(model, lora)
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"lora.target_modules: {reason}") from None
    _check_targets(adapted, target_modules, name)
    if layers := layers_on_shared(adapted, shared):
        logger.warning(
            "lora.target_modules: other layers of %s share the weights of %s; captioning will run "
            "the adapter beside the weights, for merged it would change those layers too",
            name, ", ".join(layers),
        )  # fmt: skip
    adapted.peft_config["default"].base_model_name_or_path = name
    return adapted


def check_before_training(
    model: PeftModel,
    batch: Mapping[str, Tensor],
    *,
    source_lengths: Sequence[int],
    target_lengths: Sequence[int],
) -> None:
    """Checks model and data together; changes nothing but the random state.

    Args:
        model: What will be trained.
        batch: A first batch, on the model's device.
        source_lengths: Each example's prompt in tokens, after cutting.
        target_lengths: Each example's target in tokens, after cutting.

    Raises:
        TrainingError: Something does not hold; all of it is named.
    """
    problems = [*_check_tensors(model), *_check_lengths(source_lengths, target_lengths)]
    problems += [] if problems else _check_gradient(model, batch)
    if problems:
        raise TrainingError(f"self-check before training: {'; '.join(problems)}")


def _check_targets(adapted: PeftModel, targets: Sequence[str], name: str) -> None:
    """PEFT is content if one of several names is found."""
    found = {part for path in adapted.targeted_module_names for part in _endings(path)}
    missing = [target for target in targets if target not in found]
    if missing:
        raise ConfigError(
            f"lora.target_modules: {name} has no layer {', '.join(missing)}, expected names "
            "such as T5's q, k, v and o"
        )


def _endings(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def _trainable(model: PeftModel) -> dict[str, Any]:
    return {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}


def _check_tensors(model: PeftModel) -> list[str]:
    trainable = _trainable(model)
    foreign = [name for name in trainable if "lora_" not in name]
    frozen = [
        name
        for name, tensor in model.named_parameters()
        if "lora_" in name and not tensor.requires_grad
    ]
    problems = [] if trainable else ["nothing is trainable, expected the adapter"]
    if foreign:
        problems.append(
            f"{len(foreign)} tensors of the base model are trainable (such as {foreign[0]}), "
            "expected them frozen"
        )
    if frozen:
        problems.append(
            f"{len(frozen)} tensors of the adapter are frozen (such as {frozen[0]}), "
            "expected them trainable"
        )
    return problems


def _check_lengths(source_lengths: Sequence[int], target_lengths: Sequence[int]) -> list[str]:
    sides = {
        "training.max_source_length": source_lengths,
        "training.max_target_length": target_lengths,
    }
    return [
        f"{count} of {len(lengths)} examples keep nothing but an end token; raise {key}"
        for key, lengths in sides.items()
        if (count := sum(length < _SHORTEST for length in lengths))
    ]


def _check_gradient(model: PeftModel, batch: Mapping[str, Tensor]) -> list[str]:
    """Every tensor must have a part in the loss, and at least one a gradient.

    B begins at zero, so that A's gradient is zero before the first step.
    """
    trainable = _trainable(model)
    model.train()
    loss = model(**batch).loss
    gradients: Sequence[Tensor | None] = [None] * len(trainable)
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss, list(trainable.values()), allow_unused=True)
    found = dict(zip(trainable, gradients, strict=True))
    unused = [name for name, gradient in found.items() if gradient is None]
    if unused:
        return [f"{len(unused)} tensors of the adapter have no part in the loss ({unused[0]}, ...)"]
    whole = torch.cat([gradient.flatten() for gradient in found.values() if gradient is not None])
    if not whole.isfinite().all():
        return ["the adapter's gradient is not finite"]
    return [] if whole.any() else ["the adapter gets no gradient"]
