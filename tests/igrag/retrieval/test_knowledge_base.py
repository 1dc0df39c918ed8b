"""Saving, opening and searching a knowledge base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from igrag.data.coco import CaptionedImage, ImageId
from igrag.errors import KnowledgeBaseError
from igrag.retrieval import search
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.knowledge_base import KnowledgeBase, SkippedImage

Floats = NDArray[np.float32]


def identity(dimension: int = 16) -> EncoderIdentity:
    """Returns an encoder's identity."""
    return EncoderIdentity("some-clip", dimension, "0123456789", {"do_resize": True})


def units(count: int, *, seed: int = 0, dimension: int = 16) -> Floats:
    """Returns random unit vectors."""
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    normalized: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normalized


def entries(count: int, *, first: int = 100) -> list[CaptionedImage]:
    """Returns captioned images with the ids `first`, `first + 1`, ..."""
    return [
        CaptionedImage(first + n, f"{n}.jpg", (f"caption {n}", f"again {n}")) for n in range(count)
    ]


def make(path: Path, vectors: Floats, **options: Any) -> KnowledgeBase:
    """Writes and open a knowledge base."""
    encoder = identity(vectors.shape[1])
    options = {"entries": entries(len(vectors)), "encoder": encoder, **options}
    KnowledgeBase.write(path, vectors=vectors, **options)
    return KnowledgeBase.open(path)


def ids(matches: Sequence[Sequence[Any]]) -> list[list[ImageId]]:
    """Returns the ids of search results."""
    return [[match.image_id for match in found] for found in matches]


def brute_force(vectors: Floats, queries: Floats, k: int) -> list[list[int]]:
    """Returns the ids of the k best in float64, ties by row."""
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [[100 + int(row) for row in found] for found in best]


def test_written_knowledge_base_is_read_back(tmp_path: Path) -> None:
    """Vectors, ids and captions come back aligned, with the encoder's identity."""
    vectors = units(7)
    opened = make(tmp_path / "kb", vectors)
    assert (len(opened), opened.dimension, opened.encoder) == (7, 16, identity())
    assert list(opened.image_ids) == list(range(100, 107))
    for row in range(7):
        found = opened.vector(100 + row)
        assert found is not None
        np.testing.assert_array_equal(found, vectors[row])
        assert opened.captions_of(100 + row) == (f"caption {row}", f"again {row}")
    assert opened.vector(99) is None
    assert opened.captions_of(99) == ()
    assert 100 in opened
    assert 99 not in opened


def test_ids_may_be_texts(tmp_path: Path) -> None:
    """Text ids are kept as texts."""
    named = [replace(entry, image_id=f"id-{entry.image_id}") for entry in entries(3)]
    opened = make(tmp_path / "kb", units(3), entries=named)
    assert ids(opened.search(units(1), 1)) == [["id-100"]]


def test_nothing_is_pickled_and_skipped_images_are_recorded(tmp_path: Path) -> None:
    """The folder holds only open formats, and its manifest the source and the skipped images."""
    skipped = [SkippedImage("bad.jpg", "truncated")]
    make(tmp_path / "kb", units(3), source={"captions": "c.json"}, skipped=skipped)
    files = {path.suffix for path in (tmp_path / "kb").rglob("*") if path.is_file()}
    assert files == {".json", ".npy", ".arrow"}
    manifest = json.loads((tmp_path / "kb" / "knowledge_base.json").read_text())
    assert manifest["skipped"] == [{"file_name": "bad.jpg", "reason": "truncated"}]
    assert manifest["source"] == {"captions": "c.json"}


@pytest.mark.parametrize("k", [1, 3, 5, 40])
def test_search_is_exact(tmp_path: Path, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks of any size the results are those of comparing everything with everything."""
    vectors, queries = units(1000), units(30, seed=1)
    opened = make(tmp_path / "kb", vectors)
    expected = brute_force(vectors, queries, k)
    assert ids(opened.search(queries, k)) == expected
    monkeypatch.setattr(search, "ROW_BLOCK", 128)
    monkeypatch.setattr(search, "QUERY_BLOCK", 7)
    monkeypatch.setattr(search, "GROUP", 8)
    monkeypatch.setattr(search, "RESCORE_BLOCK", 5)
    assert ids(opened.search(queries, k)) == expected


def test_matches_carry_cosine_and_captions_best_first(tmp_path: Path) -> None:
    """A match has the cosine and its own captions; the own image is first at 1."""
    vectors = units(50)
    matches = make(tmp_path / "kb", vectors).search(vectors[[20, 3]], 4)
    for row, found in zip((20, 3), matches, strict=True):
        assert found[0].image_id == 100 + row
        assert found[0].score == 1
        scores = [match.score for match in found]
        assert scores == sorted(scores, reverse=True)
        for match in found:
            own = int(match.image_id) - 100
            assert match.score == pytest.approx(float(vectors[own] @ vectors[row]), abs=1e-6)
            assert match.captions == (f"caption {own}", f"again {own}")


def test_results_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    """A query alone gets exactly the scores that it gets in a batch."""
    opened = make(tmp_path / "kb", units(300))
    queries = units(9, seed=2)
    together = opened.search(queries, 5)
    assert together == [opened.search(query[None], 5)[0] for query in queries]


def test_equal_scores_are_ordered_by_row(tmp_path: Path) -> None:
    """Of many equal images the first rows are found, in their order."""
    vectors = units(200)
    vectors[[150, 20, 77, 199, 3]] = vectors[20]
    found = make(tmp_path / "kb", vectors).search(vectors[[20]], 3)
    assert ids(found) == [[103, 120, 177]]


def test_k_above_n_gives_all(tmp_path: Path) -> None:
    """Asking for more than there is gives what there is, without a skipped one."""
    vectors = units(5)
    opened = make(tmp_path / "kb", vectors)
    assert len(opened.search(vectors[:1], 50)[0]) == 5
    assert ids(opened.search(vectors[:1], 5, skip_ids=[103]))[0].count(103) == 0
    assert len(opened.search(vectors[:1], 5, skip_ids=[103])[0]) == 4


def test_image_does_not_find_itself(tmp_path: Path) -> None:
    """With skip_ids each query passes over its own image only; None and unknown skip nothing."""
    vectors = units(600)
    opened = make(tmp_path / "kb", vectors)
    queries = vectors[[0, 599, 5, 6]]
    found = ids(opened.search(queries, 3, skip_ids=[100, 699, None, 12345]))
    plain = ids(opened.search(queries, 4))
    assert found == [plain[0][1:], plain[1][1:], plain[2][:3], plain[3][:3]]


def test_exact_duplicates_are_passed_over(tmp_path: Path) -> None:
    """However many copies of the query there are, k other images are found."""
    vectors = units(400)
    vectors[50:350] = vectors[50]
    opened = make(tmp_path / "kb", vectors)
    matches = opened.search(vectors[[50]], 5, skip_ids=[150], skip_duplicates=True)[0]
    assert len(matches) == 5
    assert all(match.score < 1 - 1e-5 for match in matches)
    others = [row for row in range(400) if not 50 <= row < 350]
    scores = vectors[others] @ vectors[50]
    assert matches[0].image_id == 100 + others[int(scores.argmax())]


def test_scores_at_the_bound_are_decided_exactly() -> None:
    """Scores closer to the duplicates' bound than float32 resolves are compared in float64."""
    noise = np.random.default_rng(3)
    query = units(1, dimension=64)
    below = 1 - 1e-5
    steps = noise.standard_normal((3000, 64))
    steps -= (steps @ query[0])[:, None] * query[0]
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    cosine = below + noise.uniform(-3e-7, 3e-7, (3000, 1))
    vectors = (cosine * query[0] + np.sqrt(1 - cosine**2) * steps).astype(np.float32)
    vectors[::5] = units(600, seed=4, dimension=64)
    exact = vectors.astype(np.float64) @ query[0].astype(np.float64)
    rounded = vectors @ query[0]
    assert ((exact < below) != (rounded < np.float32(below))).any()
    allowed = np.flatnonzero(exact < below)
    expected = allowed[np.argsort(-exact[allowed], kind="stable")]
    for k in (1, 5, 700, 3000):
        hits = search.nearest(vectors, query, k, below=below)
        np.testing.assert_array_equal(hits.row, expected[:k])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_damaged_vector_is_not_passed_over(tmp_path: Path, value: float) -> None:
    """A value that is not finite, in a row that opening does not look at, ends the search."""
    make(tmp_path / "kb", units(5000))
    vectors = np.load(tmp_path / "kb" / "vectors.npy", mmap_mode="r+")
    vectors[4321, 7] = value
    vectors.flush()
    opened = KnowledgeBase.open(tmp_path / "kb")  # No sampled row is damaged.
    with pytest.raises(KnowledgeBaseError, match=r"vectors\.npy: damaged: row 4321 .*image 4421"):
        opened.search(units(3, seed=1), 2)


@pytest.mark.parametrize("scale", [0.9999999, 1.0000002, 1.0000004])
def test_images_own_score_is_1(tmp_path: Path, scale: float) -> None:
    """Rounding of float32 shows in no score: neither 0.9999998 nor 1.0000002."""
    vectors = units(20)
    opened = make(tmp_path / "kb", vectors * np.float32(scale))
    assert opened.search(vectors[[4]], 1)[0][0].score == 1.0


def test_only_duplicates_give_nothing(tmp_path: Path) -> None:
    """If everything is a copy of the query, nothing is found."""
    vectors = np.repeat(units(1), 6, axis=0)
    opened = make(tmp_path / "kb", vectors)
    assert opened.search(vectors[:1], 3, skip_duplicates=True) == [[]]


def test_no_queries_give_no_results(tmp_path: Path) -> None:
    """An empty batch is searched without complaint."""
    assert make(tmp_path / "kb", units(3)).search(units(3)[:0], 2) == []


@pytest.mark.parametrize(
    ("queries", "options", "words"),
    [
        (units(1), {"k": 0}, "k is 0"),
        (units(1, dimension=8), {"k": 1}, r"\[1, 8\], expected \[Q, 16\]"),
        (units(1)[0], {"k": 1}, r"expected \[Q, 16\]"),
        (units(1) * np.nan, {"k": 1}, "not finite"),
        (units(2), {"k": 1, "skip_ids": [1]}, "1 skip_ids for 2 queries"),
    ],
)
def test_wrong_searches_are_refused(
    tmp_path: Path, queries: Floats, options: dict[str, Any], words: str
) -> None:
    """Each wrong argument is named."""
    opened = make(tmp_path / "kb", units(3))
    with pytest.raises(ValueError, match=words):
        opened.search(queries, **options)


def test_another_encoder_is_refused_and_both_are_named(tmp_path: Path) -> None:
    """An encoder of other dimension or weights is refused; a renamed one is not."""
    make(tmp_path / "kb", units(3))
    other = replace(identity(32), name="other-clip")
    with pytest.raises(KnowledgeBaseError) as caught:
        KnowledgeBase.open(tmp_path / "kb", encoder=other)
    message = str(caught.value)
    for words in ("some-clip (16 dimensions)", "other-clip (32 dimensions)"):
        assert words in message
    assert "\n" not in message
    with pytest.raises(KnowledgeBaseError, match="weights 01234567 against abc"):
        KnowledgeBase.open(tmp_path / "kb", encoder=replace(identity(), weights_fingerprint="abc"))
    assert KnowledgeBase.open(tmp_path / "kb", encoder=replace(identity(), name="moved"))


def spoil(path: Path, damage: str) -> None:
    """Damage one part of a knowledge base."""
    manifest = json.loads((path / "knowledge_base.json").read_text())
    encoder = manifest["encoder"]
    changed: dict[str, Any] = {
        "version": {"format_version": 99},
        "format": {"format": "another"},
        "count": {"count": 4},
        "no count": {"count": None},
        "dimension": {"dimension": 3},
        "encoder": {"encoder": {}},
        "encoder's dimension": {"encoder": {**encoder, "dimension": 4}},
    }
    if damage in changed:
        (path / "knowledge_base.json").write_text(json.dumps({**manifest, **changed[damage]}))
    elif damage == "json":
        (path / "knowledge_base.json").write_text('{"format":')
    elif damage == "truncated":
        data = (path / "vectors.npy").read_bytes()
        (path / "vectors.npy").write_bytes(data[:-10])
    elif damage == "header":
        (path / "vectors.npy").write_bytes(b"\x93NUMPY")
    elif damage in ("nan", "length", "float64"):
        factor = {"nan": np.float32(np.nan), "length": np.float32(2)}.get(damage, np.float64(1))
        np.save(path / "vectors.npy", np.load(path / "vectors.npy") * factor)
    elif damage == "arrow":
        file = next((path / "captions").glob("*.arrow"))
        file.write_bytes(file.read_bytes()[:100])
    elif damage == "captions":
        shutil.rmtree(path / "captions")
    else:
        (path / damage).unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("version", "format version 99, expected 2"),
        ("format", "not the manifest"),
        ("count", "[5, 16] values, expected [4, 16] as in knowledge_base.json"),
        ("no count", "count is None"),
        ("dimension", "dimension is 3, but the encoder's is 16"),
        ("encoder", "expected an encoder's"),
        ("encoder's dimension", "dimension is 16, but the encoder's is 4"),
        ("json", "knowledge_base.json:1: not valid JSON"),
        ("truncated", "vectors.npy: is damaged or cut off"),
        ("header", "vectors.npy: is damaged or cut off"),
        ("nan", "not unit vectors"),
        ("length", "not unit vectors"),
        ("float64", "expected an array of float32"),
        ("arrow", "captions: missing or damaged"),
        ("captions", "captions: missing or damaged"),
        ("vectors.npy", "vectors.npy: is missing"),
        ("knowledge_base.json", "knowledge_base.json is missing"),
    ],
)
def test_damage_is_noticed_on_opening(tmp_path: Path, damage: str, words: str) -> None:
    """Every missing or damaged part gets one line naming the folder and the part."""
    path = tmp_path / "kb"
    make(path, units(5))
    spoil(path, damage)
    with pytest.raises(KnowledgeBaseError) as caught:
        KnowledgeBase.open(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def forget_checksums(path: Path) -> None:
    """Makes a knowledge base one of an earlier version, whose manifest has no checksums."""
    manifest = json.loads((path / "knowledge_base.json").read_text())
    del manifest["sha256"]
    (path / "knowledge_base.json").write_text(json.dumps(manifest))


def test_captions_of_another_count_are_refused(tmp_path: Path) -> None:
    """Vectors and captions of different builds are not mixed."""
    make(tmp_path / "five", units(5))
    make(tmp_path / "six", units(6))
    shutil.rmtree(tmp_path / "five" / "captions")
    shutil.copytree(tmp_path / "six" / "captions", tmp_path / "five" / "captions")
    forget_checksums(tmp_path / "five")
    with pytest.raises(KnowledgeBaseError, match="holds 6 rows for 5 vectors"):
        KnowledgeBase.open(tmp_path / "five")


def test_missing_knowledge_base_is_named(tmp_path: Path) -> None:
    """A missing folder, a file and a foreign folder are refused with what to do."""
    with pytest.raises(KnowledgeBaseError, match=r"no such knowledge base; build one with"):
        KnowledgeBase.open(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(KnowledgeBaseError, match="not a folder"):
        KnowledgeBase.open(tmp_path / "file")
    with pytest.raises(KnowledgeBaseError, match="not a knowledge base"):
        KnowledgeBase.open(tmp_path)


def test_foreign_files_are_not_replaced(tmp_path: Path) -> None:
    """Files, foreign folders and, without force, knowledge bases are left as they are."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for path in (foreign, tmp_path / "file"):
        with pytest.raises(KnowledgeBaseError, match=r"expected a new|name a new"):
            make(path, units(3), force=True)
    assert (foreign / "thesis.txt").read_text() == "mine"
    make(tmp_path / "kb", units(3))
    with pytest.raises(KnowledgeBaseError, match="--overwrite_output_dir"):
        make(tmp_path / "kb", units(4))
    assert len(KnowledgeBase.open(tmp_path / "kb")) == 3


def test_force_replaces_only_a_knowledge_base(tmp_path: Path) -> None:
    """With force a knowledge base is replaced, unless a foreign file lies in its folder."""
    path = tmp_path / "kb"
    make(path, units(3))
    assert len(make(path, units(4), force=True)) == 4
    (path / "notes.txt").write_text("mine")
    with pytest.raises(KnowledgeBaseError, match=r"notes\.txt"):
        make(path, units(5), force=True)
    assert (path / "notes.txt").read_text() == "mine"


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    """A folder made beforehand, as for temporary files, is no obstacle."""
    (tmp_path / "kb").mkdir()
    assert len(make(tmp_path / "kb", units(3))) == 3


@pytest.mark.parametrize(
    ("vectors", "options"),
    [
        (units(3), {"entries": entries(4)}),
        (units(3), {"entries": [*entries(2), entries(1)[0]]}),
        (units(3), {"encoder": identity(8)}),
        (units(3) * 2, {}),
        (units(3).astype(np.float64), {}),
        (units(0), {}),
    ],
)
def test_misfit_parts_are_not_written(
    tmp_path: Path, vectors: Floats, options: dict[str, Any]
) -> None:
    """Parts that do not belong together are refused, and nothing is left behind."""
    with pytest.raises(KnowledgeBaseError):
        make(tmp_path / "kb", vectors, **options)
    assert list(tmp_path.iterdir()) == []
