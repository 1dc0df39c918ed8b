"""Examples as token ids: the cache on disk, the batches, the padding."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset
from datasets.table import MemoryMappedTable
from datasets.utils import are_progress_bars_disabled
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from igrag.data import tokenization
from igrag.data.tokenization import tokenized_dataset
from igrag.errors import DataError, UsageError
from igrag.fingerprints import tokenizer_fingerprint
from igrag.processes import Ranks

END = 1
PROMPTS = ["a dog", "a cat runs in the field", "a bus"]


@pytest.fixture
def tokenizer(tiny_t5: Path) -> PreTrainedTokenizerBase:
    """A tokenizer of the test's own: calls change its state."""
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tiny_t5)
    return loaded


def write(path: Path, prompts: Iterable[str] = PROMPTS, caption: str = "a dog") -> Path:
    """Writes examples to a file."""
    file = path / "train.jsonl"
    lines = [json.dumps({"prompt": prompt, "caption": caption}) for prompt in prompts]
    file.write_text("\n".join(lines))
    return file


def load(file: Path, tokenizer: PreTrainedTokenizerBase, **options: Any) -> Dataset:
    """Tokenizes with the cache next to the file."""
    limits = {"max_source_length": 64, "max_target_length": 16, **options}
    return tokenized_dataset(file, tokenizer, cache_dir=file.parent / "cache", **limits)


def cached(path: Path) -> dict[Path, int]:
    """Returns the Arrow files with their times of change."""
    return {file: file.stat().st_mtime_ns for file in (path / "cache").rglob("*.arrow")}


def test_tokenized_dataset_has_the_columns_of_training_and_scoring(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """An example has the token ids of prompt and target, each with an end token, and the texts."""
    content = {"prompt": "a dog runs", "caption": "dog", "references": ["dog", "cat"]}
    file = tmp_path / "train.jsonl"
    file.write_text(json.dumps({**content, "image_id": 7}) + "\n" + json.dumps(content))
    rows = load(file, tokenizer)
    dog = tokenizer.convert_tokens_to_ids("dog")
    assert rows[0]["labels"] == [dog, END]
    assert rows[0]["input_ids"] == tokenizer("a dog runs")["input_ids"]
    assert rows[0]["source_length"] == len(rows[0]["input_ids"]) == 4
    assert rows[0]["references"] == ["dog", "cat"]
    assert [rows[0]["image_id"], rows[1]["image_id"]] == ["7", ""]


def test_targets_get_an_end_token_if_the_tokenizer_adds_none(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """A tokenizer that adds no end token still gives targets that end, once."""
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A")
    assert tokenizer("dog")["input_ids"][-1] != END
    dog = tokenizer.convert_tokens_to_ids("dog")
    assert load(write(tmp_path, caption="dog"), tokenizer)[0]["labels"] == [dog, END]


def test_second_tokenization_reads_the_cache(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file, tokenizer and lengths are read and tokenized once, whatever came between."""
    file = write(tmp_path)
    first = load(file, tokenizer)
    files = cached(tmp_path)
    assert len(files) == 2
    tokenizer(["a dog", "a"], padding=True, truncation=True, max_length=2)

    def not_again(*args: object, **kwargs: object) -> None:
        raise AssertionError("tokenized again")

    monkeypatch.setattr(tokenization, "_tokenize", not_again)
    monkeypatch.setattr(tokenization, "iter_examples", not_again)
    second = load(file, tokenizer)
    assert second[:] == first[:]
    assert cached(tmp_path) == files


def test_several_processes_tokenize_as_one(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file is shared by the cores; another number of cores finds the same files again."""
    from tokenizers.normalizers import Replace

    prompts = [f"a dog {'and a cat ' * number}" for number in range(7)]
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    expected = load(write(tmp_path / "one", prompts), tokenizer)
    monkeypatch.setattr(tokenization, "_EXAMPLES_PER_WORKER", 2)
    monkeypatch.setattr(Ranks, "cores", lambda self: 2)
    file = write(tmp_path / "many", prompts)
    found = load(file, tokenizer)
    assert found[:] == expected[:]
    files = cached(tmp_path / "many")
    assert len(files) == 3
    monkeypatch.setattr(Ranks, "cores", lambda self: 3)
    assert load(file, tokenizer)[:] == expected[:]
    assert cached(tmp_path / "many") == files
    bad = write(tmp_path / "many", prompts, caption="~")
    tokenizer.backend_tokenizer.normalizer = Replace("~", "")
    with pytest.raises(DataError, match=r"train\.jsonl:1: the tokenizer makes no token"):
        load(bad, tokenizer)


def test_changed_file_is_tokenized_again(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """The cache goes by the content: a changed file under the same name is another one."""
    before = load(write(tmp_path), tokenizer)
    after = load(write(tmp_path, ["a horse", "a man"]), tokenizer)
    assert (len(before), after["prompt"][:]) == (3, ["a horse", "a man"])


def test_changed_lengths_are_tokenized_again(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Other limits on the same file do not find the first one's tokens."""
    file = write(tmp_path)
    assert max(load(file, tokenizer)["source_length"]) == 7
    assert max(load(file, tokenizer, max_source_length=4)["source_length"]) == 4


def test_tokenizer_fingerprint_ignores_the_last_call(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Padding and cutting of an earlier call do not count; a further token does."""
    before = tokenizer_fingerprint(tokenizer)
    tokenizer(["a", "a dog"], padding=True, truncation=True, max_length=3)
    assert tokenizer_fingerprint(tokenizer) == before
    tokenizer.add_tokens(["zebra"])
    assert tokenizer_fingerprint(tokenizer) != before


def test_tokenized_dataset_is_memory_mapped(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """The examples are in a mapped file, not in memory."""
    rows = load(write(tmp_path), tokenizer)
    assert isinstance(rows.data, MemoryMappedTable)
    assert {Path(entry["filename"]) for entry in rows.cache_files} <= set(cached(tmp_path))


def test_no_progress_bar_without_a_terminal(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, capfd: pytest.CaptureFixture[str]
) -> None:
    """The library's progress bars stay out of log files, and are left as they were."""
    before = are_progress_bars_disabled()
    load(write(tmp_path), tokenizer)
    assert capfd.readouterr() == ("", "")
    assert are_progress_bars_disabled() == before


def test_truncation_keeps_the_end_token_and_is_logged(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, caplog: pytest.LogCaptureFixture
) -> None:
    """What is too long is cut before its end token, and each call's log counts it."""
    file = write(tmp_path, caption="a dog runs in a field")
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            rows = load(file, tokenizer, max_source_length=4, max_target_length=3)
        assert "1 of 3 prompts truncated" in caplog.text
        assert "3 of 3 captions truncated" in caplog.text
    assert rows[1]["input_ids"] == [*tokenizer("a cat runs")["input_ids"][:3], END]
    assert rows[0]["labels"] == tokenizer("a dog")["input_ids"]
    assert rows[0]["input_ids"] == tokenizer("a dog")["input_ids"]


def test_invalid_line_is_an_error_when_tokenizing(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """The library's own error does not hide the file and line, nor does a bad file stay cached."""
    file = write(tmp_path)
    file.write_text(file.read_text() + '\n{"prompt": "a"}\n')
    for _ in range(2):
        with pytest.raises(DataError, match=r'train.jsonl:4: "caption" is missing'):
            load(file, tokenizer)
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "nothing.jsonl", tokenizer)


def test_skipped_lines_are_logged_also_from_the_cache(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, caplog: pytest.LogCaptureFixture
) -> None:
    """The number of skipped lines is logged once, whether or not the cache is used."""
    file = write(tmp_path)
    file.write_text(file.read_text() + '\n{"prompt": "a"}\n\n[]\n')
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert len(load(file, tokenizer, skip_bad_lines=True)) == 3
        assert caplog.messages == [f"{file}: 2 bad lines skipped, 3 examples read"]


def test_caption_without_tokens_is_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """A caption without a token would train the model to generate nothing."""
    from tokenizers.normalizers import Replace

    tokenizer.backend_tokenizer.normalizer = Replace("~", "")
    with pytest.raises(DataError, match=r"train\.jsonl:1: the tokenizer makes no token of .*'~'"):
        load(write(tmp_path, caption="~"), tokenizer)
    file = tmp_path / "train.jsonl"
    lines = ["[]", "", '{"prompt": "a", "caption": "dog"}', '{"prompt": "a", "caption": "~"}']
    file.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"train\.jsonl:4: "):
        load(file, tokenizer, skip_bad_lines=True)


def test_cache_that_cannot_be_written_is_named(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user without a home sees the folder and the variable that sets it, not the library's."""
    (tmp_path / "home").write_text("a file")
    folder = tmp_path / "home" / ".cache" / "datasets"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    with pytest.raises(UsageError, match=r"home.*give another HF_DATASETS_CACHE"):
        tokenized_dataset(write(tmp_path), tokenizer, max_source_length=64, max_target_length=16)
