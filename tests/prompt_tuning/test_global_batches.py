"""Global batches: every example once an epoch, and the gradient of one big batch."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset

from igrag.captioning.language_model import LanguageModel, load_language_model
from igrag.data.batching import LABEL_IGNORED, Collator
from igrag.data.tokenization import tokenized_dataset
from prompt_tuning.global_batches import GlobalBatch, GlobalBatches
from prompt_tuning.optimization import GradientSum, summed_loss
from tests.examples import save_examples
from tests.prompt_tuning.models import make_tuner

SIZE, COUNT = 3, 37
Examples = list[tuple[int, ...]]


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


def batches_of(dataset: Dataset, *, rank: int = 0, processes: int = 1) -> GlobalBatches:
    """Returns global batches of 8 micro-batches of 3."""
    return GlobalBatches(
        dataset, Collator(0), micro_batch_size=SIZE, micro_batches=8, rank=rank,
        processes=processes, seed=5,
    )  # fmt: skip


def examples_of(global_batch: GlobalBatch) -> Examples:
    """Returns the examples of a global batch, as their ids without padding."""
    return sorted(
        tuple(ids[mask == 1].tolist())
        for batch in global_batch.micro_batches
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    )


def epoch_of(batches: GlobalBatches, epoch: int = 0, *, start: int = 0) -> list[Examples]:
    """Returns the examples of an epoch, read one global batch at a time as the loop does."""
    return [examples_of(each) for each in batches.of_epoch(epoch, start=start)]


def test_every_example_counts_once_an_epoch(dataset: Dataset) -> None:
    """An epoch has all examples, those of the short last global batch included."""
    found = [example for each in epoch_of(batches_of(dataset)) for example in each]
    assert sorted(found) == sorted(tuple(ids) for ids in dataset["input_ids"])
    assert len(batches_of(dataset)) == 2


def test_epochs_differ_and_are_repeatable(dataset: Dataset) -> None:
    """Another epoch has another order, the same epoch the same one."""
    first, again, second = (epoch_of(batches_of(dataset), epoch) for epoch in (0, 0, 1))
    assert first == again != second


def test_start_skips_the_first_global_batches(dataset: Dataset) -> None:
    """An epoch from index 1 on is the epoch without its first global batch."""
    assert epoch_of(batches_of(dataset), start=1) == epoch_of(batches_of(dataset))[1:]


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_each_global_batch(dataset: Dataset, processes: int) -> None:
    """Together they have the very examples that one process has, and the same token count."""
    alone = batches_of(dataset)
    shares = [batches_of(dataset, rank=rank, processes=processes) for rank in range(processes)]
    parts = zip(*(epoch_of(share) for share in shares), strict=True)
    assert [sorted(one for part in each for one in part) for each in parts] == epoch_of(alone)
    counts = [[each.target_tokens for each in share.of_epoch(0)] for share in (alone, *shares)]
    assert all(count == counts[0] for count in counts)


def test_target_tokens_are_counted_without_padding(dataset: Dataset) -> None:
    """The total of a global batch is the number of labels that the loss counts."""
    for global_batch in batches_of(dataset).of_epoch(0):
        labels = [batch["labels"] for batch in global_batch.micro_batches]
        counted = sum(int((each != LABEL_IGNORED).sum()) for each in labels)
        assert global_batch.target_tokens == counted


def test_accumulation_equals_one_big_batch(dataset: Dataset, language: LanguageModel) -> None:
    """Eight micro-batches of unequal length give the gradient of one batch, the last one too."""
    tuner = make_tuner(language, 5)
    parameter = tuner.prompt_embeddings
    big_batches = GlobalBatches(
        dataset, Collator(0), micro_batch_size=SIZE * 8, micro_batches=1, seed=5
    )
    gradient_sum = GradientSum([parameter], Accelerator(cpu=True))
    results = []
    for batches in (batches_of(dataset), big_batches):
        found = []
        for global_batch in batches.of_epoch(0):
            gradient_sum.zero()
            for batch in global_batch.micro_batches:
                loss = summed_loss(tuner, batch) / global_batch.target_tokens
                gradient_sum.add(loss, torch.autograd.grad(loss, [parameter]))
            global_loss = gradient_sum.all_reduce()
            assert parameter.grad is not None
            found.append((global_loss, parameter.grad.clone()))
        results.append(found)
    for (loss_of_parts, parts), (loss_of_one, one) in zip(*results, strict=True):
        torch.testing.assert_close(parts, one, atol=1e-6, rtol=0)
        assert loss_of_parts == pytest.approx(loss_of_one, rel=1e-6)


def test_large_micro_batch_is_run_in_parts(dataset: Dataset) -> None:
    """No forward pass has more source tokens than allowed; the examples stay the same."""

    def batches(pass_tokens: int | None) -> GlobalBatches:
        return GlobalBatches(
            dataset, Collator(0), micro_batch_size=SIZE * 2, micro_batches=4, seed=5,
            pass_tokens=pass_tokens,
        )  # fmt: skip

    whole = [
        batch["input_ids"] for each in batches(None).of_epoch(0) for batch in each.micro_batches
    ]
    limit = max(ids.numel() for ids in whole) // 2
    parts = [
        batch["input_ids"] for each in batches(limit).of_epoch(0) for batch in each.micro_batches
    ]
    assert max(ids.numel() for ids in parts) <= limit
    assert len(whole) < len(parts) < 3 * len(whole)
    assert epoch_of(batches(limit)) == epoch_of(batches(None))
    # Nothing can be cut further than into single examples.
    assert [len(batch["input_ids"]) for batch in next(batches(1).of_epoch(0)).micro_batches] == [
        1
    ] * 24


def test_summed_loss_over_tokens_is_the_models_own(
    dataset: Dataset, language: LanguageModel
) -> None:
    """The summed loss of one batch over its tokens is the mean that the model itself computes."""
    tuner = make_tuner(language, 5)
    batch = Collator(0)([dataset[index] for index in range(6)])
    tokens = int((batch["labels"] != LABEL_IGNORED).sum())
    expected = tuner(**batch).loss
    torch.testing.assert_close(summed_loss(tuner, batch) / tokens, expected, atol=1e-6, rtol=1e-6)
