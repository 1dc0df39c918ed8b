"""The adapter on the frozen model, and the self-check before its training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from igrag.captioning.language_model import load_language_model
from igrag.errors import ConfigError, TrainingError
from lora_training.adapter import add_adapter, check_before_training, enter_training

BATCH = {
    "input_ids": torch.tensor([[5, 9, 20, 1], [7, 8, 1, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
    "labels": torch.tensor([[8, 12, 1], [9, 1, -100]]),
}


def adapt(path: Path, *, targets: Sequence[str] = ("q", "v"), seed: int = 0) -> Any:
    """Puts an adapter on the tiny model."""
    return add_adapter(
        load_language_model(str(path), device="cpu").model,
        name="tiny",
        r=4,
        lora_alpha=8,
        lora_dropout=0.1,
        target_modules=targets,
        seed=seed,
    )


def check(model: Any) -> None:
    """Checks a model on valid data."""
    check_before_training(model, BATCH, source_lengths=[4, 3], target_lengths=[3, 2])


def test_new_adapter_changes_no_output(tiny_t5: Path) -> None:
    """Only its own tensors are trainable, and before training the loss is the base model's."""
    model = adapt(tiny_t5)
    trainable = {name for name, tensor in model.named_parameters() if tensor.requires_grad}
    assert trainable == {name for name, _ in model.named_parameters() if "lora_" in name} != set()
    before = load_language_model(str(tiny_t5), device="cpu").model
    with torch.inference_mode():
        losses = [found.eval()(**BATCH).loss for found in (model, before)]
    assert torch.equal(*losses)
    assert model.peft_config["default"].base_model_name_or_path == "tiny"


def test_seed_determines_the_initial_adapter(tiny_t5: Path) -> None:
    """One seed always initializes the same adapter, another seed another one."""
    first, second, other = (
        next(tensor for name, tensor in adapt(tiny_t5, seed=seed).named_parameters()
             if "lora_A" in name)
        for seed in (1, 1, 2)
    )  # fmt: skip
    assert torch.equal(first, second) and not torch.equal(first, other)


@pytest.mark.parametrize("targets", [("query",), ("q", "query")])
def test_unknown_target_modules_are_refused(tiny_t5: Path, targets: Sequence[str]) -> None:
    """A misspelled layer is named, even next to a correct one, which the library would accept."""
    with pytest.raises(ConfigError, match=r"lora\.target_modules: .*query"):
        adapt(tiny_t5, targets=targets)


def test_target_modules_match_the_end_of_a_name(tiny_t5: Path) -> None:
    """As in PEFT, "SelfAttention.q" is q of the self-attentions alone."""
    names = [name for name, _ in adapt(tiny_t5, targets=["SelfAttention.q"]).named_parameters()]
    assert {name.split(".lora_")[0].rsplit(".", 2)[-2] for name in names if "lora_" in name} == {
        "SelfAttention"
    }


def test_target_with_shared_weights_is_warned_of(
    tiny_t5: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning before training names layers that prevent merging; others cause none."""
    adapt(tiny_t5, targets=["q", "wo"])
    assert caplog.text == ""
    adapt(tiny_t5, targets=["q", "lm_head"])
    assert "share the weights of lm_head; captioning will not merge the adapter" in caplog.text


def test_self_check_changes_no_weight_and_leaves_no_gradient(tiny_t5: Path) -> None:
    """A correct model passes, without a gradient left and with the same weights."""
    model = adapt(tiny_t5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    check(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(tensor.grad is None for tensor in model.parameters())


def test_frozen_model_drops_out_only_if_asked_to(tiny_t5: Path) -> None:
    """Without `model_dropout` all dropout that is on is the adapter's own."""
    model = adapt(tiny_t5)
    for asked in (True, False):
        enter_training(model, model_dropout=asked)
        on = {
            "lora_dropout" in name
            for name, module in model.named_modules()
            if isinstance(module, nn.Dropout) and module.training
        }
        assert on == ({True, False} if asked else {True})


def break_base(model: Any) -> None:
    """Unfreezes a tensor of the base model."""
    model.get_base_model().shared.weight.requires_grad_(True)


def break_freeze(model: Any) -> None:
    """Freezes the whole model."""
    model.requires_grad_(False)


def break_use(model: Any) -> None:
    """Removes the adapter from the computation, but leaves it trainable."""
    for module in model.modules():
        if hasattr(module, "lora_A"):
            module._disable_adapters = True


def break_numbers(model: Any) -> None:
    """Puts NaN into the adapter."""
    with torch.no_grad():
        next(tensor for tensor in model.parameters() if tensor.requires_grad).fill_(torch.nan)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_base, r"1 tensors of the base model are trainable \(such as .*shared"),
        (break_freeze, "nothing is trainable, expected the adapter"),
        (break_use, "no part in the loss"),
        (break_numbers, "not finite"),
    ],
)
def test_self_check_refuses_wrongly_trainable_tensors(
    tiny_t5: Path, damage: Any, message: str
) -> None:
    """Whatever would train nothing, or too much, is named."""
    model = adapt(tiny_t5)
    damage(model)
    with pytest.raises(TrainingError, match=f"self-check before training: .*{message}"):
        check(model)
