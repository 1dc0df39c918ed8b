"""The vectors next to a file of examples: written as a whole, checked when opened."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from igrag.errors import DataError
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.vector_files import open_vectors, save_vectors, vector_files

ENCODER = EncoderIdentity("clip", 3, "weights", {"size": 32})
VECTORS = np.eye(3, dtype=np.float16)


def save(path: Path) -> Path:
    """Saves three vectors next to a file of examples, and returns that."""
    save_vectors(path, io.BytesIO(VECTORS.tobytes()), [7, "b", 9], ENCODER)
    return path


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_saved_vectors_are_read_as_a_memory_map(tmp_path: Path, name: str) -> None:
    """Rows are found by id as text; a compressed file of examples has the same vectors."""
    save(tmp_path / "train.jsonl")
    found = open_vectors(tmp_path / name)
    assert isinstance(found.vectors, np.memmap)
    np.testing.assert_array_equal(found.vectors, VECTORS)
    assert [found.row(image_id) for image_id in ("7", "b", "9", "8")] == [0, 1, 2, None]
    assert found.encoder == ENCODER
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["train.vectors.json", "train.vectors.npy"]


def cut(path: Path) -> None:
    """Cuts a file off."""
    path.write_bytes(path.read_bytes()[:-4])


def changed(key: str, value: object) -> Callable[[Path], None]:
    """Returns a function that changes a key of a JSON file."""

    def change(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))

    return change


@pytest.mark.parametrize(
    ("suffix", "damage", "message"),
    [
        ("npy", Path.unlink, "missing or damaged"),
        ("npy", cut, "damaged"),
        ("npy", lambda path: np.save(path, np.eye(2)), r"expected \[3, 3\] values"),
        ("json", Path.unlink, "no such file"),
        ("json", cut, "not valid JSON"),
        ("json", changed("format", "other"), "not the description"),
        ("json", changed("format_version", 9), "format version 9, expected 1"),
        ("json", changed("encoder", {}), "expected an encoder's"),
        ("json", changed("image_ids", [1.5]), "image_ids are not"),
        ("json", changed("image_ids", [1]), r"expected \[1, 3\]"),
    ],
)
def test_damaged_vectors_are_one_error(
    tmp_path: Path, suffix: str, damage: Callable[[Path], None], message: str
) -> None:
    """The error has the file, what is wrong and the command that makes it again."""
    examples = save(tmp_path / "val.jsonl")
    damage(tmp_path / f"val.vectors.{suffix}")
    fix = "data_builder|make it again"
    with pytest.raises(DataError, match=rf"val\.vectors\.\w+:.* {message}.*({fix})"):
        open_vectors(examples)


def test_interrupted_saving_leaves_no_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New vectors never have the ids of earlier ones."""
    examples = save(tmp_path / "train.jsonl")

    class Interrupted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_vectors(examples, Interrupted(), [1], ENCODER)
    assert [path.exists() for path in vector_files(examples)] == [True, False]
