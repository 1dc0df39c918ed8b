"""The loss of a micro-batch, the gradient of a global batch, the optimizer and its schedule."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from igrag.config import choices
from igrag.errors import TrainingError
from igrag.training.loss import head_on_targets, summed_cross_entropy
from igrag.training.schedules import SCHEDULES
from igrag.training.shared_steps import step_seed
from prompt_tuning.prompt_tuner import PromptTuner

_OPTIMIZERS = {"adamw": torch.optim.AdamW, "adafactor": torch.optim.Adafactor}


def summed_loss(tuner: PromptTuner, batch: Mapping[str, Tensor]) -> Tensor:
    """Returns the summed cross-entropy of a batch's target tokens, in nats and in float32.

    Args:
        tuner: The model with its soft prompt.
        batch: input_ids and attention_mask [B, T], labels [B, L], for an image prompt image_vectors
            [B, D].
    """
    with head_on_targets(tuner.model, batch["labels"]) as (decoder_input_ids, labels):
        logits = tuner(
            batch["input_ids"],
            batch["attention_mask"],
            image_vectors=batch.get("image_vectors"),
            decoder_input_ids=decoder_input_ids,
        ).logits
    return summed_cross_entropy(logits, labels)


class GradientSum:
    """The gradient of a global batch, summed over its micro-batches and processes in float64.

    In float64 the sum is the same whatever the order and the process a micro-batch came from;
    `.grad` would add up in the parameters' float32.

    Args:
        parameters: The trained parameters.
        accelerator: Connects the processes.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], accelerator: Accelerator) -> None:
        self._parameters = list(parameters)
        self._accelerator = accelerator
        device = accelerator.device
        dtype = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64.
        sizes = [parameter.numel() for parameter in self._parameters]
        # One tensor, with the loss at its end: a single all-reduce.
        self._sum = torch.zeros(sum(sizes) + 1, dtype=dtype, device=device)
        self._parts = torch.split(self._sum[:-1], sizes)

    def zero(self) -> None:
        """Starts a global batch."""
        self._sum.zero_()

    def add(self, loss: Tensor, gradients: Sequence[Tensor]) -> None:
        """Adds a micro-batch's share of the loss, and its gradients in the parameters' order."""
        for part, gradient in zip(self._parts, gradients, strict=True):
            part += gradient.flatten()
        self._sum[-1] += loss.detach()

    def all_reduce(self) -> float:
        """Sums over the processes, sets each parameter's .grad, and returns the loss."""
        total = self._accelerator.reduce(self._sum, reduction="sum")
        sizes = [part.numel() for part in self._parts]
        for parameter, part in zip(self._parameters, torch.split(total[:-1], sizes), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)
        return float(total[-1])


def seed_dropout(tuner: PromptTuner, seed: int, step: int, rank: int) -> None:
    """Seeds the frozen model's dropout, if enabled, see `step_seed`."""
    if tuner.model.training:
        torch.manual_seed(step_seed(seed, step, rank))


def build_optimizer(
    parameters: Iterable[nn.Parameter],
    name: choices.Optimizer,
    *,
    learning_rate: float,
    weight_decay: float,
    image_parameters: Iterable[nn.Parameter] = (),
    image_learning_rate: float | None = None,
) -> Optimizer:
    """Builds the optimizer.

    Args:
        parameters: Those of the prompt.
        name: Which optimizer.
        learning_rate: Peak learning rate of `parameters`.
        weight_decay: Of all parameters.
        image_parameters: Those of the image prompt; some of `parameters` or not.
        image_learning_rate: Peak learning rate of `image_parameters`.

    Raises:
        TrainingError: There are no parameters.
    """
    image_tensors = list(image_parameters)
    known = {id(tensor) for tensor in image_tensors}
    tensors = [tensor for tensor in parameters if id(tensor) not in known]
    if not tensors:
        raise TrainingError("nothing is trainable, expected the prompt")
    # An MLP needs a far lower learning rate than soft tokens, which are as large as embeddings.
    second = [{"params": image_tensors, "lr": image_learning_rate}] if image_tensors else []
    optimizer: Optimizer = _OPTIMIZERS[name](
        [{"params": tensors}, *second], lr=learning_rate, weight_decay=weight_decay
    )
    return optimizer


def build_scheduler(
    optimizer: Optimizer, name: choices.Schedule, *, warmup_ratio: float, total_steps: int
) -> LRScheduler:
    """Builds the learning rate schedule over `total_steps` optimizer steps."""
    scheduler: LRScheduler = get_scheduler(
        SCHEDULES[name],
        optimizer,
        num_warmup_steps=round(warmup_ratio * total_steps),
        num_training_steps=total_steps,
    )
    return scheduler
