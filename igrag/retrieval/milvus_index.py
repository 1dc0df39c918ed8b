"""The vectors of a knowledge base in Milvus: a file of Milvus Lite, or a server or cluster.

A collection is filled under another name and gets its own, which is made of the vectors' hash, when
it is complete: one that was interrupted is never searched. KNOWLEDGE_BASE/milvus.json, written
last, holds how it is searched and what this was measured to give.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from igrag.errors import KnowledgeBaseError, UsageError
from igrag.files import write_json
from igrag.retrieval.checksums import MILVUS, MILVUS_DESCRIPTION, fingerprint
from igrag.retrieval.index_description import read_description
from igrag.retrieval.recall import SMALL, TARGET_RECALL, Measured, list_count, tune
from igrag.retrieval.search import CandidateIndex, Floats, finite_blocks

FORMAT = "igrag milvus index"
FORMAT_VERSION = 1
TOKEN = "MILVUS_TOKEN"  # The environment variable of the token: never a file, never an argument.
_ROW, _VECTOR = "row", "vector"
_METRIC = "IP"
_SEGMENT = 500_000  # Rows that Milvus indexes together, about: each segment has lists of its own.
_BLOCK = 4_096  # Vectors of a request: 8 MB at 512 dimensions, where a server takes up to 64.
_QUERIES = 256  # Queries of a request.
_OVERSAMPLING = 2
_REQUEST_SECONDS = 60.0  # In which the client repeats what failed.
_CONNECT_SECONDS, _PAUSE_SECONDS, _ATTEMPTS = 10.0, 0.5, 3
_LOAD_SECONDS = 24 * 3600.0
# They log tracebacks of what they raise, and of what the client does without.
_NOISY = ("grpc", "milvus_lite", "pymilvus")


def build_milvus(
    path: Path,
    manifest: Mapping[str, Any],
    vectors: Floats,
    *,
    uri: str | None,
    target_recall: float = TARGET_RECALL,
) -> Measured:
    """Loads vectors into a collection, and measures how many lists must be searched.

    Args:
        path: The knowledge base.
        manifest: Its manifest.
        vectors: Its vectors [N, D].
        uri: Address of a server or cluster; None: a file of Milvus Lite in the knowledge base.
        target_recall: The share of the exact nearest that is to be found.

    Raises:
        UsageError: pymilvus is not installed.
        NotFiniteError: A vector is damaged.
        KnowledgeBaseError: The server does not answer, or refuses.
    """
    known = fingerprint(manifest, vectors)
    collection = _collection(known)
    client, uri = _connect(path, uri)
    (path / MILVUS_DESCRIPTION).unlink(missing_ok=True)
    index_type, lists = _index_of(len(vectors))
    with _naming(uri):
        if not _is_complete(client, collection, len(vectors)):
            _load(client, collection, vectors, index_type, lists)
        client.load_collection(collection, timeout=_LOAD_SECONDS)
    measured = tune(
        lambda nprobe: _searched(vectors, client, collection, nprobe, uri),
        vectors,
        lists=lists,
        target_recall=target_recall,
    )
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "count": len(vectors),
        "dimension": vectors.shape[1],
        "vectors": known,
        "collection": collection,
        "index_type": index_type,
        "lists": lists,
        "nprobe": measured.nprobe,
        "measured": measured.to_json(),
    }
    write_json(path / MILVUS_DESCRIPTION, description)
    return measured


def open_milvus(
    path: Path, manifest: Mapping[str, Any], vectors: Floats, *, uri: str | None
) -> CandidateIndex:
    """Opens the collection of a knowledge base.

    Raises:
        UsageError: pymilvus is not installed.
        KnowledgeBaseError: The server does not answer, or has not all of these vectors.
    """
    known = fingerprint(manifest, vectors)
    remake = f"load them: igrag index {path} --type milvus"
    if uri is not None:
        remake += f" --milvus_uri {without_password(uri)}"
    description = read_description(
        path / MILVUS_DESCRIPTION,
        what=FORMAT,
        version=FORMAT_VERSION,
        known=known,
        vectors=vectors,
        counts=("nprobe",),
        remake=remake,
    )
    client, uri = _connect(path, uri)
    collection = _collection(known)
    with _naming(uri):
        if not _is_complete(client, collection, len(vectors)):
            raise KnowledgeBaseError(
                f"{without_password(uri)}: has no complete collection {collection}, expected the "
                f"{len(vectors)} vectors of {path}; {remake}"
            )
        client.load_collection(collection, timeout=_REQUEST_SECONDS)
    return _searched(vectors, client, collection, description["nprobe"], uri)


def _searched(
    vectors: Floats, client: Any, collection: str, nprobe: int, uri: str
) -> CandidateIndex:
    """Returns the index of a collection of vectors [N, D].

    Args:
        vectors: What the collection holds, [N, D].
        client: A `MilvusClient`.
        collection: The collection.
        nprobe: Lists searched for a query in each segment.
        uri: Where it is, for messages.
    """

    def find(queries: Floats, count: int) -> NDArray[np.int64]:
        rows = np.full((len(queries), count), -1, np.int64)
        for start in range(0, len(queries), _QUERIES):
            with _naming(uri):
                found = client.search(
                    collection,
                    data=list(queries[start : start + _QUERIES]),
                    anns_field=_VECTOR,
                    limit=count,
                    search_params={"metric_type": _METRIC, "params": {"nprobe": nprobe}},
                    timeout=_REQUEST_SECONDS,
                )
            for index, hits in enumerate(found, start):
                rows[index, : len(hits)] = [hit[_ROW] for hit in hits]
        return rows

    return CandidateIndex(vectors, find, _OVERSAMPLING, together=_QUERIES)


def without_password(uri: str) -> str:
    """Returns an address without what stands before its @."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _collection(known: str) -> str:
    return f"igrag_{known[:32]}"


def _index_of(count: int) -> tuple[str, int]:
    """Returns the type of index, and its number of lists, for so many vectors."""
    if count <= SMALL:
        return "FLAT", 1
    return "IVF_SQ8", list_count(min(count, _SEGMENT))


def _connect(path: Path, uri: str | None) -> tuple[Any, str]:
    """Returns a client, and what it is connected to."""
    missing = [name for name in ("pymilvus", "milvus_lite") if find_spec(name) is None]
    if missing and (uri is None or "pymilvus" in missing):
        raise UsageError(
            f"knowledge_base_config.index: found milvus, but {missing[0]} is not installed; "
            'expected the extra: pip install "igrag[milvus]", or exact'
        )
    # gRPC's own library writes to stderr past all loggers; it reads this when it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from pymilvus import MilvusClient, MilvusException

    for library in _NOISY:
        logging.getLogger(library).setLevel(logging.CRITICAL)
    uri = str(path / MILVUS) if uri is None else uri
    with _naming(uri):
        for attempt in range(_ATTEMPTS):
            try:
                token = os.environ.get(TOKEN, "")
                return MilvusClient(uri=uri, token=token, timeout=_CONNECT_SECONDS), uri
            except MilvusException:  # The client repeats its requests, but not this one.
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(_PAUSE_SECONDS)
    raise AssertionError("unreachable")


@contextmanager
def _naming(uri: str) -> Iterator[None]:
    """Makes errors of the client those of the knowledge base, in one line that names the server."""
    import grpc
    from pymilvus import MilvusException

    try:
        yield
    except (MilvusException, grpc.RpcError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        if "://" in uri:
            check = (
                f"it is running, knowledge_base_config.milvus_uri, and {TOKEN} in the environment"
            )
        else:
            check = "no other process has it open"
        raise KnowledgeBaseError(
            f"{without_password(uri)}: Milvus does not answer, or refuses ({reason}); check that "
            f"{check}"
        ) from error


def _is_complete(client: Any, collection: str, count: int) -> bool:
    """Returns whether a collection is there with all of its vectors."""
    if not client.has_collection(collection, timeout=_REQUEST_SECONDS):
        return False
    stats = client.get_collection_stats(collection, timeout=_REQUEST_SECONDS)
    return int(stats["row_count"]) == count


def _load(client: Any, collection: str, vectors: Floats, index_type: str, lists: int) -> None:
    """Fills a collection under another name, and renames it when it is complete."""
    from pymilvus import DataType
    from tqdm import tqdm

    unfinished = f"{collection}_loading"
    for name in (unfinished, collection):
        if client.has_collection(name, timeout=_REQUEST_SECONDS):
            client.drop_collection(name, timeout=_REQUEST_SECONDS)
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field(_ROW, DataType.INT64, is_primary=True)
    schema.add_field(_VECTOR, DataType.FLOAT_VECTOR, dim=vectors.shape[1])
    client.create_collection(unfinished, schema=schema, timeout=_REQUEST_SECONDS)
    total = len(vectors)
    with tqdm(total=total, desc="Milvus", unit="vector", file=sys.stderr, disable=None) as bar:
        for start, block in finite_blocks(vectors, _BLOCK):
            rows = [{_ROW: row, _VECTOR: vector} for row, vector in enumerate(block, start)]
            client.insert(unfinished, rows, timeout=_REQUEST_SECONDS)
            bar.update(len(block))
    client.flush(unfinished, timeout=_LOAD_SECONDS)
    parameters = client.prepare_index_params()
    parameters.add_index(
        _VECTOR, index_type=index_type, metric_type=_METRIC, params={"nlist": lists}
    )
    client.create_index(unfinished, parameters, timeout=_LOAD_SECONDS)
    if not _is_complete(client, unfinished, total):
        raise KnowledgeBaseError(f"{unfinished}: Milvus counts fewer than {total} vectors")
    client.rename_collection(unfinished, collection, timeout=_REQUEST_SECONDS)
