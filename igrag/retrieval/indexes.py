"""Opens, makes and checks the index of a knowledge base that the configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from igrag.config.choices import IndexStorage, IndexType
from igrag.errors import KnowledgeBaseError
from igrag.retrieval.checksums import FAISS, REBUILD, VECTORS
from igrag.retrieval.recall import TARGET_RECALL, Measured
from igrag.retrieval.search import ExactIndex, Floats, NotFiniteError, VectorIndex
from igrag.retrieval.storage import open_vectors, read_manifest


def open_index(
    index_type: IndexType,
    path: Path,
    manifest: Mapping[str, Any],
    vectors: Floats,
    *,
    milvus_uri: str | None = None,
) -> VectorIndex:
    """Opens what searches the vectors [N, D] of a knowledge base.

    Args:
        index_type: exact, or an index that `build_index` has made.
        path: The knowledge base.
        manifest: Its manifest.
        vectors: Its vectors.
        milvus_uri: See `open_milvus`.

    Raises:
        UsageError: The extra that the index needs is not installed.
        KnowledgeBaseError: The index is missing, damaged, or of other vectors.
    """
    if index_type == "faiss":
        from igrag.retrieval.faiss_index import open_faiss

        return open_faiss(path, manifest, vectors)
    if index_type == "milvus":
        from igrag.retrieval.milvus_index import open_milvus

        return open_milvus(path, manifest, vectors, uri=milvus_uri)
    return ExactIndex(vectors)


def build_index(
    index_type: IndexType,
    path: Path,
    *,
    storage: IndexStorage = "auto",
    target_recall: float = TARGET_RECALL,
    milvus_uri: str | None = None,
) -> Measured:
    """Makes the index of a knowledge base, replacing what there is, and measures it.

    Args:
        index_type: faiss or milvus.
        path: The knowledge base.
        storage: See `build_faiss`.
        target_recall: The share of the exact nearest that is to be found.
        milvus_uri: See `build_milvus`.

    Raises:
        UsageError: The extra that the index needs is not installed.
        KnowledgeBaseError: The knowledge base is missing or damaged, or Milvus does not answer.
        OutputError: The disk is full.
    """
    manifest = read_manifest(path)
    vectors = open_vectors(path, manifest)
    try:
        if index_type == "faiss":
            from igrag.retrieval.faiss_index import build_faiss

            return build_faiss(
                path, manifest, vectors, storage=storage, target_recall=target_recall
            )
        from igrag.retrieval.milvus_index import build_milvus

        return build_milvus(path, manifest, vectors, uri=milvus_uri, target_recall=target_recall)
    except NotFiniteError as error:
        raise KnowledgeBaseError(f"{path / VECTORS}: damaged: {error}; {REBUILD}") from error


def verify_index(path: Path) -> None:
    """Compares the file of a faiss index with its checksum, where there is one.

    Raises:
        KnowledgeBaseError: It has changed, or is of other vectors.
    """
    if not (path / FAISS).exists():
        return
    from igrag.retrieval.faiss_index import verify_faiss

    manifest = read_manifest(path)
    verify_faiss(path, manifest, open_vectors(path, manifest))
