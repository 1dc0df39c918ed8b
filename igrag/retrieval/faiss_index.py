"""An index of faiss next to the vectors that it finds: trained, measured, memory-mapped.

KNOWLEDGE_BASE/faiss holds `vectors.faiss`, an inverted file (IVF) of the vectors as they are or
quantized, and `index.json`, written last: what the index was made of, how it is searched, and the
recall and the seconds that this was measured to give.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igrag.config.choices import IndexStorage
from igrag.errors import KnowledgeBaseError, UsageError
from igrag.files import atomic_directory, sha256_file, write_json
from igrag.inputs import check_regular
from igrag.retrieval.checksums import (
    FAISS,
    FAISS_DESCRIPTION,
    FAISS_INDEX,
    fingerprint,
    is_small,
)
from igrag.retrieval.index_description import read_description
from igrag.retrieval.recall import TARGET_RECALL, Measured, list_count, tune
from igrag.retrieval.search import CandidateIndex, Floats, finite_blocks

FORMAT = "igrag faiss index"
FORMAT_VERSION = 1
SIZE, SHA256 = "bytes", "sha256"  # Keys of the description, of the index's file.

# By number of vectors: up to it as they are (4 bytes a value), a byte a value, 64 bytes a vector.
_STORAGE_UP_TO: Mapping[IndexStorage, float] = {"flat": 2e5, "sq8": 2e7, "pq": math.inf}
_MOST_CODES = 64  # Bytes of a product-quantized vector.
# Candidates scored again for each row wanted: quantized scores misplace some.
_OVERSAMPLING: Mapping[IndexStorage, int] = {"flat": 1, "sq8": 2, "pq": 40}
_POINTS_PER_LIST = 64  # Vectors to learn a list's center from; faiss asks for at least 39.
_FEWEST_TRAINED = 20_000  # A product quantizer needs as many, however few lists there are.
_BLOCK = 65_536  # Vectors added at a time.
_SEED = 1234


def import_faiss() -> Any:
    """Imports faiss.

    Raises:
        UsageError: It is not installed.
    """
    if find_spec("faiss") is None:
        raise UsageError(
            "knowledge_base_config.index: found faiss, which is not installed; expected the extra: "
            'pip install "igrag[faiss]", or exact'
        )
    import faiss

    return faiss


def build_faiss(
    path: Path,
    manifest: Mapping[str, Any],
    vectors: Floats,
    *,
    storage: IndexStorage = "auto",
    target_recall: float = TARGET_RECALL,
) -> Measured:
    """Trains an index, fills it, measures how many lists it must search, and saves it.

    Args:
        path: The knowledge base.
        manifest: Its manifest.
        vectors: Its vectors [N, D].
        storage: How the index holds them; auto: by their number.
        target_recall: The share of the exact nearest that is to be found; the number of lists
            searched is the smallest power of two that gives it.

    Raises:
        UsageError: faiss is not installed.
        NotFiniteError: A vector is damaged.
        OutputError: The disk is full.
    """
    faiss = import_faiss()
    if storage == "auto":
        storage = next(each for each, most in _STORAGE_UP_TO.items() if len(vectors) <= most)
    index = _trained(faiss, vectors, storage)
    _fill(index, vectors)
    with atomic_directory(path / FAISS) as folder:
        faiss.write_index(index, str(folder / FAISS_INDEX))
        del index  # From here on it is measured as it is used: memory-mapped.
        opened = _read(faiss, folder / FAISS_INDEX)
        measured = tune(
            lambda nprobe: _searched(vectors, opened, nprobe, _OVERSAMPLING[storage]),
            vectors,
            lists=opened.nlist,
            target_recall=target_recall,
        )
        description = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "faiss": faiss.__version__,
            "count": len(vectors),
            "dimension": vectors.shape[1],
            "vectors": fingerprint(manifest, vectors),
            "storage": storage,
            "lists": opened.nlist,
            "nprobe": measured.nprobe,
            "oversampling": _OVERSAMPLING[storage],
            "measured": measured.to_json(),
            SIZE: (folder / FAISS_INDEX).stat().st_size,
            SHA256: sha256_file(folder / FAISS_INDEX),
        }
        write_json(folder / FAISS_DESCRIPTION, description)
    return measured


def open_faiss(path: Path, manifest: Mapping[str, Any], vectors: Floats) -> CandidateIndex:
    """Memory-maps the index of a knowledge base.

    Raises:
        UsageError: faiss is not installed.
        KnowledgeBaseError: There is none, it is damaged, or of other vectors.
    """
    faiss = import_faiss()
    folder = path / FAISS
    description = _read_description(path, manifest, vectors)
    file = folder / FAISS_INDEX
    try:
        check_regular(file)
        if file.stat().st_size != description[SIZE]:
            raise ValueError(f"{file.stat().st_size} bytes, expected {description[SIZE]}")
        if is_small(file) and sha256_file(file) != description[SHA256]:
            raise ValueError("another checksum than in index.json")
        index = _read(faiss, file)
        if (index.ntotal, index.d) != vectors.shape:
            raise ValueError(f"{index.ntotal} x {index.d} values")
    except (OSError, RuntimeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise KnowledgeBaseError(
            f"{file}: missing or damaged ({reason}); {_remake(path)}"
        ) from error
    return _searched(vectors, index, description["nprobe"], description["oversampling"])


def verify_faiss(path: Path, manifest: Mapping[str, Any], vectors: Floats) -> None:
    """Compares the whole file of the index with its checksum.

    Raises:
        KnowledgeBaseError: It has changed, or the index is of other vectors.
    """
    description = _read_description(path, manifest, vectors)
    file = path / FAISS / FAISS_INDEX
    if not file.is_file() or sha256_file(file) != description[SHA256]:
        raise KnowledgeBaseError(
            f"{file}: missing or damaged (another checksum than in {FAISS_DESCRIPTION}); "
            f"{_remake(path)}"
        )


def _searched(vectors: Floats, index: Any, nprobe: int, oversampling: int) -> CandidateIndex:
    """Returns an index of vectors [N, D] that searches so many lists for a query."""
    index.nprobe = nprobe

    def find(queries: Floats, count: int) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = index.search(queries, count)[1]
        return rows

    return CandidateIndex(vectors, find, oversampling)  # A query reads its own lists.


def _remake(path: Path) -> str:
    return f"make it again: igrag index {path} --type faiss"


def _read_description(path: Path, manifest: Mapping[str, Any], vectors: Floats) -> dict[str, Any]:
    """Reads index.json and checks that it is of these vectors."""
    file = path / FAISS / FAISS_DESCRIPTION
    if not (path / FAISS).exists():
        raise KnowledgeBaseError(
            f"{path / FAISS}: no such index; make it: igrag index {path} --type faiss"
        )
    return read_description(
        file,
        what=FORMAT,
        version=FORMAT_VERSION,
        known=fingerprint(manifest, vectors),
        vectors=vectors,
        counts=("nprobe", "oversampling", SIZE),
        remake=_remake(path),
    )


def _read(faiss: Any, file: Path) -> Any:
    """Opens an index whose lists stay in the file, memory-mapped."""
    index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    # By default 32 threads are started for each search, which takes longer than the search.
    faiss.downcast_InvertedLists(index.invlists).prefetch_nthread = 0
    return index


def _trained(faiss: Any, vectors: Floats, storage: IndexStorage) -> Any:
    """Returns an empty index, its lists and quantizer learned from evenly spread vectors."""
    count, dimension = vectors.shape
    lists = list_count(count)
    codes = {"flat": "Flat", "sq8": "SQ8", "pq": f"PQ{math.gcd(dimension, _MOST_CODES)}"}[storage]
    index = faiss.index_factory(dimension, f"IVF{lists},{codes}", faiss.METRIC_INNER_PRODUCT)
    index.cp.spherical = True  # Centers of unit vectors under the inner product.
    index.cp.seed = _SEED
    if storage == "pq":  # Hours, for a filter by Hamming distance that is not used.
        index.do_polysemous_training = False
    sample = np.linspace(0, count - 1, min(count, max(lists * _POINTS_PER_LIST, _FEWEST_TRAINED)))
    index.train(np.ascontiguousarray(vectors[sample.astype(np.int64)]))
    return index


def _fill(index: Any, vectors: Floats) -> None:
    """Adds all vectors, in the order of their rows."""
    from tqdm import tqdm

    total = len(vectors)
    with tqdm(total=total, desc="index", unit="vector", file=sys.stderr, disable=None) as bar:
        for _, block in finite_blocks(vectors, _BLOCK):
            index.add(block)
            bar.update(len(block))
