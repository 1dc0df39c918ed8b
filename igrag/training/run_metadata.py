"""What a training record contains besides its figures: versions, data and parameter counts."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sized
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import igrag
from igrag.files import sha256_file
from igrag.training.record import ModelFacts

if TYPE_CHECKING:  # torch takes seconds to load
    from torch import nn

_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers")


def library_versions() -> dict[str, str]:
    """Returns the versions of this project, of Python and of the libraries that results depend on.

    They are read from the installed packages' metadata: nothing is imported.
    """
    versions = {"igrag": igrag.__version__, "python": platform.python_version()}
    return versions | {name: _version(name) for name in _LIBRARIES}


def describe_data(train_file: Path, val_file: Path, train: Sized, val: Sized) -> dict[str, Any]:
    """Returns the size and SHA-256 of both data files, by which resume recognizes other data."""
    return {
        "train_examples": len(train),
        "train_sha256": sha256_file(train_file),
        "val_examples": len(val),
        "val_sha256": sha256_file(val_file),
    }


def count_parameters(name: str, module: nn.Module, trainable: Iterable[nn.Parameter]) -> ModelFacts:
    """Counts parameters; shared ones once.

    Args:
        name: Folder or hub id of the base model.
        module: The model, with its prompt or adapter.
        trainable: Those of its parameters that are trained.
    """
    return ModelFacts(
        name=name,
        total_parameters=sum(parameter.numel() for parameter in module.parameters()),
        trainable_parameters=sum(parameter.numel() for parameter in trainable),
    )


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:  # A build from source may have no metadata.
        return "unknown"
