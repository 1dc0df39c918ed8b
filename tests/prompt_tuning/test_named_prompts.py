"""Prompts by name: whatever the name, and whatever their length."""

import pytest
import torch

from igrag.captioning.language_model import LanguageModel
from prompt_tuning.named_prompts import NamedPrompts
from tests.prompt_tuning.models import batch_of, noise, tuner_of

NAMES = ("coco", "v1.2", "training", "_embedding_dim", "", "街景", "prompt_0")


def test_a_name_may_be_anything() -> None:
    """Dots, spaces, names of attributes, nothing at all: each finds its own prompt."""
    prompts = NamedPrompts(4)
    for seed, name in enumerate(NAMES):
        prompts.add(name, noise(seed + 1, width=4, seed=seed))
    for seed, name in enumerate(NAMES):
        assert torch.equal(prompts[name], noise(seed + 1, width=4, seed=seed))


def test_a_later_prompt_replaces_an_earlier_one() -> None:
    """Of another length too, and the others stay."""
    prompts = NamedPrompts(4)
    for name, length in (("a", 2), ("b", 3), ("a", 5)):
        prompts.add(name, noise(length, width=4))
    assert (len(prompts["a"]), len(prompts["b"])) == (5, 3)


def test_they_move_along_and_are_not_saved() -> None:
    """Part of the module, not of its state or its parameters; a half precision one is widened."""
    prompts = NamedPrompts(4)
    prompts.add("a", noise(2, width=4).bfloat16().requires_grad_())
    assert prompts["a"].dtype == torch.float32 and not prompts["a"].requires_grad
    assert not prompts.state_dict() and not list(prompts.parameters())
    assert prompts.to("meta")["a"].device.type == "meta"


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 3), (1, 2, 4)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    """The name, what was found and what was expected are told."""
    with pytest.raises(ValueError, match=r"prompt 'a': found shape .*, expected \[P, 4\]"):
        NamedPrompts(4).add("a", torch.zeros(shape))


def test_an_unknown_name_is_refused() -> None:
    """The known ones are listed."""
    prompts = NamedPrompts(4)
    with pytest.raises(KeyError, match="found none"):
        prompts["a"]
    prompts.add("b", noise(1, width=4))
    with pytest.raises(KeyError, match="'a', found b"):
        prompts["a"]


def test_an_empty_name_is_a_name(language: LanguageModel) -> None:
    """A row without a prompt is None; "" is the prompt of that name."""
    tuner = tuner_of(language, noise(3))
    tuner.add_prompt("", noise(6, seed=1))
    batch = batch_of(language.tokenizer)
    with torch.no_grad():
        found = tuner(**batch, prompts=["", "", ""]).logits
        tuner.use("")
        assert torch.equal(found, tuner(**batch).logits)
