"""The loss, the gradient of a window, the optimizer and its rate."""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from igrag.data.batching import LABEL_IGNORED
from igrag.errors import TrainingError
from prompt_tuning.global_batches import Window
from prompt_tuning.prompt_tuner import PromptTuner

_SCHEDULES = {
    "constant": "constant_with_warmup",
    "linear": "linear",
    "cosine": "cosine",
}


def summed_loss(tuner: PromptTuner, batch: Mapping[str, Tensor]) -> Tensor:
    """Adds up the cross-entropy of a batch's target tokens, in float32.

    The model's own loss is a mean over the batch's tokens, from which no mean over a window can
    be made, and it is rounded to the model's dtype.
    """
    labels = batch["labels"]  # [B, L]
    shifted = tuner.model.prepare_decoder_input_ids_from_labels(labels)
    logits = tuner(
        batch["input_ids"], batch["attention_mask"], decoder_input_ids=shifted
    ).logits  # [B, L, V]
    return token_losses(logits, labels)


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Adds up the cross-entropy of logits [B, L, V] where labels [B, L] are not -100."""
    return cross_entropy(
        logits.flatten(0, 1).float(),
        labels.flatten(),
        ignore_index=LABEL_IGNORED,
        reduction="sum",
    )


class WindowGradient:
    """Adds up the gradients of a window's micro-batches, in float64.

    In float64 the sum is the same whatever the order and the process a micro-batch came from.

    Args:
        parameters: What is trained.
        accelerator: Knows the other processes.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], accelerator: Accelerator) -> None:
        self._parameters = list(parameters)
        self._accelerator = accelerator
        device = accelerator.device
        wide = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64.
        sizes = [parameter.numel() for parameter in self._parameters]
        # One tensor, with the loss at its end: one exchange between the processes.
        self._sum = torch.zeros(sum(sizes) + 1, dtype=wide, device=device)
        self._parts = torch.split(self._sum[:-1], sizes)

    def clear(self) -> None:
        """Begins a window."""
        self._sum.zero_()

    def add(self, loss: Tensor) -> None:
        """Adds the gradient of a micro-batch's share of the window's loss."""
        gradients = torch.autograd.grad(loss, self._parameters)
        for part, gradient in zip(self._parts, gradients, strict=True):
            part += gradient.flatten()
        self._sum[-1] += loss.detach()

    def hand_over(self) -> float:
        """Adds up over the processes, sets each parameter's .grad, and returns the loss.

        Raises:
            TrainingError: The loss or the gradient is not finite.
        """
        total = self._accelerator.reduce(self._sum, reduction="sum")
        if not total.isfinite().all():
            raise TrainingError(
                "the loss or its gradient is not finite; lower training.learning_rate, "
                "or set training.mixed_precision to fp32"
            )
        sizes = [len(part) for part in self._parts]
        for parameter, part in zip(self._parameters, torch.split(total[:-1], sizes), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)
        return float(total[-1])


def window_gradient(
    tuner: PromptTuner, window: Window, gradient: WindowGradient, accelerator: Accelerator
) -> float:
    """Sets the gradient of a window, as one big batch would give it, and returns the loss.

    Each micro-batch counts by its share of the window's target tokens.

    Raises:
        TrainingError: The loss or the gradient is not finite.
    """
    gradient.clear()
    for batch in window.batches:
        with accelerator.autocast():
            loss = summed_loss(tuner, batch) / window.target_tokens
        gradient.add(loss)
    return gradient.hand_over()


def clip_gradient(tuner: PromptTuner, max_norm: float | None) -> float:
    """Scales the gradient down to `max_norm` where it is longer; None leaves it.

    Returns:
        Its norm before.
    """
    norm = nn.utils.clip_grad_norm_(tuner.trainable_parameters(), max_norm or float("inf"))
    return float(norm)


def seed_dropout(tuner: PromptTuner, seed: int, step: int, process: int) -> None:
    """Makes the dropout of a step depend on these alone: a resumed training drops the same."""
    if tuner.model.training:
        torch.manual_seed((seed * 1_000_003 + step) * 1_009 + process)


def build_optimizer(
    parameters: Iterable[nn.Parameter],
    name: Literal["adamw", "adafactor"],
    *,
    learning_rate: float,
    weight_decay: float,
) -> Optimizer:
    """Makes the optimizer.

    Raises:
        TrainingError: There is nothing to train.
    """
    tensors = list(parameters)
    if not tensors:
        raise TrainingError("nothing is trainable, expected the prompt")
    kind = {"adamw": torch.optim.AdamW, "adafactor": torch.optim.Adafactor}[name]
    optimizer: Optimizer = kind(tensors, lr=learning_rate, weight_decay=weight_decay)
    return optimizer


def build_scheduler(
    optimizer: Optimizer,
    name: Literal["constant", "linear", "cosine"],
    *,
    warmup_ratio: float,
    total_steps: int,
) -> LRScheduler:
    """Makes the schedule of the rate over `total_steps` steps."""
    scheduler: LRScheduler = get_scheduler(
        _SCHEDULES[name],
        optimizer,
        num_warmup_steps=round(warmup_ratio * total_steps),
        num_training_steps=total_steps,
    )
    return scheduler
