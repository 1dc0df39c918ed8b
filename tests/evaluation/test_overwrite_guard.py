"""Results of another evaluation are not overwritten without the option."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.overwrite_guard import check_not_overwritten, evaluation_identity
from igrag.errors import UsageError
from tests.evaluation.example_results import REFERENCES, make_dataset

NAMES = ["results.json", "table.md"]
METHODS = ("base", "checkpoint-5", "checkpoint-10 = best_model")


def identity(methods: tuple[str, ...] = METHODS, count: int = 3, **changes: Any) -> dict[str, Any]:
    """Returns the identity of an evaluation of three images."""
    options = {"model": "t5", "decoding": {"num_beams": 4}, "settings": {"dtype": "auto"}}
    files = {name: [Path("/trained", name.split(" ")[0])] for name in methods}
    return evaluation_identity(
        make_dataset(REFERENCES[:count]), **{**options, "files": files, **changes}
    )


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
        # The training was resumed, and another checkpoint is the best.
        identity(("base", "checkpoint-5", "checkpoint-10", "checkpoint-15 = best_model")),
    ],
)
def test_same_evaluation_can_be_repeated(folder: Path, now: dict[str, Any]) -> None:
    """An evaluation with the same methods or more replaces the previous one."""
    check_not_overwritten(folder, now, names=NAMES)


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
def test_other_evaluation_is_not_overwritten(
    folder: Path, now: dict[str, Any], message: str
) -> None:
    """The error has the difference and both options."""
    with pytest.raises(UsageError, match=f"holds another .*{message}.*--output_dir.*--overwrite_o"):
        check_not_overwritten(folder, now, names=NAMES)


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes a JSON file."""
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_keys_missing_in_earlier_versions_are_not_compared(folder: Path) -> None:
    """What an earlier version did not record is not compared."""
    edit(folder / "metrics.json", lambda content: [content.pop(key) for key in ("files", "model")])
    check_not_overwritten(folder, identity(model="t6"), names=NAMES)


def test_image_count_of_earlier_versions_is_compared(folder: Path) -> None:
    """The number of images, which earlier versions called "pictures", is compared."""
    edit(folder / "metrics.json", lambda old: old.__setitem__("pictures", old.pop("images")))
    check_not_overwritten(folder, identity(), names=NAMES)
    with pytest.raises(UsageError, match="images was 3, is 2"):
        check_not_overwritten(folder, identity(count=2), names=NAMES)


@pytest.mark.parametrize("content", ["{", "[]", '{"methods": 3}', None])
def test_unknown_files_are_not_overwritten(folder: Path, content: str | None) -> None:
    """Files without a valid metrics.json may be the user's own."""
    (folder / "metrics.json").unlink()
    if content is not None:
        (folder / "metrics.json").write_text(content)
    message = "table.md: exists without" if content is None else "metrics.json: is not that of"
    with pytest.raises(UsageError, match=rf"{message}.*--overwrite_output_dir"):
        check_not_overwritten(folder, identity(), names=NAMES)


def test_folder_without_results_is_accepted(tmp_path: Path) -> None:
    """A missing folder, or one with files of other names, is accepted."""
    (tmp_path / "notes.txt").touch()
    for folder in (tmp_path, tmp_path / "new"):
        check_not_overwritten(folder, identity(), names=NAMES)
