"""Accumulation windows: every example once an epoch, and the gradient of one big batch."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset

from igrag.captioning.language_model import LanguageModel, load_language_model
from igrag.data.batching import LABEL_IGNORED, Collator
from igrag.data.tokenization import tokenized_dataset
from prompt_tuning.global_batches import AccumulationWindows, Window
from prompt_tuning.optimization import WindowGradient, summed_loss, window_gradient
from prompt_tuning.prompt_tuner import PromptTuner
from tests.examples import save_examples

SIZE, COUNT = 3, 37


@pytest.fixture(scope="module")
def language(tiny_t5: Path) -> LanguageModel:
    """The tiny model."""
    return load_language_model(str(tiny_t5), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def dataset(language: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Examples whose prompts and targets have different lengths."""
    path = save_examples(tmp_path_factory.mktemp("data") / "a.jsonl", count=COUNT, seed=3)
    return tokenized_dataset(
        path, language.tokenizer, max_source_length=64, max_target_length=16,
        cache_dir=path.parent,
    )  # fmt: skip


def windows_of(dataset: Dataset, *, rank: int = 0, processes: int = 1) -> AccumulationWindows:
    """Windows of 8 micro-batches of 3."""
    return AccumulationWindows(
        dataset, Collator(0), micro_batch_size=SIZE, micro_batches=8, rank=rank,
        processes=processes, seed=5,
    )  # fmt: skip


def rows(windows: list[Window]) -> list[list[tuple[int, ...]]]:
    """The examples of each window, as their ids without padding."""
    return [
        sorted(
            tuple(ids[mask == 1].tolist())
            for batch in window.batches
            for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        )
        for window in windows
    ]


def in_turn(
    windows: AccumulationWindows, epoch: int = 0, *, skip: int = 0
) -> list[list[tuple[int, ...]]]:
    """The rows of an epoch, read window by window as the loop does."""
    return [rows([window])[0] for window in windows.of_epoch(epoch, skip=skip)]


def test_every_example_counts_once(dataset: Dataset) -> None:
    """An epoch has all examples, those of the short last window too."""
    found = [row for window in in_turn(windows_of(dataset)) for row in window]
    assert sorted(found) == sorted(tuple(ids) for ids in dataset["input_ids"])
    assert len(windows_of(dataset)) == 2


def test_epochs_differ_and_are_repeatable(dataset: Dataset) -> None:
    """Another epoch brings another order, the same one the same."""
    first, again, second = (in_turn(windows_of(dataset), epoch) for epoch in (0, 0, 1))
    assert first == again != second


def test_skipping_begins_in_the_middle(dataset: Dataset) -> None:
    """What is skipped is what came first."""
    assert in_turn(windows_of(dataset), skip=1) == in_turn(windows_of(dataset))[1:]


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_each_window(dataset: Dataset, processes: int) -> None:
    """Together they have the very examples that one process has, and the same token count."""
    alone = windows_of(dataset)
    shares = [windows_of(dataset, rank=rank, processes=processes) for rank in range(processes)]
    parts = [in_turn(share) for share in shares]
    merged = [sorted(row for part in window for row in part) for window in zip(*parts, strict=True)]
    assert merged == in_turn(alone)
    counts = [[window.target_tokens for window in share.of_epoch(0)] for share in (alone, *shares)]
    assert all(count == counts[0] for count in counts)


def test_target_tokens_are_counted_without_padding(dataset: Dataset) -> None:
    """The window's total is the number of labels that a loss looks at."""
    for window in windows_of(dataset).of_epoch(0):
        labels = [batch["labels"] for batch in window.batches]
        assert window.target_tokens == sum(int((each != LABEL_IGNORED).sum()) for each in labels)


def test_accumulation_equals_one_big_batch(dataset: Dataset, language: LanguageModel) -> None:
    """Eight micro-batches of unequal length give one batch's gradient, in the short window too."""
    tuner = PromptTuner(language.model, language.tokenizer, 5)
    parameter = tuner.prompt_embeddings
    whole = AccumulationWindows(
        dataset, Collator(0), micro_batch_size=SIZE * 8, micro_batches=1, seed=5
    )
    accelerator = Accelerator(cpu=True)
    gradient = WindowGradient([parameter], accelerator)
    gradients = []
    for windows in (windows_of(dataset), whole):
        found = []
        for window in windows.of_epoch(0):
            loss = window_gradient(tuner, window, gradient, accelerator)
            assert parameter.grad is not None
            found.append((loss, parameter.grad.clone()))
        gradients.append(found)
    for (loss, micro), (big_loss, big) in zip(*gradients, strict=True):
        torch.testing.assert_close(micro, big, atol=1e-6, rtol=0)
        assert loss == pytest.approx(big_loss, abs=1e-6)


def test_the_window_loss_is_the_models_own(dataset: Dataset, language: LanguageModel) -> None:
    """One batch's summed loss over its tokens is the mean that the model itself computes."""
    tuner = PromptTuner(language.model, language.tokenizer, 5)
    batch = Collator(0)([dataset[place] for place in range(6)])
    tokens = int((batch["labels"] != LABEL_IGNORED).sum())
    expected = tuner(**batch).loss
    torch.testing.assert_close(summed_loss(tuner, batch) / tokens, expected, atol=1e-6, rtol=1e-6)
