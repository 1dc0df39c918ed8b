"""What must hold before the first step: a prompt that is not trained or not used is no prompt."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from igrag.data.batching import LABEL_IGNORED
from igrag.training.self_check import check_gradients, check_lengths, raise_problems
from prompt_tuning.optimization import summed_loss
from prompt_tuning.prompt_tuner import PromptTuner


def check_before_training(
    tuner: PromptTuner,
    optimizer: Optimizer,
    batch: Mapping[str, Tensor],
    *,
    eos_token_id: int,
    source_lengths: Sequence[int],
    target_lengths: Sequence[int],
) -> None:
    """Checks model, optimizer and data together; changes nothing.

    Args:
        tuner: The model with its soft prompt.
        optimizer: The optimizer of the prompt.
        batch: A first batch, on the model's device.
        eos_token_id: The tokenizer's end token.
        source_lengths: Each example's prompt in tokens, after truncation.
        target_lengths: Each example's target in tokens, after truncation.

    Raises:
        TrainingError: Something does not hold; all of it is named.
    """
    lengths = {"data.max_source_length": source_lengths, "data.max_target_length": target_lengths}
    problems = [
        *_check_tensors(tuner, optimizer),
        *check_lengths(lengths),
        *_check_labels(batch["labels"], eos_token_id),
    ]
    raise_problems(problems or _check_effect(tuner, batch))


def _check_tensors(tuner: PromptTuner, optimizer: Optimizer) -> list[str]:
    held = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
    expected = {id(parameter) for parameter in tuner.trainable_parameters()}
    problems = []
    if not expected or held != expected:
        problems.append(
            f"the optimizer holds {len(held)} tensors ({len(held & expected)} of them the "
            f"prompt's), expected the prompt's {len(expected)} alone"
        )
    if any(parameter.requires_grad for parameter in tuner.model.parameters()):
        problems.append("the model has trainable parameters, expected it frozen")
    return problems


def _check_labels(labels: Tensor, eos_token_id: int) -> list[str]:
    """Checks that labels [B, L] are token ids up to the end token, and -100 after it."""
    is_target = labels != LABEL_IGNORED
    last = (is_target.sum(dim=1, keepdim=True) - 1).clamp(min=0)  # [B, 1]
    wrong = (
        (is_target[:, 1:] & ~is_target[:, :-1]).any(dim=1)
        | (is_target & (labels < 0)).any(dim=1)
        | (labels.gather(1, last)[:, 0] != eos_token_id)
    )
    if not wrong.any():
        return []
    return [
        f"the labels of {int(wrong.sum())} of {len(labels)} examples are not token ids, an end "
        f"token and then {LABEL_IGNORED}: padding would be trained"
    ]


def _check_effect(tuner: PromptTuner, batch: Mapping[str, Tensor]) -> list[str]:
    """Checks that the prompt gets a gradient and changes the loss."""
    parameters = tuner.trainable_parameters()
    gradients = torch.autograd.grad(summed_loss(tuner, batch), parameters, allow_unused=True)
    names = map(str, range(len(parameters)))
    problems = check_gradients(dict(zip(names, gradients, strict=True)), owner="prompt")
    if not all(gradient is None or gradient.isfinite().all() for gradient in gradients):
        return problems  # What the model computes without them is an error of its own.
    was_training = tuner.training
    tuner.eval()  # With dropout, two passes would differ by themselves.
    with torch.no_grad():
        with_prompt = summed_loss(tuner, batch)
        with tuner.disabled():
            without_prompt = summed_loss(tuner, batch)
    tuner.train(was_training)
    if torch.equal(with_prompt, without_prompt):
        problems.append("the prompt does not change the model's output")
    return problems
