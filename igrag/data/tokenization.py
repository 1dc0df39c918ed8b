"""Tokenized examples, memory-mapped and cached by `datasets`."""

import logging
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.compute as compute
from datasets import Dataset, Features, List, Value
from datasets.fingerprint import Hasher
from transformers import PreTrainedTokenizerBase

from igrag.data.arrow_cache import generated_dataset, writing_cache
from igrag.data.examples import count_lines, iter_examples
from igrag.data.text_length import cut_text
from igrag.data.unknown_tokens import MOST, NOTICEABLE, unknown_shares
from igrag.errors import DataError
from igrag.files import sha256_file
from igrag.fingerprints import tokenizer_fingerprint
from igrag.processes import Ranks

logger = logging.getLogger(__name__)
_TOKENIZE_BATCH = 1000
# A process takes a second to start, in which this many are tokenized.
_EXAMPLES_PER_WORKER = 25_000
_COLUMNS_VERSION = 2  # Files of other columns, left in the cache by an earlier version, are none.


def tokenized_dataset(
    path: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_source_length: int,
    max_target_length: int,
    skip_bad_lines: bool = False,
    cache_dir: Path | None = None,
) -> Dataset:
    """Tokenizes a JSONL file into an Arrow file that is read from disk, not held in memory.

    A second call with the same file content, tokenizer and lengths finds the first one's files.

    Args:
        path: The JSONL file; see `iter_examples`.
        tokenizer: Its end token closes every target.
        max_source_length: Maximum prompt length in tokens; longer ones are truncated, with a
            warning.
        max_target_length: Maximum target length in tokens, likewise.
        skip_bad_lines: See `iter_examples`; the number of skipped lines is logged at every call.
        cache_dir: Folder of the Arrow files; None for the library's own.

    Returns:
        A dataset with input_ids [T], labels [L], source_length, prompt, caption, references,
        image_id (as text, "" if unknown).

    Raises:
        DataError: See `iter_examples`; also (file:line) when a target has no token of its own, and
            when all prompts or all targets are mostly unknown tokens.
    """
    if not path.is_file():
        next(iter_examples(path))  # Raises the error for a missing file.
    key = [sha256_file(path), skip_bad_lines]
    settings = [
        _COLUMNS_VERSION, max_source_length, max_target_length, tokenizer_fingerprint(tokenizer),
    ]  # fmt: skip
    with writing_cache(cache_dir):
        examples = generated_dataset(
            _generate_examples,
            {"path": path, "skip_bad_lines": skip_bad_lines},
            features=_FEATURES,
            fingerprint=Hasher.hash(key),
            cache_dir=cache_dir,
        )
        tokenized = examples.map(
            partial(
                _tokenize,
                path=path,
                skip_bad_lines=skip_bad_lines,
                tokenizer=tokenizer,
                max_source_length=max_source_length,
                max_target_length=max_target_length,
            ),
            batched=True,
            with_indices=True,
            batch_size=_TOKENIZE_BATCH,
            num_proc=_workers(len(examples)),
            new_fingerprint=Hasher.hash([*key, *settings]),
        )
    if skip_bad_lines:
        _log_skipped(path, len(examples))
    _log_truncated(path, tokenized)
    _report_unknown(path, tokenized)
    return tokenized


def _workers(examples: int) -> int | None:
    """Returns how many processes tokenize; None for this one alone."""
    count = min(Ranks().cores(), examples // _EXAMPLES_PER_WORKER)
    return count if count > 1 else None


_FEATURES = Features(
    {
        "prompt": Value("string"),
        "caption": Value("string"),
        "references": List(Value("string")),
        "image_id": Value("string"),
    }
)


def _generate_examples(path: Path, skip_bad_lines: bool) -> Iterator[dict[str, Any]]:
    for example in iter_examples(path, skip_bad_lines=skip_bad_lines):
        yield {
            "prompt": example.prompt,
            "caption": example.caption,
            "references": list(example.references),
            "image_id": "" if example.image_id is None else str(example.image_id),
        }


def _tokenize(
    batch: dict[str, list[str]],
    numbers: list[int],
    *,
    path: Path,
    skip_bad_lines: bool,
    tokenizer: PreTrainedTokenizerBase,
    max_source_length: int,
    max_target_length: int,
) -> dict[str, list[Any]]:
    prompts = [cut_text(text, max_source_length) for text in batch["prompt"]]
    captions = [cut_text(text, max_target_length) for text in batch["caption"]]
    sources = tokenizer(prompts)["input_ids"]
    end = tokenizer.eos_token_id
    targets = [
        ids if ids[-1:] == [end] else [*ids, end]  # Not every tokenizer adds the end token.
        for ids in tokenizer(text_target=captions)["input_ids"]
    ]
    for number, ids in zip(numbers, targets, strict=True):
        if len(ids) < 2:  # The end token alone would train the model to generate nothing.
            examples = iter_examples(path, skip_bad_lines=skip_bad_lines)
            example = next(islice(examples, number, None))
            raise DataError(
                f"{path}:{example.line}: the tokenizer makes no token of the caption "
                f"{example.caption!r}, expected text in its alphabet; fix or remove the line"
            )
    return {
        "input_ids": [_truncate(ids, max_source_length, end) for ids in sources],
        "labels": [_truncate(ids, max_target_length, end) for ids in targets],
        "source_length": [min(len(ids), max_source_length) for ids in sources],
        "cut_source": [len(ids) > max_source_length for ids in sources],
        "cut_target": [len(ids) > max_target_length for ids in targets],
        "unknown_source": unknown_shares(tokenizer, prompts, sources),
        "unknown_target": unknown_shares(tokenizer, captions, targets),
    }


def source_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: str, *, max_source_length: int
) -> list[int]:
    """Returns the token ids of a prompt as `tokenized_dataset` makes them."""
    ids: list[int] = tokenizer(cut_text(prompt, max_source_length))["input_ids"]
    return _truncate(ids, max_source_length, tokenizer.eos_token_id)


def _truncate(ids: list[int], max_length: int, end: int) -> list[int]:
    return ids if len(ids) <= max_length else [*ids[: max_length - 1], end]


def _log_skipped(path: Path, read: int) -> None:
    # Counted here, since a cached file is not read again.
    skipped = count_lines(path) - read
    if skipped:
        logger.warning("%s: %d bad lines skipped, %d examples read", path, skipped, read)


def _log_truncated(path: Path, dataset: Dataset) -> None:
    for column, what in (("cut_source", "prompts"), ("cut_target", "captions")):
        count = compute.sum(dataset.data.column(column)).as_py()
        if count:
            logger.warning("%s: %d of %d %s truncated", path, count, len(dataset), what)


def _report_unknown(path: Path, dataset: Dataset) -> None:
    """Warns of texts in an alphabet that the tokenizer lacks; all of them are an error."""
    for column, text, what in (
        ("unknown_source", "prompt", "prompts"),
        ("unknown_target", "caption", "captions"),
    ):
        shares = dataset.data.column(column).to_numpy()
        unknown = (shares >= NOTICEABLE).nonzero()[0]
        if not len(unknown):
            continue
        found = (
            f"{len(unknown)} of {len(dataset)} {what} ({len(unknown) / len(dataset):.0%}) turn "
            f"into unknown tokens, by a quarter of their characters or more; the first is "
            f"{dataset[int(unknown[0])][text]!r:.80}"
        )
        fix = "use a model that was trained on their language, such as mT5"
        if shares.min() >= MOST:
            raise DataError(f"{path}: {found}; {fix}")
        logger.warning("%s: %s; %s", path, found, fix)
