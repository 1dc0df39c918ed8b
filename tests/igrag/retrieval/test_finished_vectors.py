"""A knowledge base of vectors that another program has made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from numpy.typing import NDArray

from igrag.commands.build_knowledge_base import command
from igrag.data.images import open_image
from igrag.errors import IgragError
from igrag.retrieval.finished_vectors import import_vectors
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase
from tests.tiny import CocoFolder

Save = Callable[[Path, NDArray[Any]], tuple[Path, Path | None]]


@pytest.fixture(scope="module")
def encoder(tiny_clip: Path) -> ImageEncoder:
    """Returns the tiny model's encoder."""
    return ImageEncoder(str(tiny_clip), device="cpu")


@pytest.fixture
def vectors(coco: CocoFolder, encoder: ImageEncoder) -> NDArray[np.float32]:
    """Returns the vectors of the tiny images, [12, 8]."""
    return encoder.encode([open_image(coco.image(number)) for number in range(1, 13)])


def names() -> list[str]:
    """Returns the images' file names."""
    return [f"{number:012}.jpg" for number in range(1, 13)]


def save_parquet(folder: Path, vectors: NDArray[Any]) -> tuple[Path, None]:
    """Saves one Parquet file; the third image has no caption."""
    captions = [["a dog", " two  dogs "] if index != 2 else [] for index in range(12)]
    table = {"id": list(range(1, 13)), "file_name": names(), "captions": captions}
    path = folder / "vectors.parquet"
    pyarrow.parquet.write_table(pyarrow.table(table | {"vector": vectors.tolist()}), path)
    return path, None


def save_clip_retrieval(folder: Path, vectors: NDArray[Any]) -> tuple[Path, None]:
    """Saves the files of clip-retrieval, in half precision, as two numbered parts."""
    path = folder / "embeddings"
    for name in ("img_emb", "metadata"):
        (path / name).mkdir(parents=True)
    for part, rows in ((2, slice(0, 5)), (10, slice(5, 12))):
        np.save(path / "img_emb" / f"img_emb_{part}.npy", vectors[rows].astype(np.float16))
        captions = ["a dog" if name != names()[2] else None for name in names()[rows]]
        table = {"image_path": names()[rows], "caption": captions, "width": [48] * len(captions)}
        file = path / "metadata" / f"metadata_{part}.parquet"
        pyarrow.parquet.write_table(pyarrow.table(table), file)
    return path, None


def save_array(folder: Path, vectors: NDArray[Any]) -> tuple[Path, Path]:
    """Saves a .npy file with captions in JSONL, by texts as ids."""
    path, captions = folder / "vectors.npy", folder / "captions.jsonl"
    np.save(path, vectors)
    lines = [
        {"id": f"i{index}", "file_name": name, "caption": "a dog" if index != 2 else ""}
        for index, name in enumerate(names())
    ]
    captions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path, captions


@pytest.mark.parametrize("save", [save_parquet, save_clip_retrieval, save_array])
def test_finished_vectors_become_a_knowledge_base(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder, vectors: NDArray[Any], save: Save,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Each row belongs to its image and captions; one without a caption is left out."""
    monkeypatch.setattr("igrag.retrieval.finished_vectors.ROWS", 4)
    source, captions = save(tmp_path, vectors)
    report = import_vectors(source, tmp_path / "kb", encoder=encoder, captions=captions,
                            images=coco.images)  # fmt: skip
    assert (report.count, report.dimension, len(report.skipped)) == (11, 8, 1)
    assert report.checked == 3 and report.skipped[0].file_name == names()[2]
    opened = KnowledgeBase.open(tmp_path / "kb", encoder=encoder.identity)
    np.testing.assert_allclose(opened.vectors, np.delete(vectors, 2, 0), atol=1e-3)
    assert np.abs(np.linalg.norm(opened.vectors, axis=1) - 1).max() < 1e-6
    last = opened.image_ids[10]
    assert last in (12, 11, "i11") and opened.captions_of(last)[0] == "a dog"
    assert not (tmp_path / "kb.partial").exists()


def change(how: str, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns vectors that are wrong."""
    changed = vectors.copy()
    if how == "length":
        changed[7] *= 3
    elif how == "not finite":
        changed[7, 0] = np.nan
    elif how == "width":
        changed = np.pad(changed, ((0, 0), (0, 1)))
    elif how == "order":
        changed = changed[::-1].copy()
    elif how == "rows":
        changed = changed[:-1]
    return changed


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("length", r"vectors.npy: found a vector of length 3 in row 7, expected 1"),
        ("not finite", "found a vector of length nan in row 7"),
        ("width", r"found vectors of shape \[9\], expected \[8\] as the encoder's"),
        ("order", "has a cosine of .* with what clip-8 makes of the image"),
        ("rows", r"captions.jsonl: found 12 rows, expected 11 as in .*vectors.npy"),
    ],
)
def test_wrong_vectors_are_refused(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder, vectors: NDArray[Any], how: str,
    message: str,
) -> None:  # fmt: skip
    """Other norms, widths, encoders or rows are an error, and nothing is made."""
    source, captions = save_array(tmp_path, change(how, vectors))
    with pytest.raises(IgragError, match=message):
        import_vectors(source, tmp_path / "kb", encoder=encoder, captions=captions,
                       images=coco.images)  # fmt: skip
    assert not (tmp_path / "kb").exists() and not (tmp_path / "kb.partial").exists()


def test_ids_are_unique(tmp_path: Path, encoder: ImageEncoder, vectors: NDArray[Any]) -> None:
    """An id in two rows is refused, wherever they are."""
    source, captions = save_array(tmp_path, vectors)
    captions.write_text(captions.read_text().replace('"i9"', '"i1"'))
    with pytest.raises(IgragError, match="the id 'i1' is there twice"):
        import_vectors(source, tmp_path / "kb", encoder=encoder, captions=captions)


def test_command_takes_finished_vectors(
    tmp_path: Path, tiny_clip: Path, vectors: NDArray[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line, without images the encoder is taken on trust, with a note."""
    source, _ = save_parquet(tmp_path, vectors)
    encoder = ["--set", f"retrieval_config.encoder={tiny_clip}", "--device", "cpu"]
    words = ["--output", str(tmp_path / "kb"), *encoder]
    assert command(["--from-vectors", str(source), *words]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'kb'}: 11 images, 8 dimensions\n"
    assert "note: that clip-8 made the vectors is taken on trust" in printed.err
    assert command(["--from-vectors", str(tmp_path), *words, "--force"]) == 1
    assert "holds no img_emb/img_emb_0.npy" in capsys.readouterr().err
