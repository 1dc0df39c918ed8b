"""Soft tokens made from the vectors of images: made, prepended, named and saved."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from igrag.captioning.language_model import LanguageModel, embedding_weight
from igrag.captioning.shared_cross_attention import forward_from
from igrag.errors import CheckpointError
from igrag.retrieval.vector_lookup import ImageVectors
from prompt_tuning.image_prompt import ImagePrompt, make_image_prompt
from prompt_tuning.prompt_file import PromptFile, load_prompt, save_prompt
from prompt_tuning.prompt_tuner import PromptTuner
from tests.examples import ENCODER
from tests.prompt_tuning.models import (
    MARKS,
    assert_same,
    batch_of,
    image_prompt_of,
    inputs_of,
    make_tuner,
    noise,
    tuner_of,
    vectors_of,
)


def made(language: LanguageModel, vectors: ImageVectors, *, hidden: int = 6) -> ImagePrompt:
    """Makes an image prompt of 2 tokens."""
    generator = torch.Generator().manual_seed(0)
    weight = embedding_weight(language.model)
    return make_image_prompt(vectors, weight, image_tokens=2, hidden=hidden, generator=generator)


@pytest.mark.parametrize(("hidden", "count"), [(6, 8 * 6 + 6 + 6 * 64 + 64), (0, 8 * 64 + 64)])
def test_image_prompt_has_an_mlp_or_one_linear_map(
    language: LanguageModel, hidden: int, count: int
) -> None:
    """Its tokens are [B, Q, H]; mean and deviation are no parameters."""
    image_prompt = image_prompt_of(language, image_tokens=2, hidden=hidden)
    assert sum(parameter.numel() for parameter in image_prompt.parameters()) == count
    assert image_prompt(vectors_of(3)).shape == (3, 2, 32)


def test_vectors_are_centered_and_scaled_by_those_of_the_examples(language: LanguageModel) -> None:
    """Each image counts once, however many examples it has; one value scales all dimensions."""
    vectors = vectors_of(4).numpy()
    image_prompt = made(language, ImageVectors(vectors, np.array([0, 0, 2, 3]), ENCODER))
    used = torch.from_numpy(vectors[[0, 2, 3]]).double()
    assert torch.allclose(image_prompt.mean.double(), used.mean(dim=0), atol=1e-6)
    deviation = (used - used.mean(dim=0)).pow(2).mean().sqrt()
    assert float(image_prompt.deviation) == pytest.approx(float(deviation), rel=1e-5)


def test_initial_tokens_have_the_scale_of_the_embeddings(language: LanguageModel) -> None:
    """The last bias is drawn at that scale and its weights at 0.02; a seed draws them again."""
    vectors = ImageVectors(vectors_of(9).numpy(), np.arange(9), ENCODER)
    state = torch.random.get_rng_state()
    first, second = (made(language, vectors) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    scale = float(embedding_weight(language.model).detach().std())
    assert float(first.output.bias.detach().std()) == pytest.approx(scale, rel=0.4)
    assert float(first.output.weight.detach().std()) == pytest.approx(0.02, rel=0.2)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_image_tokens_stand_behind_the_learned_ones(language: LanguageModel) -> None:
    """A sequence computes what it computes with [P learned; Q of its image] as its prompt."""
    image_prompt, prompt = image_prompt_of(language), noise(3)
    tuner = tuner_of(language, prompt, image_prompt)
    plain = tuner_of(language, prompt)
    batch, vectors = batch_of(language.tokenizer), vectors_of(3, seed=1)
    names = ["a", "b", "c"]
    with torch.no_grad():
        for name, tokens in zip(names, image_prompt(vectors), strict=True):
            plain.add_prompt(name, torch.cat([prompt, tokens]))
        found: Any = tuner(**batch, image_vectors=vectors)
        assert_same(found.logits, plain(**batch, prompts=names).logits)
        assert found.encoder_last_hidden_state.shape[1] == 3 + 2 + batch["input_ids"].shape[1]
        states, mask = tuner.encode(**inputs_of(batch), image_vectors=vectors)
        again: Any = forward_from(tuner.model, states, mask, labels=batch["labels"])
        assert_same(again.logits, found.logits)
        other = tuner(**batch, image_vectors=vectors.flip(0)).logits
        assert not torch.allclose(other, found.logits)


@pytest.mark.parametrize("count", [0, 2])
def test_vector_is_needed_for_each_sequence(language: LanguageModel, count: int) -> None:
    """Too few vectors, or none, are an error and not the prompt of no image."""
    tuner = tuner_of(language, noise(3), image_prompt_of(language))
    vectors = vectors_of(count) if count else None
    with pytest.raises(ValueError, match=r"image_vectors: found \w+, expected one for each of 3"):
        tuner(**batch_of(language.tokenizer), image_vectors=vectors)
    with tuner.disabled():
        tuner(**batch_of(language.tokenizer))


def test_prompt_without_image_tokens_computes_as_before(language: LanguageModel) -> None:
    """Vectors are ignored, and the only trained tensor is the prompt."""
    tuner, batch = make_tuner(language, 4), batch_of(language.tokenizer)
    assert not tuner.takes_image_vectors and len(tuner.trainable_parameters()) == 1
    assert next(iter(tuner.state_dict())) == "prompt_embeddings"
    with torch.no_grad():
        ignored = tuner(**batch, image_vectors=vectors_of(3)).logits
        assert torch.equal(ignored, tuner(**batch).logits)


def test_gradients_reach_both_parts(language: LanguageModel) -> None:
    """All tensors of the prompt and of its image tokens are trained, nothing of the model is."""
    tuner = tuner_of(language, noise(3), image_prompt_of(language)).train()
    parameters = tuner.trainable_parameters()
    assert len(parameters) == 5
    loss = tuner(**batch_of(language.tokenizer), image_vectors=vectors_of(3)).loss
    assert all(gradient.any() for gradient in torch.autograd.grad(loss, parameters))


def test_named_prompts_with_and_without_image_tokens_share_a_batch(
    language: LanguageModel,
) -> None:
    """Each sequence gets its own prompt, and image tokens only where its prompt has some."""
    tuner = tuner_of(language, noise(3))
    tuner.add_prompt("seeing", noise(4, seed=1), image_prompt_of(language))
    alone = tuner_of(language, noise(4, seed=1), image_prompt_of(language))
    batch, vectors = batch_of(language.tokenizer), vectors_of(3, seed=1)
    with torch.no_grad():
        mixed = tuner(**batch, prompts=["default", "seeing", None], image_vectors=vectors).logits
        assert_same(mixed[0], tuner(**batch).logits[0])
        assert_same(mixed[1], alone(**batch, image_vectors=vectors).logits[1])
        with tuner.disabled():
            assert_same(mixed[2], tuner(**batch).logits[2])
    assert tuner.takes_image_vectors and len(tuner.trainable_parameters()) == 1
    assert not [name for name in tuner.state_dict() if "image" in name]
    tuner.add_prompt("seeing", noise(2))
    assert not tuner.takes_image_vectors


def test_named_image_prompts_move_with_the_module(language: LanguageModel) -> None:
    """They are no submodules, so that they are not saved, but follow the model to its device."""
    tuner = tuner_of(language, noise(3))
    tuner.add_prompt("seeing", noise(4), image_prompt_of(language))
    moved = tuner._named_prompts.to("meta").image_prompts["seeing"]
    assert {value.device.type for value in moved.state_dict().values()} == {"meta"}


@pytest.mark.parametrize("hidden", [6, 0])
def test_saved_image_prompt_computes_the_same(
    language: LanguageModel, tmp_path: Path, hidden: int
) -> None:
    """from_pretrained and load_prompt read both parts; the same prompt gives the same bytes."""
    tuner = tuner_of(language, noise(3), image_prompt_of(language, hidden=hidden))
    for name in ("a", "b"):
        tuner.save_pretrained(tmp_path / name)
    files = [tmp_path / name / "prompt_embeddings.pt" for name in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()
    loaded = PromptTuner.from_pretrained(language.model, tmp_path / "a", encoder=ENCODER)
    named = tuner_of(language, noise(5))
    named.load_prompt(files[0], "seeing")
    inputs: dict[str, Any] = {**batch_of(language.tokenizer), "image_vectors": vectors_of(3)}
    with torch.no_grad():
        expected = tuner(**inputs).logits
        assert torch.equal(loaded(**inputs).logits, expected)
        assert_same(named(**inputs, prompts=["seeing"] * 3).logits, expected)


def test_only_image_prompts_have_the_second_format(language: LanguageModel, path: Path) -> None:
    """A plain prompt has the keys and the version that earlier versions read."""
    keys = [
        "prompt_embeddings", "prompt_length", "embedding_dim", "initialization", "format_version",
        "fingerprint",
    ]  # fmt: skip
    save_prompt(path, PromptFile(noise(3), "random", MARKS))
    plain = torch.load(path, weights_only=True)
    assert list(plain) == keys and plain["format_version"] == 1
    assert "encoder" not in plain["fingerprint"]
    save_prompt(path, PromptFile(noise(3), "random", MARKS, image_prompt_of(language)))
    seeing = torch.load(path, weights_only=True)
    assert list(seeing) == [*keys, "image_prompt", "image_encoder"]
    assert seeing["format_version"] == 2 and seeing["image_encoder"] == ENCODER.to_json()


def test_vectors_of_another_encoder_are_refused(language: LanguageModel, path: Path) -> None:
    """The error has both encoders and what differs; another name alone is the same encoder."""
    save_prompt(path, PromptFile(noise(3), "random", None, image_prompt_of(language)))
    load_prompt(path, encoder=replace(ENCODER, name="moved"))
    other = replace(ENCODER, name="clip-other", weights_fingerprint="0" * 64)
    with pytest.raises(CheckpointError, match=r"clip-8 .*clip-other .*weights ffffffff against"):
        load_prompt(path, encoder=other)
    tuner = PromptTuner(language.model, noise(3), encoder=other)
    with pytest.raises(CheckpointError, match="clip-other"):
        tuner.load_prompt(path, "seeing")
    save_prompt(path, PromptFile(noise(3), "random", None))
    load_prompt(path, encoder=other)


@pytest.mark.parametrize(
    "change",
    [
        {"image_prompt": None},
        {"image_prompt": {}},
        {"image_encoder": {"name": "clip"}},
        {"image_prompt": {"output.weight": torch.zeros(1, 1).expand(10**6, 10**6)}},
        {"image_prompt": {"output.weight": torch.zeros(64, 8), "output.bias": torch.zeros(63)}},
    ],
)
def test_damaged_image_prompt_is_one_error(
    language: LanguageModel, path: Path, change: dict[str, Any]
) -> None:
    """Missing, misfit and unreal tensors are damage, named with the file."""
    save_prompt(path, PromptFile(noise(3), "random", None, image_prompt_of(language)))
    content = torch.load(path, weights_only=True)
    torch.save({**content, **change}, path)
    with pytest.raises(CheckpointError, match=rf"{path.name}: image_prompt: .*damaged"):
        load_prompt(path)


@pytest.mark.parametrize(("key", "value"), [("output.bias", float("nan")), ("deviation", 0.0)])
def test_image_prompt_of_impossible_values_is_refused(
    language: LanguageModel, path: Path, key: str, value: float
) -> None:
    """Values that are not finite, or would make such ones, are an error when they are read."""
    save_prompt(path, PromptFile(noise(3), "random", None, image_prompt_of(language)))
    content = torch.load(path, weights_only=True)
    content["image_prompt"][key].fill_(value)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="no finite numbers"):
        load_prompt(path)
