"""Scores of a prompt without some of its soft tokens, and the order in which they are dropped."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
import torch
from accelerate import Accelerator

from igrag.captioning.generator import Decoding, prepare_decoding
from igrag.captioning.language_model import LanguageModel
from igrag.data.tokenization import tokenized_dataset
from prompt_tuning.analysis.ablation import (
    PromptScorer,
    ablate,
    pruning_path,
    without,
)
from prompt_tuning.validation import Validation
from tests.examples import save_examples
from tests.prompt_tuning.models import noise, tuner_of


@pytest.fixture
def validation(language: LanguageModel, tmp_path: Path) -> Validation:
    """Six examples."""
    dataset = tokenized_dataset(
        save_examples(tmp_path / "val.jsonl", count=6, seed=1),
        language.tokenizer,
        max_source_length=64,
        max_target_length=16,
        cache_dir=tmp_path / "cache",
    )
    decoding = prepare_decoding(language.model, Decoding(max_new_tokens=6, num_beams=1))
    return Validation(
        dataset, language.tokenizer, decoding, batch_size=4, accelerator=Accelerator(cpu=True)
    )


def test_score_without_a_token_is_that_of_the_shorter_prompt(
    language: LanguageModel, validation: Validation
) -> None:
    """The ablation of a token validates the prompt of the others; the trained prompt stays."""
    prompt = noise(3, scale=20.0)
    tuner = tuner_of(language, prompt)
    scorer = PromptScorer(tuner, validation)
    found = ablate(scorer)
    for index in range(3):
        shorter = tuner_of(language, prompt[[i for i in range(3) if i != index]])
        expected = validation.score(shorter, title="")
        assert found[index].loss == pytest.approx(expected.loss, abs=1e-6)
        assert found[index].bleu_4 == expected.bleu.bleu4
    assert len({round(score.loss, 4) for score in found}) == 3
    whole = scorer.score(range(3), title="")
    assert whole.loss == pytest.approx(validation.score(tuner, title="").loss, abs=1e-6)
    assert scorer.loss(range(3), title="") == pytest.approx(whole.loss, abs=1e-6)


def test_prompt_of_one_token_is_compared_with_none(
    language: LanguageModel, validation: Validation
) -> None:
    """Without its only token the model is the base model."""
    tuner = tuner_of(language, noise(1, scale=20.0))
    with tuner.disabled():
        expected = validation.score(tuner, title="").loss
    assert ablate(PromptScorer(tuner, validation))[0].loss == pytest.approx(expected, abs=1e-6)


class Losses:
    """A scorer whose tokens 0 and 1 hold the same: either one can go, but not both."""

    prompt = torch.zeros(4, 2)

    def __init__(self) -> None:
        self.calls = 0

    def loss(self, kept: Sequence[int], *, title: str) -> float:
        """Returns a loss that grows with what is missing."""
        self.calls += 1
        missing = {0, 1, 2, 3} - set(kept)
        return (5.0 if {0, 1} <= missing else 0.1 * len(missing & {0, 1})) + (
            sum({2: 0.5, 3: 2.0}.get(index, 0.0) for index in missing)
        )


@pytest.mark.parametrize(
    ("greedy", "dropped", "calls"), [(True, [0, 2], 4 + 3), (False, [0, 1], 4)]
)
def test_greedy_pruning_measures_after_each_dropped_token(
    greedy: bool, dropped: list[int], calls: int
) -> None:
    """Of two tokens that hold the same, greedy pruning keeps one; one-shot pruning drops both."""
    losses = Losses()
    steps = pruning_path(cast(PromptScorer, losses), 2, greedy=greedy)
    assert [step.dropped for step in steps] == [None, *dropped]
    assert [len(step.kept) for step in steps] == [4, 3, 2]
    assert steps[-1].kept == tuple(index for index in range(4) if index not in dropped)
    assert losses.calls == calls


def test_without_keeps_the_order() -> None:
    """The soft tokens that are left stay in their order."""
    assert without((4, 1, 3), 1) == (4, 3)
