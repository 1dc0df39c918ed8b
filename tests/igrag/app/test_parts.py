"""Parts of the page without a browser: its languages, its folders, and settings that differ."""

import asyncio
from pathlib import Path

import pytest

from igrag.app.folders import Folders
from igrag.app.texts import TEXTS, language_of, texts_for
from igrag.app.training_runs import TrainingRuns, differences
from igrag.training.record import flat_settings


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,en;q=0.9,zh;q=0.8", "en"),
        ("fr-FR,fr;q=0.9,zh-TW;q=0.5", "zh"),
        ("fr", "en"),
        ("", "en"),
        (None, "en"),
    ],
)
def test_language_is_the_first_that_there_is(header: str | None, expected: str) -> None:
    """The browser's first language that the page has decides; without any it is English."""
    assert language_of(header) == expected
    assert texts_for(header) is TEXTS[expected]


def test_folders_are_found_below_their_roots(tmp_path: Path) -> None:
    """Folders are named from their root; links are not followed, and a missing root has none."""
    for name in ("a", "b/c"):
        (tmp_path / "root" / name).mkdir(parents=True)
        (tmp_path / "root" / name / "mark").touch()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "root" / "a")
    roots = {"runs": tmp_path / "root", "none": tmp_path / "none"}
    found = Folders(roots, lambda folder: (folder / "mark").is_file()).find()
    assert found == {"runs/a": tmp_path / "root" / "a", "runs/b/c": tmp_path / "root" / "b" / "c"}


def test_only_settings_that_differ_are_compared() -> None:
    """A setting that one run lacks differs from those that have it."""
    first = flat_settings({"training": {"seed": 1, "epochs": 3}, "name": "t5"})
    second = flat_settings({"training": {"seed": 2, "epochs": 3, "new": True}, "name": "t5"})
    assert differences({"a": first, "b": second}) == [
        ["training.seed", "1", "2"],
        ["training.new", "–", "True"],
    ]


def test_damaged_record_is_one_line(tmp_path: Path) -> None:
    """A record that cannot be read is an error in the page, next to the other runs."""
    (tmp_path / "all_results.json").write_text("{", encoding="utf-8")
    page = TrainingRuns({"run": tmp_path}).show(["run"], TEXTS["en"])
    assert 'role="alert"' in page and "all_results.json" in page


def test_component_of_a_session_opens_no_path(tmp_path: Path) -> None:
    """Components that an event makes again for a session refuse paths and addresses, too."""
    gradio = pytest.importorskip("gradio")
    from igrag.app.page import only_take_uploads

    only_take_uploads()
    (tmp_path / "secret").write_text("secret")
    for path in (tmp_path / "secret", "http://127.0.0.1:9/a.png"):
        with pytest.raises(gradio.Error, match="expected an upload"):
            asyncio.run(gradio.Dropdown().async_move_resource_to_block_cache(path))
