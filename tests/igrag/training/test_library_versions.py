"""The versions that a result rests on."""

import platform
import subprocess
import sys
from importlib import metadata

import pytest

from igrag.config import REPO_ROOT
from igrag.training.library_versions import library_versions


def test_versions() -> None:
    """Python's and each library's version are those that are installed."""
    versions = library_versions()
    assert list(versions) == [
        "python", "torch", "transformers", "peft", "accelerate", "datasets", "tokenizers",
    ]  # fmt: skip
    assert versions["python"] == platform.python_version()
    assert versions["peft"] == metadata.version("peft")


def test_a_library_without_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """One built from its sources may have none, which must not end a training."""

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert library_versions()["torch"] == "unknown"


def test_nothing_heavy_is_imported() -> None:
    """The record and the versions come without the libraries they tell of."""
    code = (
        "import sys, igrag.training.record; from igrag.training.library_versions import *; "
        "library_versions(); "
        "print(sorted({'torch', 'numpy', 'transformers', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
