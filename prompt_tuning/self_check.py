"""What must hold before the first step: a prompt that is not trained or not used is no prompt."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from igrag.data.batching import LABEL_IGNORED
from igrag.errors import TrainingError
from prompt_tuning.optimization import summed_loss
from prompt_tuning.prompt_tuner import PromptTuner

_SHORTEST = 2  # A token and the end token.


def check_before_training(
    tuner: PromptTuner,
    optimizer: Optimizer,
    batch: Mapping[str, Tensor],
    *,
    source_lengths: Sequence[int],
    target_lengths: Sequence[int],
) -> None:
    """Checks model, optimizer and data together; changes nothing.

    Args:
        tuner: What will be trained.
        optimizer: What will train it.
        batch: A first batch, on the model's device.
        source_lengths: Each example's prompt in tokens, after cutting.
        target_lengths: Each example's target in tokens, after cutting.

    Raises:
        TrainingError: Something does not hold; all of it is named.
    """
    problems = [
        *_check_tensors(tuner, optimizer),
        *_check_lengths(source_lengths, target_lengths),
        *_check_labels(tuner, batch),
    ]
    problems += [] if problems else _check_effect(tuner, batch)
    if problems:
        raise TrainingError(f"self-check before training: {'; '.join(problems)}")


def _check_tensors(tuner: PromptTuner, optimizer: Optimizer) -> list[str]:
    held = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
    wanted = {id(parameter) for parameter in tuner.trainable_parameters()}
    problems = []
    if not wanted or held != wanted:
        problems.append(
            f"the optimizer holds {len(held)} tensors ({len(held & wanted)} of them the prompt's), "
            f"expected the prompt's {len(wanted)} alone"
        )
    if any(parameter.requires_grad for parameter in tuner.model.parameters()):
        problems.append("the model has trainable parameters, expected it frozen")
    return problems


def _check_lengths(source_lengths: Sequence[int], target_lengths: Sequence[int]) -> list[str]:
    sides = {"data.max_source_length": source_lengths, "data.max_target_length": target_lengths}
    return [
        f"{count} of {len(lengths)} examples keep nothing but an end token; raise {key}"
        for key, lengths in sides.items()
        if (count := sum(length < _SHORTEST for length in lengths))
    ]


def _check_labels(tuner: PromptTuner, batch: Mapping[str, Tensor]) -> list[str]:
    """In each row token ids come first, the end token as their last, and -100 after it."""
    labels = batch["labels"]
    counted = labels != LABEL_IGNORED  # [B, L]
    ends = labels.gather(1, (counted.sum(dim=1, keepdim=True) - 1).clamp(min=0))  # [B, 1]
    wrong = (
        (counted[:, 1:] & ~counted[:, :-1]).any(dim=1)
        | (counted & (labels < 0)).any(dim=1)
        | (ends[:, 0] != tuner.tokenizer.eos_token_id)
    )
    if not wrong.any():
        return []
    return [
        f"the labels of {int(wrong.sum())} of {len(labels)} rows are not token ids, an end token "
        f"and then {LABEL_IGNORED}: padding would be trained"
    ]


def _check_effect(tuner: PromptTuner, batch: Mapping[str, Tensor]) -> list[str]:
    """The prompt must get a gradient, and must change what the model says."""
    gradients = torch.autograd.grad(summed_loss(tuner, batch), tuner.trainable_parameters())
    problems = []
    if not all(gradient.isfinite().all() for gradient in gradients):
        problems.append("the prompt's gradient is not finite")
    elif not any(gradient.any() for gradient in gradients):
        problems.append("the prompt gets no gradient")
    was_training = tuner.training
    tuner.eval()  # With dropout, two passes would differ by themselves.
    with torch.no_grad():
        behind = summed_loss(tuner, batch)
        with tuner.disabled():
            without = summed_loss(tuner, batch)
    tuner.train(was_training)
    if torch.equal(behind, without):
        problems.append("the prompt does not change what the model says")
    return problems
