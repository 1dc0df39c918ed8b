"""Versions, data and parameter counts in a training record."""

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from torch import nn

import igrag
from igrag.config import REPO_ROOT
from igrag.files import sha256_file
from igrag.training.run_metadata import count_parameters, describe_data, library_versions


def test_versions_are_the_installed_ones() -> None:
    """The project's, Python's and each library's version are those that are installed."""
    versions = library_versions()
    assert list(versions) == [
        "igrag", "python", "torch", "transformers", "peft", "accelerate", "datasets", "tokenizers",
    ]  # fmt: skip
    assert versions["igrag"] == igrag.__version__
    assert versions["python"] == platform.python_version()
    assert versions["peft"] == metadata.version("peft")


def test_library_without_metadata_has_an_unknown_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library built from source may have no metadata, which must not end a training."""

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert library_versions()["torch"] == "unknown"


def test_versions_are_read_without_heavy_imports() -> None:
    """The record and the versions are available without importing the libraries they name."""
    code = (
        "import sys, igrag.training.record; from igrag.training.run_metadata import *; "
        "library_versions(); "
        "print(sorted({'torch', 'numpy', 'transformers', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_data_is_described_by_size_and_hash(tmp_path: Path) -> None:
    """Both files have their number of examples and their hash, under the keys of the record."""
    train, val = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    train.write_text("1")
    val.write_text("2")
    assert describe_data(train, val, [0] * 3, [0] * 2) == {
        "train_examples": 3,
        "train_sha256": sha256_file(train),
        "val_examples": 2,
        "val_sha256": sha256_file(val),
    }


def test_shared_parameters_are_counted_once() -> None:
    """Two layers with one weight have it once in the total, and the facts print as PEFT's do."""
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    trained = nn.Linear(2, 2, bias=False)
    facts = count_parameters("t5", nn.ModuleList([first, second, trained]), trained.parameters())
    assert facts.name == "t5"
    assert facts.describe_parameters() == "trainable params: 4 / 20 (20.0000%)"
