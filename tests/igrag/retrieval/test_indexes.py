"""The indexes of a knowledge base: what they find, and when they are refused."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pymilvus
import pytest
from numpy.typing import NDArray

from igrag.config.choices import IndexStorage, IndexType
from igrag.data.coco import CaptionedImage
from igrag.errors import KnowledgeBaseError, UsageError
from igrag.retrieval import faiss_index, milvus_index, recall, search
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.indexes import build_index
from igrag.retrieval.knowledge_base import KnowledgeBase

Floats = NDArray[np.float32]
KINDS: tuple[IndexType, ...] = ("faiss", "milvus")
DIMENSION = 16


def units(count: int, *, seed: int = 0) -> Floats:
    """Returns random unit vectors."""
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    normalized: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normalized


def write(path: Path, vectors: Floats) -> Path:
    """Writes a knowledge base with an image of one caption for each vector."""
    entries = [
        CaptionedImage(row, f"{row}.jpg", (f"caption {row}",)) for row in range(len(vectors))
    ]
    encoder = EncoderIdentity("some-clip", DIMENSION, "0123456789", {"do_resize": True})
    KnowledgeBase.write(path, vectors=vectors, entries=entries, encoder=encoder)
    return path


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small knowledge base with both indexes, where 100 images are equal."""
    vectors = units(900)
    vectors[300:400] = vectors[300]
    path = write(tmp_path_factory.mktemp("indexed") / "kb", vectors)
    for kind in KINDS:
        assert build_index(kind, path).recall == 1
    return path


@pytest.mark.parametrize(
    ("kind", "k"),
    [("faiss", 1), ("faiss", 5), ("faiss", 120), ("faiss", 2000), ("milvus", 5), ("milvus", 120)],
)
def test_small_base_is_searched_as_exactly(indexed: Path, kind: IndexType, k: int) -> None:
    """Matches, their scores and their order are the exact search's, copies and own ids skipped."""
    exact, other = KnowledgeBase.open(indexed), KnowledgeBase.open(indexed, index=kind)
    queries = np.concatenate([exact.vectors[[0, 7, 350]], units(20, seed=1)])
    own: dict[str, Any] = {"skip_ids": [0, None, 350, *[None] * 20]}
    for options in ({}, own, own | {"skip_duplicates": True}):
        assert other.search(queries, k, **options) == exact.search(queries, k, **options)
    assert other.search(queries[:0], k) == []


def candidates_of(scores: NDArray[np.float64], missing: Sequence[int] = ()) -> Any:
    """Returns an index that orders all rows by such scores, without some."""

    def find(queries: Floats, count: int) -> NDArray[np.int64]:
        order = np.argsort(-scores, kind="stable")
        order = np.concatenate([order[~np.isin(order, missing)], np.full(len(missing), -1)])
        return np.tile(order[:count], (len(queries), 1))

    return find


def test_candidates_are_scored_again() -> None:
    """An index that is wrong in its scores, but not in what it finds, gives the exact result."""
    vectors, query = units(2000), units(1, seed=1)
    exact = vectors.astype(np.float64) @ query[0].astype(np.float64)
    coarse = np.round(exact, 1)  # Many rows have the same, and the order among these is wrong.
    expected = search.nearest(vectors, query, 7)
    found = search.nearest_of_candidates(vectors, query, 7, candidates_of(coarse), oversampling=40)
    for name in ("query", "row", "score"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    best = int(expected.row[0])
    without = search.nearest_of_candidates(vectors, query, 6, candidates_of(exact, [best]))
    np.testing.assert_array_equal(without.row, expected.row[1:])


def test_too_few_candidates_are_made_up_for_exactly() -> None:
    """Where an index finds fewer rows than there are, none that was wanted is missing."""
    vectors, queries = units(500), units(3, seed=1)
    almost_none = candidates_of(np.zeros(500), [*range(3, 500)])
    found = search.nearest_of_candidates(vectors, queries, 9, almost_none)
    expected = search.nearest(vectors, queries, 9)
    np.testing.assert_array_equal(found.row, expected.row)
    np.testing.assert_array_equal(found.score, expected.score)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["flat", "sq8", "pq"])
def test_recall_is_reached_and_recorded(
    tmp_path: Path, storage: IndexStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists are searched until the wanted share is found; scores are those of the exact search."""
    monkeypatch.setattr(recall, "SMALL", 100)
    path = write(tmp_path / "kb", units(5000))
    measured = build_index("faiss", path, storage=storage, target_recall=0.9)
    description = json.loads((path / "faiss" / "index.json").read_text())
    assert measured.recall >= 0.9 and 1 < measured.nprobe < description["lists"]
    assert description["nprobe"] == measured.nprobe and description["storage"] == storage
    assert description["measured"]["recall@5"] == round(measured.recall, 4)
    assert {"seconds_per_query", "seconds_per_query_exact"} < description["measured"].keys()
    exact, other = KnowledgeBase.open(path), KnowledgeBase.open(path, index="faiss")
    queries = units(200, seed=1)
    found = shared = 0
    for ours, expected in zip(other.search(queries, 5), exact.search(queries, 5), strict=True):
        scores = {match.image_id: match.score for match in expected}
        known = [match for match in ours if match.image_id in scores]
        assert all(match.score == scores[match.image_id] for match in known)
        found, shared = found + len(known), shared + 5
    assert 0.85 < found / shared < 1  # It is approximate, or the test compares nothing.


@pytest.mark.parametrize("kind", KINDS)
def test_missing_index_is_named_with_its_command(tmp_path: Path, kind: IndexType) -> None:
    """A configured index that was never made is one line with the command that makes it."""
    path = write(tmp_path / "kb", units(50))
    with pytest.raises(KnowledgeBaseError, match=rf"igrag index \S*kb --type {kind}"):
        KnowledgeBase.open(path, index=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_index_of_another_base_is_refused(indexed: Path, tmp_path: Path, kind: IndexType) -> None:
    """An index is of these vectors: other bytes, or another number of them, are refused."""
    for name, vectors in (("bytes", units(900, seed=5)), ("count", units(899))):
        path = write(tmp_path / name, vectors)
        shutil.copytree(indexed / "faiss", path / "faiss")
        shutil.copy(indexed / "milvus.json", path)
        with pytest.raises(KnowledgeBaseError, match=f"of other vectors.* igrag index .*{kind}"):
            KnowledgeBase.open(path, index=kind)


def test_changed_vector_is_noticed_without_checksums(indexed: Path, tmp_path: Path) -> None:
    """A knowledge base of an earlier version has no checksums: some of its rows are compared."""
    path = tmp_path / "kb"
    shutil.copytree(indexed, path, ignore=shutil.ignore_patterns("milvus.db"))
    manifest = json.loads((path / "knowledge_base.json").read_text())
    del manifest["sha256"]
    (path / "knowledge_base.json").write_text(json.dumps(manifest))
    build_index("faiss", path)
    assert KnowledgeBase.open(path, index="faiss")
    vectors = np.load(path / "vectors.npy", mmap_mode="r+")
    vectors[13] = vectors[14]
    vectors.flush()
    with pytest.raises(KnowledgeBaseError, match="of other vectors"):
        KnowledgeBase.open(path, index="faiss")


@pytest.mark.parametrize("damage", ["cut", "bit", "missing", "json", "nprobe"])
def test_damaged_index_is_refused(indexed: Path, tmp_path: Path, damage: str) -> None:
    """What is missing or changed in the folder of an index is one line; --verify finds it too."""
    path = tmp_path / "kb"
    shutil.copytree(indexed, path, ignore=shutil.ignore_patterns("milvus.db"))
    KnowledgeBase.verify(path)
    file, description = path / "faiss" / "vectors.faiss", path / "faiss" / "index.json"
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[:-100])
    elif damage == "bit":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "missing":
        file.unlink()
    elif damage == "json":
        description.write_text("{")
    else:
        description.write_text(description.read_text().replace('"nprobe": ', '"nprobe": -'))
    with pytest.raises(KnowledgeBaseError, match="igrag index") as caught:
        KnowledgeBase.open(path, index="faiss")
    assert "\n" not in str(caught.value)
    with pytest.raises(KnowledgeBaseError, match="igrag index"):
        KnowledgeBase.verify(path)
    assert KnowledgeBase.open(path)  # The exact search needs none of it.


@pytest.mark.parametrize("kind", KINDS)
def test_missing_extra_is_named(
    indexed: Path, kind: IndexType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the library the error has the command that installs it."""
    for module in (faiss_index, milvus_index):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=rf'pip install "igrag\[{kind}\]"'):
        KnowledgeBase.open(indexed, index=kind)
    with pytest.raises(UsageError, match=rf'pip install "igrag\[{kind}\]"'):
        build_index(kind, indexed)


def test_interrupted_load_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection that was not filled to its end is refused, and the same command fills it."""
    path = write(tmp_path / "kb", units(300))
    monkeypatch.setattr(milvus_index, "_BLOCK", 100)
    insert = pymilvus.MilvusClient.insert

    def interrupt(client: Any, name: str, rows: list[dict[str, Any]], **options: Any) -> Any:
        if rows[0]["row"] == 200:
            raise KeyboardInterrupt
        return insert(client, name, rows, **options)

    with monkeypatch.context() as patched:
        patched.setattr(pymilvus.MilvusClient, "insert", interrupt)
        with pytest.raises(KeyboardInterrupt):
            build_index("milvus", path)
    with pytest.raises(KnowledgeBaseError, match="igrag index"):
        KnowledgeBase.open(path, index="milvus")
    build_index("milvus", path)
    queries = units(4, seed=1)
    opened = KnowledgeBase.open(path, index="milvus")
    assert opened.search(queries, 5) == KnowledgeBase.open(path).search(queries, 5)


def test_server_that_is_away_is_one_line(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address, without its password, and what to check; neither hangs nor shows a token."""
    monkeypatch.setattr(milvus_index, "_CONNECT_SECONDS", 0.5)
    monkeypatch.setenv("MILVUS_TOKEN", "root:secret")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://root:secret@127.0.0.1:{port}"
    with pytest.raises(KnowledgeBaseError) as caught:
        KnowledgeBase.open(indexed, index="milvus", milvus_uri=uri)
    message = str(caught.value)
    assert f"http://127.0.0.1:{port}: Milvus does not answer" in message
    assert "secret" not in message and "\n" not in message and "MILVUS_TOKEN" in message


def test_index_goes_with_its_base(indexed: Path, tmp_path: Path) -> None:
    """Replacing a knowledge base replaces its indexes, unless a foreign file lies among them."""
    path = tmp_path / "kb"
    shutil.copytree(indexed, path)
    (path / "faiss" / "notes.txt").write_text("mine")
    entries = [CaptionedImage(row, f"{row}.jpg", ("a",)) for row in range(3)]
    new: dict[str, Any] = {
        "vectors": units(3), "entries": entries, "encoder": KnowledgeBase.open(path).encoder,
    }  # fmt: skip
    with pytest.raises(KnowledgeBaseError, match=r"faiss/notes\.txt"):
        KnowledgeBase.write(path, force=True, **new)
    (path / "faiss" / "notes.txt").unlink()
    KnowledgeBase.write(path, force=True, **new)
    assert not (path / "faiss").exists() and not (path / "milvus.db").exists()
