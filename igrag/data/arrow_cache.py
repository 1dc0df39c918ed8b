"""Datasets that are made once, in Arrow files which `datasets` keeps in its cache."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, Features
from datasets.exceptions import DatasetGenerationError
from datasets.fingerprint import Hasher

from igrag.data.progress import datasets_bars
from igrag.errors import DataError
from igrag.files import check_output_folder, naming_full_disk, read_json, write_json

_RESULTS = "igrag_results"  # Folder in the cache.
_RESULTS_VERSION = 1  # To be raised where what is remembered changes.


def cache_folder(cache_dir: Path | None = None) -> Path:
    """Returns a folder of Arrow files, by default the library's own.

    Raises:
        UsageError: It cannot be written to.
    """
    folder = cache_dir or Path(datasets.config.HF_DATASETS_CACHE)
    check_output_folder(folder, option="HF_DATASETS_CACHE")
    return folder


@contextmanager
def writing_cache(cache_dir: Path | None) -> Iterator[None]:
    """Shows the library's progress bars on a terminal, and names the folder on a full disk.

    Raises:
        UsageError: The folder cannot be written to.
        OutputError: The disk is full.
    """
    folder = cache_folder(cache_dir)
    with datasets_bars(shown=sys.stderr.isatty()), naming_full_disk(folder):
        yield


def generated_dataset(
    generate: Callable[..., Iterator[dict[str, Any]]],
    arguments: Mapping[str, Any],
    *,
    features: Features,
    fingerprint: str,
    cache_dir: Path | None,
) -> Dataset:
    """Returns the dataset of what a generator yields, or that of an earlier call.

    Args:
        generate: Yields the rows.
        arguments: Its arguments by name.
        features: The columns.
        fingerprint: Changes with the rows.
        cache_dir: Folder of the Arrow files; None for the library's own.

    Raises:
        DataError, OSError: As the generator raises it, which the library wraps.
    """
    try:
        return Dataset.from_generator(
            generate,
            features=features,
            gen_kwargs=dict(arguments),
            cache_dir=str(cache_dir) if cache_dir else None,
            fingerprint=fingerprint,
        )
    except DatasetGenerationError as error:
        # Writing may have failed as well as reading.
        if isinstance(error.__cause__, (DataError, OSError)):
            raise error.__cause__ from None
        raise


def remembered(key: Sequence[str], make: Callable[[], Any]) -> Any:
    """Returns the result of reading whole datasets, or that of an earlier call.

    Args:
        key: What the result is, and everything that it depends on.
        make: Makes it, as plain JSON data.

    Raises:
        UsageError: The cache cannot be written to.
        OutputError: The disk is full.
    """
    folder = cache_folder() / _RESULTS
    path = folder / f"{Hasher.hash([_RESULTS_VERSION, *key])}.json"
    if path.is_file():
        try:
            return read_json(path)
        except DataError:  # damaged
            pass
    made = make()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, made)
    return made


def content_key(dataset: Dataset) -> str:
    """Returns what changes with the content of a dataset: the key of its files in the cache.

    That of `tokenized_dataset` is a hash of its file, its tokenizer and its lengths.
    """
    fingerprint: str = dataset._fingerprint
    return fingerprint
