"""What must hold of the data and the gradients before the first step, whatever is trained."""

import importlib.util
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from igrag.errors import ConfigError, TrainingError

_MIN_LENGTH = 2  # A token and the end token.


def check_reporter(report_to: str, *, key: str) -> None:
    """Makes sure that what is reported to is installed, before any model is loaded.

    Args:
        report_to: "none", or the name of a tracker, which is that of its module.
        key: The settings key, for the error.

    Raises:
        ConfigError: It is not installed.
    """
    if report_to != "none" and not importlib.util.find_spec(report_to):
        package = report_to.replace("_", "-")
        raise ConfigError(f"{key}: {package} is not installed; pip install {package}, or set none")


def raise_problems(problems: Sequence[str]) -> None:
    """Raises one `TrainingError` that names all problems, if there are any."""
    if problems:
        raise TrainingError(f"self-check before training: {'; '.join(problems)}")


def check_lengths(lengths: Mapping[str, Sequence[int]]) -> list[str]:
    """Returns a problem for each length limit that cuts examples down to the end token.

    Args:
        lengths: Settings key of the limit -> length of each example in tokens, after truncation.
    """
    return [
        f"{count} of {len(values)} examples keep nothing but an end token; raise {key}"
        for key, values in lengths.items()
        if (count := sum(length < _MIN_LENGTH for length in values))
    ]


def check_gradients(gradients: Mapping[str, Tensor | None], *, owner: str) -> list[str]:
    """Returns what is wrong with the gradients of one batch.

    Every tensor must take part in the loss, and at least one must get a gradient: LoRA's B starts
    at zero, so that A's gradient is zero before the first step.

    Args:
        gradients: Trained tensor's name -> its gradient; None where it takes no part in the loss.
        owner: What the tensors belong to, for the messages: "adapter" or "prompt".
    """
    unused = [name for name, gradient in gradients.items() if gradient is None]
    if unused:
        return [
            f"{len(unused)} tensors of the {owner} take no part in the loss (such as {unused[0]})"
        ]
    flat = torch.cat(
        [gradient.flatten() for gradient in gradients.values() if gradient is not None]
    )
    if not flat.isfinite().all():
        return [f"the {owner}'s gradient is not finite"]
    return [] if flat.any() else [f"the {owner} gets no gradient"]
