"""An ensemble of soft prompts: the copies of a sequence choose the same tokens."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig

from igrag.captioning.language_model import LanguageModel
from prompt_tuning.ensemble import AverageLogits, PromptEnsemble
from prompt_tuning.prompt_tuner import DEFAULT_NAME, PromptTuner
from tests.prompt_tuning.models import (
    batch_of,
    image_prompt_of,
    inputs_of,
    noise,
    tuner_of,
    vectors_of,
)

STEPS, END = 6, 1
LENGTHS = (5, 2, 7)


def decoding(**options: object) -> GenerationConfig:
    """Returns a decoding of `STEPS` tokens, without an end before them."""
    ids = {"pad_token_id": 0, "eos_token_id": END, "decoder_start_token_id": 0}
    return GenerationConfig(max_new_tokens=STEPS, min_new_tokens=STEPS, **ids, **options)


@pytest.fixture
def tuner(language: LanguageModel) -> PromptTuner:
    """The model with three prompts of different lengths: default, 1 and 2."""
    tuner = tuner_of(language, noise(LENGTHS[0], seed=1, scale=20.0))
    for number in (1, 2):
        tuner.add_prompt(str(number), noise(LENGTHS[number], seed=number + 1, scale=20.0))
    return tuner


NAMES = (DEFAULT_NAME, "1", "2")


def greedy_of_averaged_logits(tuner: PromptTuner, batch: dict[str, Tensor]) -> Tensor:
    """Generates step by step from the average of each prompt's own logits."""
    tokens = torch.zeros(len(batch["input_ids"]), 1, dtype=torch.long)
    for _ in range(STEPS):
        logits = [
            tuner(
                batch["input_ids"],
                batch["attention_mask"],
                prompts=[name] * len(tokens),
                decoder_input_ids=tokens,
            ).logits[:, -1]
            for name in NAMES
        ]
        average = torch.stack(logits).mean(dim=0)
        average[:, END] = -torch.inf
        tokens = torch.cat([tokens, average.argmax(dim=-1, keepdim=True)], dim=1)
    return tokens


@torch.no_grad()
def test_ensemble_generates_from_the_average_of_the_logits(
    language: LanguageModel, tuner: PromptTuner
) -> None:
    """One pass over one batch gives what averaging the prompts' own logits step by step gives."""
    batch = batch_of(language.tokenizer)
    expected = greedy_of_averaged_logits(tuner, batch)
    found = PromptEnsemble(tuner, NAMES).generate(
        **inputs_of(batch), generation_config=decoding(num_beams=1)
    )
    assert torch.equal(found, expected)
    alone = [
        tuner.generate(
            **inputs_of(batch), prompts=[name] * 3, generation_config=decoding(num_beams=1)
        )
        for name in NAMES
    ]
    assert any(not torch.equal(found, each) for each in alone)  # else the prompts are one


@torch.no_grad()
@pytest.mark.parametrize("num_beams", [1, 3])
def test_copies_of_a_sequence_stay_equal(
    language: LanguageModel, tuner: PromptTuner, num_beams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever prompt a copy has, it generates the tokens of the others."""
    generated: list[Tensor] = []
    generate = tuner.generate

    def recorded(*arguments: Any, **options: Any) -> Tensor:
        generated.append(generate(*arguments, **options))
        return generated[-1]

    monkeypatch.setattr(tuner, "generate", recorded)
    batch = batch_of(language.tokenizer)
    PromptEnsemble(tuner, NAMES).generate(
        **inputs_of(batch), generation_config=decoding(num_beams=num_beams)
    )
    copies = generated[0].unflatten(0, (-1, len(NAMES)))  # [B, K, L]
    assert torch.equal(copies, copies[:, :1].expand_as(copies))


@torch.no_grad()
@pytest.mark.parametrize("num_beams", [1, 3])
def test_ensemble_of_one_prompt_is_this_prompt(
    language: LanguageModel, tuner: PromptTuner, num_beams: int
) -> None:
    """A prompt that is given twice generates what it generates alone, beams included."""
    batch, config = batch_of(language.tokenizer), decoding(num_beams=num_beams)
    found = PromptEnsemble(tuner, ["1", "1"]).generate(**inputs_of(batch), generation_config=config)
    alone = tuner.generate(**inputs_of(batch), prompts=["1"] * 3, generation_config=config)
    assert torch.equal(found, alone)


def test_averaged_scores_are_log_probabilities() -> None:
    """Beam search adds them up: each copy's sum to one, and are equal in every copy."""
    logits = torch.randn(2 * 3 * 2, 7, generator=torch.Generator().manual_seed(0)) * 5
    for scores in (logits, logits.log_softmax(dim=-1)):
        found = AverageLogits(3, 2)(torch.zeros(12, 1), scores)
        copies = found.view(2, 3, 2, 7)
        expected = logits.view(2, 3, 2, 7).mean(dim=1).log_softmax(dim=-1)
        assert torch.allclose(copies, expected[:, None].expand_as(copies), atol=1e-5)
        assert torch.allclose(found.exp().sum(dim=-1), torch.ones(12))


def test_ensemble_that_samples_is_refused(language: LanguageModel, tuner: PromptTuner) -> None:
    """The copies of a sequence would draw different tokens."""
    with pytest.raises(ValueError, match="cannot sample"):
        PromptEnsemble(tuner, NAMES).generate(
            **inputs_of(batch_of(language.tokenizer)), generation_config=decoding(do_sample=True)
        )


def test_ensemble_gives_each_copy_the_vector_of_its_image(language: LanguageModel) -> None:
    """A prompt with image tokens, averaged with itself, generates what it generates alone."""
    tuner = tuner_of(language, noise(3, scale=20.0), image_prompt_of(language))
    ensemble = PromptEnsemble(tuner, [DEFAULT_NAME] * 2)
    assert ensemble.takes_image_vectors
    inputs: dict[str, Any] = {
        **inputs_of(batch_of(language.tokenizer)),
        "image_vectors": vectors_of(3),
        "generation_config": decoding(),
    }
    assert torch.equal(ensemble.generate(**inputs), tuner.generate(**inputs))
