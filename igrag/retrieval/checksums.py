"""Checksums of a knowledge base's files, which its manifest holds: changed files are noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igrag.errors import DataError, KnowledgeBaseError
from igrag.files import is_file, read_json, sha256_file
from igrag.inputs import check_regular

MANIFEST, VECTORS, CAPTIONS = "knowledge_base.json", "vectors.npy", "captions"
ID_ORDER = "id_order.npy"  # Knowledge bases of earlier versions lack it.
# Indexes of the vectors, made by `igrag index`: a folder of faiss, a database of Milvus Lite.
FAISS, MILVUS, MILVUS_DESCRIPTION = "faiss", "milvus.db", "milvus.json"
FAISS_NAMES = FAISS_INDEX, FAISS_DESCRIPTION = "vectors.faiss", "index.json"
OWN_NAMES = frozenset({MANIFEST, VECTORS, CAPTIONS, ID_ORDER, FAISS, MILVUS, MILVUS_DESCRIPTION})
SUMS = "sha256"  # The manifest's key; knowledge bases of earlier versions lack it.
REBUILD = "rebuild it with scripts/build_knowledge_base.py --overwrite_output_dir"
_STATE = "state.json"
# Larger files are compared with their checksums by --verify alone: opening would take seconds.
CHECKED_BYTES = 1 << 27
SAMPLED_ROWS = 1024


def checksums(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file but the manifest, by its path from the folder."""
    return {name: sha256_file(folder / name) for name in _names(folder)}


def check_captions(path: Path, manifest: Mapping[str, Any]) -> None:
    """Checks the files of the captions, before a library reads what they name.

    Args:
        path: The knowledge base.
        manifest: Its manifest; without checksums only the names are checked.

    Raises:
        KnowledgeBaseError: One is missing or changed, or lies elsewhere.
    """
    folder = path / CAPTIONS
    try:
        state = read_json(folder / _STATE)
        files = state["_data_files"] if isinstance(state, dict) else []
        for name in [file["filename"] for file in files]:
            # datasets opens whatever is named there.
            if Path(name).name != name:
                raise KnowledgeBaseError(
                    f"{folder / _STATE}: found the file {name[:100]!r}, expected one of that "
                    f"folder; {REBUILD}"
                )
            check_regular(folder / name)
    except (DataError, OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, KnowledgeBaseError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise KnowledgeBaseError(f"{folder}: missing or damaged ({reason}); {REBUILD}") from None
    names = [name for name in _names(path) if name != VECTORS]
    _compare(path, manifest, [each for each in names if is_small(path / each)])


def is_small(file: Path) -> bool:
    """Returns whether a file is compared with its checksum each time that it is opened."""
    return file.stat().st_size <= CHECKED_BYTES


def sampled_rows(count: int) -> NDArray[np.int64]:
    """Returns some of `count` rows, evenly spread: reading all would touch the whole file."""
    return np.linspace(0, count - 1, min(SAMPLED_ROWS, count)).astype(np.int64)


def fingerprint(manifest: Mapping[str, Any], vectors: NDArray[np.float32]) -> str:
    """Returns a hash of vectors [N, D], for an index of them: their checksum and some rows."""
    sums = manifest.get(SUMS)
    known = sums.get(VECTORS) if isinstance(sums, dict) else None
    digest = hashlib.sha256(json.dumps([list(vectors.shape), known]).encode())
    digest.update(vectors[sampled_rows(len(vectors))].tobytes())
    return digest.hexdigest()


def check_all(path: Path, manifest: Mapping[str, Any]) -> bool:
    """Compares all files with the manifest's checksums, the vectors too, which takes a while.

    Returns:
        False if the manifest has none.

    Raises:
        KnowledgeBaseError: One is missing or changed.
    """
    _compare(path, manifest, _names(path))
    return SUMS in manifest


def _compare(path: Path, manifest: Mapping[str, Any], names: list[str]) -> None:
    if SUMS not in manifest:
        return
    expected = manifest[SUMS]
    for name in names:
        if not isinstance(expected, dict) or expected.get(name) != sha256_file(path / name):
            part = name if name in (VECTORS, ID_ORDER) else CAPTIONS
            raise KnowledgeBaseError(
                f"{path / part}: missing or damaged ({name} has another checksum than in "
                f"{MANIFEST}); {REBUILD}"
            )


def _names(folder: Path) -> list[str]:
    """Lists the files of a knowledge base but the manifest, hidden ones aside."""
    captions = sorted((folder / CAPTIONS).iterdir()) if (folder / CAPTIONS).is_dir() else []
    own = [f"{CAPTIONS}/{file.name}" for file in captions if not file.name.startswith(".")]
    return [name for name in (VECTORS, ID_ORDER) if is_file(folder / name)] + own
