"""Prompts by name, of any name and any length."""

import pytest
import torch

from igrag.captioning.language_model import LanguageModel
from prompt_tuning.named_prompts import NamedPrompts
from tests.prompt_tuning.models import batch_of, noise, tuner_of

NAMES = ("coco", "v1.2", "training", "_embedding_dim", "", "街景", "prompt_0")


def test_any_text_is_a_prompt_name() -> None:
    """Names with dots or spaces, names of attributes and the empty name find their prompts."""
    prompts = NamedPrompts(4)
    for seed, name in enumerate(NAMES):
        prompts.add(name, noise(seed + 1, width=4, seed=seed))
    for seed, name in enumerate(NAMES):
        assert torch.equal(prompts[name], noise(seed + 1, width=4, seed=seed))


def test_prompt_of_an_existing_name_is_replaced() -> None:
    """It may have another length, and the others are kept."""
    prompts = NamedPrompts(4)
    for name, length in (("a", 2), ("b", 3), ("a", 5)):
        prompts.add(name, noise(length, width=4))
    assert (len(prompts["a"]), len(prompts["b"])) == (5, 3)


def test_named_prompts_move_with_the_module_and_are_not_saved() -> None:
    """They are neither state nor parameters; a half precision one becomes float32."""
    prompts = NamedPrompts(4)
    prompts.add("a", noise(2, width=4).bfloat16().requires_grad_())
    assert prompts["a"].dtype == torch.float32 and not prompts["a"].requires_grad
    assert not prompts.state_dict() and not list(prompts.parameters())
    assert prompts.to("meta")["a"].device.type == "meta"


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 3), (1, 2, 4)])
def test_prompt_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    """The error has the name, the shape found and the shape expected."""
    with pytest.raises(ValueError, match=r"prompt 'a': found shape .*, expected \[P, 4\]"):
        NamedPrompts(4).add("a", torch.zeros(shape))


def test_unknown_prompt_name_is_refused() -> None:
    """The error lists the known names."""
    prompts = NamedPrompts(4)
    with pytest.raises(KeyError, match="found none"):
        prompts["a"]
    prompts.add("b", noise(1, width=4))
    with pytest.raises(KeyError, match="'a', found b"):
        prompts["a"]


def test_empty_name_is_not_the_missing_prompt(language: LanguageModel) -> None:
    """None is no prompt; the empty text is the prompt of that name."""
    tuner = tuner_of(language, noise(3))
    tuner.add_prompt("", noise(6, seed=1))
    batch = batch_of(language.tokenizer)
    with torch.no_grad():
        found = tuner(**batch, prompts=["", "", ""]).logits
        tuner.use("")
        assert torch.equal(found, tuner(**batch).logits)
