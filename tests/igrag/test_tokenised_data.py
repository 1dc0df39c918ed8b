"""Examples as token ids: cached, memory-mapped, grouped by length, padded."""

import json
import logging
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from igrag.errors import DataError
from igrag.tokenised_data import (
    LABEL_IGNORED,
    Collator,
    LengthGroupedBatches,
    tokenised_dataset,
    tokenizer_fingerprint,
)


@pytest.fixture
def tokenizer(tiny_t5: Path) -> PreTrainedTokenizerBase:
    """The tiny T5's tokenizer."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tiny_t5)
    return tokenizer


def _write(path: Path, *pairs: tuple[str, str]) -> Path:
    lines = [json.dumps({"prompt": prompt, "caption": caption}) for prompt, caption in pairs]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _load(path: Path, tokenizer: PreTrainedTokenizerBase, source: int = 16, target: int = 8):
    return tokenised_dataset(
        path,
        tokenizer,
        max_source_length=source,
        max_target_length=target,
        cache_dir=path.parent / "cache",
    )


def test_targets_end_with_the_end_token(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Labels are the caption's tokens and the end token; references come along."""
    rows = _load(_write(tmp_path / "d.jsonl", ("a dog", "the cat")), tokenizer)
    assert rows[0]["labels"] == tokenizer("the cat")["input_ids"]
    assert rows[0]["labels"][-1] == tokenizer.eos_token_id
    assert rows[0]["references"] == ["the cat"]


def test_rows_are_read_from_disk_and_found_again(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """The rows lie in Arrow files; the same content finds them, a changed file makes new ones."""
    path = _write(tmp_path / "d.jsonl", ("a dog", "the cat"))
    first = _load(path, tokenizer)
    files = {
        item["filename"]: Path(item["filename"]).stat().st_mtime_ns for item in first.cache_files
    }
    assert files
    again = _load(path, tokenizer)
    assert {
        item["filename"]: Path(item["filename"]).stat().st_mtime_ns for item in again.cache_files
    } == files
    changed = _load(_write(path, ("a dog", "the bird")), tokenizer)
    assert changed[0]["caption"] == "the bird"
    assert not {item["filename"] for item in changed.cache_files} & set(files)


def test_cuts_are_logged_and_keep_the_end(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, caplog: pytest.LogCaptureFixture
) -> None:
    """What is too long is cut to the limit, still ends properly, and is counted in the log."""
    path = _write(tmp_path / "d.jsonl", ("dog " * 20, "cat " * 20), ("dog", "cat"))
    with caplog.at_level(logging.WARNING):
        rows = _load(path, tokenizer, source=5, target=4)
    assert len(rows[0]["input_ids"]) == 5 and len(rows[0]["labels"]) == 4
    assert rows[0]["labels"][-1] == rows[0]["input_ids"][-1] == tokenizer.eos_token_id
    assert "1 of 2 prompts cut" in caplog.text and "1 of 2 captions cut" in caplog.text


def test_bad_lines_reach_the_user_as_they_are(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """The library does not hide which line was wrong."""
    path = tmp_path / "d.jsonl"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"d\.jsonl:1: not valid JSON"):
        _load(path, tokenizer)


def test_a_missing_file_is_a_data_error(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """A missing file is told before anything is cached."""
    with pytest.raises(DataError, match="no such file"):
        _load(tmp_path / "none.jsonl", tokenizer)


def test_the_tokenizers_fingerprint_follows_its_vocabulary(
    tokenizer: PreTrainedTokenizerBase, tiny_t5: Path
) -> None:
    """Another vocabulary has another fingerprint; loading the same again has the same."""
    same = AutoTokenizer.from_pretrained(tiny_t5)
    assert tokenizer_fingerprint(same) == tokenizer_fingerprint(tokenizer)
    same.add_tokens(["zebra"])
    assert tokenizer_fingerprint(same) != tokenizer_fingerprint(tokenizer)


def test_batches_cover_everything_once() -> None:
    """Every example occurs once an epoch; batches hold examples of about equal length."""
    lengths = [index % 50 for index in range(1003)]
    batches = LengthGroupedBatches(lengths, batch_size=16, seed=1)
    drawn = list(batches)
    assert len(drawn) == len(batches) == 63
    assert sorted(index for batch in drawn for index in batch) == list(range(1003))
    spreads = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in drawn]
    assert sum(spreads) / len(spreads) < 5


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    """The same seed and epoch give the same batches; another of either gives others."""
    lengths = list(range(100))
    batches = LengthGroupedBatches(lengths, batch_size=8, seed=1)
    first = list(batches)
    assert list(LengthGroupedBatches(lengths, batch_size=8, seed=1)) == first
    assert list(LengthGroupedBatches(lengths, batch_size=8, seed=2)) != first
    batches.epoch = 1
    assert list(batches) != first


def test_padding_is_never_a_label() -> None:
    """Labels are padded with -100 and sources with the pad token, which the mask leaves out."""
    batch = Collator(0, pad_to_multiple_of=4)(
        [{"input_ids": [5, 0, 1], "labels": [7, 1]}, {"input_ids": [1], "labels": [8, 9, 9, 9, 1]}]
    )
    assert batch["input_ids"].tolist() == [[5, 0, 1, 0], [1, 0, 0, 0]]
    # The pad token inside the first text is text: the mask follows the lengths.
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert batch["labels"].shape == (2, 8)
    assert batch["labels"][0].tolist() == [7, 1] + [LABEL_IGNORED] * 6
    assert torch.equal(batch["labels"][1, 5:], torch.full((3,), LABEL_IGNORED))
