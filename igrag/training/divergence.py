"""Stops a training that diverges, before anything is saved from the step that did it."""

import math
import sys
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from igrag.errors import TrainingError
from igrag.training.record import TrainingRecord

# Trained values stay within a few times the root mean square of the model's embeddings; thousands
# of steps of a high learning rate reach some thousand times. Beyond this no step leads back.
_GROWTH = 1e5
# Guessing evenly costs ln(V) nats a token: this many times as much, on top of the untuned model's
# loss, is a model that is certain of wrong tokens nearly everywhere.
_GUESSES = 3


class DivergenceGuard:
    """Limits of what a healthy step can reach.

    Args:
        parameters: What is trained.
        embeddings: The model's embedding matrix [V, H], the scale of the limits.
        record: The record of the training, which holds the untuned model's loss.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], embeddings: Tensor, record: TrainingRecord
    ) -> None:
        self._parameters = list(parameters)
        norm = float(torch.linalg.vector_norm(embeddings.detach(), dtype=torch.float32))
        self._largest = _GROWTH * max(1.0, norm / math.sqrt(embeddings.numel()))
        self._guesses = _GUESSES * math.log(max(2, len(embeddings)))
        self._record = record

    def check_loss(self, step: int, loss: float) -> None:
        """Checks a loss in nats per target token.

        Raises:
            TrainingError: It is not finite, or far above the untuned model's.
        """
        untuned = self._record.untuned
        limit = untuned.loss + self._guesses if untuned else sys.float_info.max
        self._check(step, "the loss", loss, limit)

    def check_gradient(self, step: int, norm: float) -> None:
        """Checks the norm of a gradient before clipping.

        Raises:
            TrainingError: It is not finite.
        """
        self._check(step, "the norm of the gradient", norm, sys.float_info.max)

    def check_values(self, step: int) -> None:
        """Checks the trained values after a step.

        Raises:
            TrainingError: One is not finite, or out of all proportion to the embeddings.
        """
        with torch.no_grad():
            largest = float(nn.utils.get_total_norm(self._parameters, norm_type=math.inf))
        self._check(step, "the largest trained value", largest, self._largest)

    def _check(self, step: int, what: str, found: float, limit: float) -> None:
        if found <= limit:  # NaN is not.
            return
        expected, fix = f"at most {limit:.3g}", "lower training.learning_rate"
        if not math.isfinite(found):
            expected = "a finite number"
            fix += ", or set training.mixed_precision to fp32"
        raise TrainingError(
            f"step {step}: {what} is {found:.3g}, expected {expected}: training has diverged; "
            f"{fix} (nothing was saved from this step)"
        )
