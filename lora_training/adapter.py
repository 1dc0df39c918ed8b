"""The LoRA adapter on a frozen model (Hu et al. 2021), and the checks before its training."""

import logging
from collections.abc import Mapping, Sequence

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel, set_seed

from igrag.captioning.adapters import layers_on_shared, shared_weights
from igrag.errors import ConfigError
from igrag.training.self_check import check_gradients, check_lengths, raise_problems

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
    """Adds an adapter to layers of a frozen model; before training it changes no output.

    Args:
        model: The model, which keeps its weights.
        name: Name of the base model in the adapter's files.
        r: Rank: each layer W [out, in] gets B [out, r] and A [r, in].
        lora_alpha: B A x is scaled by lora_alpha / r.
        lora_dropout: Dropout probability of x during training.
        target_modules: Last parts of the layers' names, such as "q".
        seed: Seed of A's initialization; B is zero.

    Raises:
        ConfigError: A target module is missing, or of a type that cannot have an adapter.
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
            "lora.target_modules: other layers of %s share the weights of %s; captioning will not "
            "merge the adapter, since that would change those layers too",
            name, ", ".join(layers),
        )  # fmt: skip
    adapted.peft_config["default"].base_model_name_or_path = name
    return adapted


def enter_training(model: PeftModel, *, model_dropout: bool) -> None:
    """Puts the adapter in training mode, and the frozen model in eval mode.

    Args:
        model: The model with its adapter.
        model_dropout: The frozen model drops out, too, as by `model.train()`. On a CPU that
            costs a quarter of a step's time and of its memory (benchmarks/README.md).
    """
    model.train(model_dropout)
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.train()


def check_before_training(
    model: PeftModel,
    batch: Mapping[str, Tensor],
    *,
    source_lengths: Sequence[int],
    target_lengths: Sequence[int],
) -> None:
    """Checks model and data together; changes nothing but the random state.

    Args:
        model: The model with its adapter, see `enter_training`.
        batch: A first batch, on the model's device.
        source_lengths: Length of each prompt in tokens, after truncation.
        target_lengths: Length of each target in tokens, after truncation.

    Raises:
        TrainingError: Something is wrong; all of it is named.
    """
    trainable = {name: each for name, each in model.named_parameters() if each.requires_grad}
    problems = [
        *_check_trainable(model, trainable),
        *check_lengths(
            {
                "training.max_source_length": source_lengths,
                "training.max_target_length": target_lengths,
            }
        ),
    ]
    raise_problems(problems)
    loss = model(**batch).loss
    gradients: Sequence[Tensor | None] = [None] * len(trainable)
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss, list(trainable.values()), allow_unused=True)
    raise_problems(check_gradients(dict(zip(trainable, gradients, strict=True)), owner="adapter"))


def _check_targets(adapted: PeftModel, targets: Sequence[str], name: str) -> None:
    # PEFT accepts target modules if it finds at least one of them.
    found = {ending for path in adapted.targeted_module_names for ending in _endings(path)}
    missing = [target for target in targets if target not in found]
    if missing:
        raise ConfigError(
            f"lora.target_modules: {name} has no layer {', '.join(missing)}, expected names "
            "such as T5's q, k, v and o"
        )


def _endings(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def _check_trainable(model: PeftModel, trainable: Mapping[str, nn.Parameter]) -> list[str]:
    base = [name for name in trainable if "lora_" not in name]
    frozen = [
        name
        for name, tensor in model.named_parameters()
        if "lora_" in name and not tensor.requires_grad
    ]
    problems = [] if trainable else ["nothing is trainable, expected the adapter"]
    if base:
        problems.append(
            f"{len(base)} tensors of the base model are trainable (such as {base[0]}), "
            "expected them frozen"
        )
    if frozen:
        problems.append(
            f"{len(frozen)} tensors of the adapter are frozen (such as {frozen[0]}), "
            "expected them trainable"
        )
    return problems
