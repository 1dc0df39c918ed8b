"""Parametrizations of the prompt: where they start, and what of them is trained."""

from typing import Any

import pytest
import torch
from torch import Tensor

from igrag.captioning.language_model import LanguageModel, embedding_weight
from prompt_tuning.prompt_tuner import PromptTuner
from prompt_tuning.reparameterization import Residual, Superposition
from tests.prompt_tuning.models import batch_of, make_tuner, noise


def tuner(language: LanguageModel, parametrization: str, **options: object) -> PromptTuner:
    """Prepends a random prompt of 6 tokens to the model."""
    return make_tuner(language, 6, reparameterization=parametrization, **options)  # type: ignore[arg-type]


def trainable_shapes(tuner: PromptTuner) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the trainable tensors, by the last part of their names."""
    by_shape = {id(value): tuple(value.shape) for value in tuner.trainable_parameters()}
    return {
        name.removeprefix("parametrizations.prompt_embeddings."): by_shape[id(value)]
        for name, value in tuner.named_parameters()
        if id(value) in by_shape
    }


def take_step(tuner: PromptTuner, language: LanguageModel) -> PromptTuner:
    """Takes one optimizer step."""
    optimizer = torch.optim.SGD(tuner.trainable_parameters(), lr=0.1)
    tuner(**batch_of(language.tokenizer)).loss.backward()
    optimizer.step()
    return tuner


def test_residual_starts_at_the_initial_prompt(language: LanguageModel) -> None:
    """The prompt has the same bits, and the MLP gets a gradient."""
    plain = tuner(language, "none", seed=3)
    found = tuner(language, "residual", seed=3)
    assert torch.equal(found.plain_prompt(), plain.plain_prompt())
    take_step(found, language)
    assert not torch.equal(found.plain_prompt(), take_step(plain, language).plain_prompt())


def test_residual_trains_the_prompt_and_one_mlp(language: LanguageModel) -> None:
    """The prompt [P, H] is trained, and an MLP that all soft tokens share."""
    assert trainable_shapes(tuner(language, "residual", bottleneck=5)) == {
        "original": (6, 32),
        "0.down.weight": (5, 32), "0.down.bias": (5,),
        "0.up.weight": (32, 5), "0.up.bias": (32,),
        "0.norm.weight": (32,), "0.norm.bias": (32,),
    }  # fmt: skip


def test_residual_equals_the_formula_of_the_paper() -> None:
    """The prompt is P + LayerNorm(up(ReLU(down(P))))."""
    module = Residual(8, bottleneck=3, generator=torch.Generator().manual_seed(0))
    prompt = noise(4, width=8)
    with torch.no_grad():
        module.norm.weight.copy_(torch.linspace(1, 2, 8))
        hidden = (prompt @ module.down.weight.T).clamp(min=0) @ module.up.weight.T
        centerd = hidden - hidden.mean(dim=1, keepdim=True)
        scale = (hidden.var(dim=1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        expected = prompt + centerd / scale * module.norm.weight
        torch.testing.assert_close(module(prompt), expected)


def test_superpos_trains_only_the_weights(language: LanguageModel) -> None:
    """One tensor [P, M] is trainable_shapes; the embeddings it mixes are drawn once and fixed."""
    mixed = tuner(language, "superpos", sampled_embeddings=10)
    assert trainable_shapes(mixed) == {"original": (6, 10)}
    parametrizations: Any = mixed.parametrizations
    module = parametrizations.prompt_embeddings[0]
    before, first = module.embeddings.clone(), mixed.plain_prompt()
    weight = embedding_weight(language.model)
    assert all((weight == row).all(dim=1).any() for row in before)
    take_step(mixed, language)
    assert torch.equal(module.embeddings, before) and not torch.equal(mixed.plain_prompt(), first)
    prompt = mixed.plain_prompt()
    projected = torch.linalg.lstsq(before.T, prompt.T).solution.T @ before
    torch.testing.assert_close(prompt, projected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("repeated", [1, 2])
def test_superpos_starts_at_the_nearest_prompt(repeated: int) -> None:
    """The remainder is orthogonal to all sampled embeddings, also if one is drawn twice."""
    module = Superposition(noise(5, width=32, seed=1).repeat(repeated, 1))
    wanted = noise(4, width=32, seed=2)
    missing = wanted - module(module.right_inverse(wanted))
    assert missing.abs().max() > 0.1
    angles = (
        torch.nn.functional.normalize(missing) @ torch.nn.functional.normalize(module.embeddings).T
    )
    assert angles.abs().max() < 1e-5


def test_superpos_starts_with_the_smallest_weights() -> None:
    """Of several solutions the one of the smallest norm is taken."""
    basis = noise(40, width=8, seed=1)
    module = Superposition(basis)
    wanted = noise(3, width=8, seed=2)
    weights = module.right_inverse(wanted)
    torch.testing.assert_close(module(weights), wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(weights, wanted @ torch.linalg.pinv(basis), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("parametrization", ["residual", "superpos"])
def test_seed_determines_the_parametrization(language: LanguageModel, parametrization: str) -> None:
    """The same seed gives the same state, whatever the global random state is."""
    options = {"sampled_embeddings": 10}
    states = []
    for seed, elsewhere in ((1, 5), (1, 6), (2, 5)):
        torch.manual_seed(elsewhere)
        found = tuner(language, parametrization, seed=seed, **options).state_dict()
        states.append({name: value for name, value in found.items() if "parametriz" in name})
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if name.endswith(("down.weight", "0.embeddings"))]
    assert drawn and not any(torch.equal(first[name], other[name]) for name in drawn)


@pytest.mark.parametrize("parametrization", ["none", "residual", "superpos"])
def test_plain_prompt_of_every_parametrization_is_one_tensor(
    language: LanguageModel, parametrization: str
) -> None:
    """It is a tensor of its own, [P, H] in float32, without a gradient."""
    parameterized = tuner(language, parametrization)
    plain = parameterized.plain_prompt()
    assert type(plain) is Tensor and plain.shape == (6, 32) and plain.dtype == torch.float32
    assert not plain.requires_grad
    plain.zero_()
    assert parameterized.plain_prompt().abs().max() > 0
