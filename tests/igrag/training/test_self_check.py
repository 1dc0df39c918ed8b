"""Checks of data and gradients before the first step."""

import pytest
import torch

from igrag.errors import TrainingError
from igrag.training.self_check import check_gradients, check_lengths, raise_problems


def test_limits_that_cut_examples_to_nothing_are_named() -> None:
    """Each limit is named with how many examples it leaves without any token of their own."""
    assert check_lengths(
        {"data.max_source_length": [2, 9], "data.max_target_length": [1, 2, 0]}
    ) == ["2 of 3 examples keep nothing but an end token; raise data.max_target_length"]


def test_gradients_must_exist_be_finite_and_not_all_zero() -> None:
    """A zero gradient is fine for one tensor, since LoRA's B starts at zero, but not for all."""
    zero, one = torch.zeros(2), torch.ones(2)
    assert check_gradients({"a": zero, "b": one}, owner="adapter") == []
    assert check_gradients({"a": zero}, owner="adapter") == ["the adapter gets no gradient"]
    assert check_gradients({"a": one / 0}, owner="prompt") == [
        "the prompt's gradient is not finite"
    ]
    assert check_gradients({"a": one, "b": None}, owner="adapter") == [
        "1 tensors of the adapter take no part in the loss (such as b)"
    ]


def test_all_problems_are_in_one_error() -> None:
    """No problem raises nothing; several are joined."""
    raise_problems([])
    with pytest.raises(TrainingError, match="self-check before training: a; b"):
        raise_problems(["a", "b"])
