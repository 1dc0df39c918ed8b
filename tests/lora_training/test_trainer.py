"""The Trainer's losses, gradients and scores against independent computations."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from igrag.captioning.generator import CaptionGenerator, Decoding
from igrag.captioning.language_model import LanguageModel, load_language_model
from igrag.data.batching import LengthGroupedBatches, target_lengths
from igrag.data.examples import iter_examples
from igrag.data.tokenization import tokenized_dataset
from igrag.metrics import bleu
from lora_training.trainer import longest_first
from tests.lora_training.training import Trainer, record_of


def read(path: Path, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Tokenizes a file as the training does."""
    return tokenized_dataset(path, tokenizer, max_source_length=512, max_target_length=40)


def token_losses(language: LanguageModel, rows: Dataset) -> list[torch.Tensor]:
    """Returns the cross-entropy of each example's target tokens, one at a time, without padding."""
    model: Any = language.model
    found = []
    with torch.inference_mode():
        for row in rows:
            labels = torch.tensor([row["labels"]])
            logits = model(input_ids=torch.tensor([row["input_ids"]]), labels=labels).logits
            found.append(cross_entropy(logits[0], labels[0], reduction="none"))
    return found


def test_step_loss_is_the_mean_over_its_target_tokens(exact: Trainer) -> None:
    """A global batch of accumulated micro-batches has its mean, the short last one included."""
    output = exact.train(training__learning_rate=1e-12, training__num_train_epochs=1)
    language = load_language_model(str(exact.model), device="cpu")
    rows = read(exact.data / "train.jsonl", language.tokenizer)
    lengths = rows["source_length"][:], target_lengths(rows)
    batches = list(LengthGroupedBatches(*lengths, batch_size=4, seed=42))
    global_batches = [
        [*first, *second] for first, second in zip(batches[::2], batches[1::2], strict=True)
    ]
    expected = [
        float(torch.cat(token_losses(language, rows.select(indices))).mean())
        for indices in global_batches
    ]
    history = record_of(output).history
    assert [step.loss for step in history] == pytest.approx(expected, rel=1e-5)
    assert sorted(example for indices in global_batches for example in indices) == list(range(37))


@pytest.mark.slow
def test_accumulation_does_not_scale_the_gradient(exact: Trainer) -> None:
    """One batch of all 37 examples and ten that are accumulated have the same gradient."""
    one_epoch = {"training__num_train_epochs": 1, "training__max_grad_norm": "null"}
    whole = exact.train(
        "whole", training__per_device_train_batch_size=37,
        training__gradient_accumulation_steps=1, **one_epoch,
    )  # fmt: skip
    parts = exact.train("parts", training__gradient_accumulation_steps=10, **one_epoch)
    first, second = (record_of(output).history[0] for output in (whole, parts))
    assert second.loss == pytest.approx(first.loss, rel=1e-5)
    assert first.grad_norm is not None
    assert second.grad_norm == pytest.approx(first.grad_norm, rel=1e-4)


@pytest.mark.slow
def test_validation_scores_equal_captioning(exact: Trainer) -> None:
    """Loss a token and BLEU, untuned and tuned, equal those of the loaded model on the file."""
    output = exact.train(training__num_train_epochs=6, training__eval_steps=30)
    path = exact.data / "val.jsonl"
    examples = list(iter_examples(path))
    untuned, tuned = record_of(output).evaluations
    assert tuned.bleu2 > untuned.bleu2
    for adapter, found in ((None, untuned), (output / "best", tuned)):
        language = load_language_model(str(exact.model), device="cpu", lora_path=adapter)
        losses = torch.cat(token_losses(language, read(path, language.tokenizer)))
        assert found.loss == pytest.approx(float(losses.mean()), rel=1e-4)
        generator = CaptionGenerator(
            language.model,
            language.tokenizer,
            decoding=Decoding(num_beams=1, max_new_tokens=6),
        )
        captions = generator.generate([example.prompt for example in examples])
        score = bleu(captions, [example.references for example in examples])
        assert (found.bleu1, found.bleu2, found.bleu3, found.bleu4) == pytest.approx(
            (score.bleu1, score.bleu2, score.bleu3, score.bleu4)
        )


def test_longest_first_only_reorders() -> None:
    """Every example is kept as it is."""
    rows = Dataset.from_dict({"source_length": [3, 9, 5], "image_id": ["a", "b", "c"]})
    assert longest_first(rows).to_dict() == {
        "source_length": [9, 5, 3],
        "image_id": ["b", "c", "a"],
    }
