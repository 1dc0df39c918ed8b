"""An evaluation of something else in the folder is not lost unasked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.overwrite_guard import identify, refuse_to_replace
from igrag.errors import UsageError
from tests.evaluation.outcomes import REFERENCES, split_of

NAMES = ["results.json", "table.md"]
METHODS = ("base", "checkpoint-5", "checkpoint-10 = best_model")


def identity(methods: tuple[str, ...] = METHODS, count: int = 3, **changes: Any) -> dict[str, Any]:
    """Says what an evaluation of three images is of."""
    options = {"model": "t5", "decoding": {"num_beams": 4}, "settings": {"dtype": "auto"}}
    files = {name: [Path("/trained", name.split(" ")[0])] for name in methods}
    return identify(split_of(REFERENCES[:count]), **{**options, "files": files, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an evaluation."""
    content = {**identity(), "methods": {name: {} for name in METHODS}}
    (tmp_path / "metrics.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "table.md").touch()
    return tmp_path


@pytest.mark.parametrize(
    "now",
    [
        identity(),
        identity((*METHODS, "checkpoint-20")),
        # The training went on, and another checkpoint is the best.
        identity(("base", "checkpoint-5", "checkpoint-10", "checkpoint-15 = best_model")),
    ],
)
def test_the_same_again(folder: Path, now: dict[str, Any]) -> None:
    """With the same methods or more, it takes the place of the one before."""
    refuse_to_replace(folder, now, names=NAMES)


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (identity(count=2), "images was 3, is 2"),
        (identity(model="t6"), "model was t5, is t6"),
        (identity(model=None), "model was t5, is None"),
        (identity(decoding={"num_beams": 1}), "num_beams was 4, is 1"),
        (identity(settings={"dtype": "float32"}), "dtype was auto, is float32"),
        (identity(("base",)), "it has best_model, checkpoint-10, checkpoint-5 too"),
        (identity(files={name: [Path("/x")] for name in METHODS}), "base was /trained/base, is /x"),
    ],
)
def test_something_else(folder: Path, now: dict[str, Any], message: str) -> None:
    """What differs is named, and both ways out."""
    with pytest.raises(UsageError, match=rf"holds another .*{message}.*--output_dir.*--force"):
        refuse_to_replace(folder, now, names=NAMES)


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes a JSON file."""
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_what_an_older_version_did_not_note(folder: Path) -> None:
    """It is not compared."""
    edit(folder / "metrics.json", lambda content: [content.pop(key) for key in ("files", "model")])
    refuse_to_replace(folder, identity(model="t6"), names=NAMES)


@pytest.mark.parametrize("content", ["{", "[]", '{"methods": 3}', None])
def test_files_that_nobody_explains(folder: Path, content: str | None) -> None:
    """They may be the user's own."""
    (folder / "metrics.json").unlink()
    if content is not None:
        (folder / "metrics.json").write_text(content)
    message = "table.md: is there" if content is None else "metrics.json: is not that of"
    with pytest.raises(UsageError, match=rf"{message}.*--force"):
        refuse_to_replace(folder, identity(), names=NAMES)


def test_an_empty_folder(tmp_path: Path) -> None:
    """Nothing can be lost there, nor where files of other names are."""
    (tmp_path / "notes.txt").touch()
    for folder in (tmp_path, tmp_path / "new"):
        refuse_to_replace(folder, identity(), names=NAMES)
