"""Other ways to parameterize a prompt: where they begin, and what of them is trained."""

from typing import Any

import pytest
import torch
from torch import Tensor

from igrag.captioning.language_model import LanguageModel, embedding_weight
from prompt_tuning.prompt_tuner import PromptTuner
from prompt_tuning.reparameterization import Residual, Superposition
from tests.prompt_tuning.models import batch_of, make_tuner, noise


def tuner(language: LanguageModel, way: str, **options: object) -> PromptTuner:
    """Puts a random prompt of 6 tokens before the model."""
    return make_tuner(language, 6, reparameterization=way, **options)  # type: ignore[arg-type]


def trained(tuner: PromptTuner) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of what is trained, by the last part of their names."""
    by_shape = {id(value): tuple(value.shape) for value in tuner.trainable_parameters()}
    return {
        name.removeprefix("parametrizations.prompt_embeddings."): by_shape[id(value)]
        for name, value in tuner.named_parameters()
        if id(value) in by_shape
    }


def stepped(tuner: PromptTuner, language: LanguageModel) -> PromptTuner:
    """Takes one optimizer step."""
    optimizer = torch.optim.SGD(tuner.trainable_parameters(), lr=0.1)
    tuner(**batch_of(language.tokenizer)).loss.backward()
    optimizer.step()
    return tuner


def test_residual_begins_exactly_at_the_prompt(language: LanguageModel) -> None:
    """Bit for bit, and in its gradient the MLP takes part."""
    plain = tuner(language, "none", seed=3)
    found = tuner(language, "residual", seed=3)
    assert torch.equal(found.plain_prompt(), plain.plain_prompt())
    stepped(found, language)
    assert not torch.equal(found.plain_prompt(), stepped(plain, language).plain_prompt())


def test_residual_trains_the_prompt_and_one_small_mlp(language: LanguageModel) -> None:
    """The tensor [P, H], and an MLP of the given width that all soft tokens share."""
    assert trained(tuner(language, "residual", bottleneck=5)) == {
        "original": (6, 32),
        "0.down.weight": (5, 32), "0.down.bias": (5,),
        "0.up.weight": (32, 5), "0.up.bias": (32,),
        "0.norm.weight": (32,), "0.norm.bias": (32,),
    }  # fmt: skip


def test_residual_is_the_papers_formula() -> None:
    """P + LayerNorm(up(ReLU(down(P)))), by hand."""
    module = Residual(8, bottleneck=3, generator=torch.Generator().manual_seed(0))
    prompt = noise(4, width=8)
    with torch.no_grad():
        module.norm.weight.copy_(torch.linspace(1, 2, 8))
        hidden = (prompt @ module.down.weight.T).clamp(min=0) @ module.up.weight.T
        centerd = hidden - hidden.mean(dim=1, keepdim=True)
        scale = (hidden.var(dim=1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        expected = prompt + centerd / scale * module.norm.weight
        torch.testing.assert_close(module(prompt), expected)


def test_superpos_trains_weights_alone(language: LanguageModel) -> None:
    """One tensor [P, M]; the embeddings that it mixes are drawn once and stay fixed."""
    mixed = tuner(language, "superpos", sampled_embeddings=10)
    assert trained(mixed) == {"original": (6, 10)}
    parametrizations: Any = mixed.parametrizations
    module = parametrizations.prompt_embeddings[0]
    before, first = module.embeddings.clone(), mixed.plain_prompt()
    weight = embedding_weight(language.model)
    assert all((weight == row).all(dim=1).any() for row in before)
    stepped(mixed, language)
    assert torch.equal(module.embeddings, before) and not torch.equal(mixed.plain_prompt(), first)
    prompt = mixed.plain_prompt()
    projected = torch.linalg.lstsq(before.T, prompt.T).solution.T @ before
    torch.testing.assert_close(prompt, projected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("repeated", [1, 2])
def test_superpos_begins_at_the_nearest_prompt(repeated: int) -> None:
    """What is missing is at right angles to all that can be mixed, though one be drawn twice."""
    module = Superposition(noise(5, width=32, seed=1).repeat(repeated, 1))
    wanted = noise(4, width=32, seed=2)
    missing = wanted - module(module.right_inverse(wanted))
    assert missing.abs().max() > 0.1
    angles = (
        torch.nn.functional.normalize(missing) @ torch.nn.functional.normalize(module.embeddings).T
    )
    assert angles.abs().max() < 1e-5


def test_superpos_takes_the_smallest_weights() -> None:
    """Where several sets of weights give the prompt, none is larger than need be."""
    basis = noise(40, width=8, seed=1)
    module = Superposition(basis)
    wanted = noise(3, width=8, seed=2)
    weights = module.right_inverse(wanted)
    torch.testing.assert_close(module(weights), wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(weights, wanted @ torch.linalg.pinv(basis), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("way", ["residual", "superpos"])
def test_the_seed_decides_what_is_drawn(language: LanguageModel, way: str) -> None:
    """The whole state is the same again with the same seed, whatever the global random state."""
    options = {"sampled_embeddings": 10}
    states = []
    for seed, elsewhere in ((1, 5), (1, 6), (2, 5)):
        torch.manual_seed(elsewhere)
        found = tuner(language, way, seed=seed, **options).state_dict()
        states.append({name: value for name, value in found.items() if "parametriz" in name})
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if name.endswith(("down.weight", "0.embeddings"))]
    assert drawn and not any(torch.equal(first[name], other[name]) for name in drawn)


@pytest.mark.parametrize("way", ["none", "residual", "superpos"])
def test_what_is_saved_is_always_the_same_simple_file(language: LanguageModel, way: str) -> None:
    """Folded: a plain tensor of its own, [P, H] in float32, without history."""
    parameterized = tuner(language, way)
    plain = parameterized.plain_prompt()
    assert type(plain) is Tensor and plain.shape == (6, 32) and plain.dtype == torch.float32
    assert not plain.requires_grad
    plain.zero_()
    assert parameterized.plain_prompt().abs().max() > 0
