"""Comments of YAML files and tables of documents are what the settings' descriptions make."""

from pathlib import Path
from typing import Literal

import pytest

from igrag.commands import document
from igrag.commands.document import comment_keys, find_field, settings_table
from igrag.config import REPO_ROOT, Section, setting


class Inner(Section):
    """A section for the tests."""

    rate: float = setting(0.5, "Learning rate.", "学习率。")
    color: Literal["red", "blue"] = setting("red", "Color of it.", "颜色。")


class Outer(Section):
    """A file for the tests."""

    name: str = setting(..., "A name.", "名称。")
    text: str = setting("a|b", "A text.", "文本。")
    inner: Inner = setting({}, "A section.", "小节。")
    more: dict[str, Inner] = setting({}, "More of them.", "更多。")
    last: int = setting(3, "The last one.", "最后一个。")


def test_shipped_files_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    """`make docs` has been run since a description was changed."""
    code = document.command(["--check"])
    assert code == 0, capsys.readouterr().out


def test_comments_are_the_descriptions() -> None:
    """Values, order and comments on lines of their own stay; the comment after a key is written."""
    text = """# A file.
name: "a # b" # old
# A comment of its own.
text: |-
  two
  lines  # text
inner: # old
  color: blue
  rate: 1e-4
more:
  mine: {rate: 1}
  yours:
    rate: 2
last: 3
"""
    assert (
        comment_keys(text, Outer)
        == """# A file.
name: "a # b"                           # A name.
# A comment of its own.
text: |-                                # A text.
  two
  lines  # text
inner:                                  # A section.
  color: blue                           # red or blue: color of it.
  rate: 1e-4                            # Learning rate.
more:                                   # More of them.
  mine: {rate: 1}
  yours:
    rate: 2                             # Learning rate.
last: 3                                 # The last one.
"""
    )


def test_long_lines_have_their_comment_above() -> None:
    """It replaces the comment that was there, and is written once."""
    long = f'name: "{"x" * 80}"'
    text = f"{long} # old\nlast: 3\nbase: a\n"
    written = comment_keys(text, Outer)
    assert written.splitlines()[:2] == ["# A name.", long]
    assert comment_keys(written, Outer) == written


def test_missing_keys_are_inserted_with_their_defaults() -> None:
    """Each after the key that is declared before it; a file with a base stays short."""
    written = comment_keys("name: a\n\n# The last.\nlast: 4\n", Outer)
    assert [line.split("#")[0].rstrip() for line in written.splitlines()] == [
        "name: a",
        'text: "a|b"',
        "inner:",
        "  rate: 0.5",
        '  color: "red"',
        "more: {}",
        "",
        "",
        "last: 4",
    ]
    assert comment_keys("base: a\nname: a\n", Outer).count("\n") == 2


def test_tables_of_both_languages() -> None:
    """Every key with its default and its meaning; a bar inside a cell is escaped."""
    assert (
        settings_table(Outer, "en")
        == """| Key | Default | Meaning |
| --- | --- | --- |
| `name` | required | A name. |
| `text` | `"a\\|b"` | A text. |
| `inner.rate` | `0.5` | Learning rate. |
| `inner.color` | `"red"` | red or blue: color of it. |
| `more` | `{}` | More of them. |
| `last` | `3` | The last one. |
"""
    )
    table = settings_table(Outer, "zh").splitlines()
    assert table[0] == "| 键 | 默认值 | 含义 |"
    assert table[5] == '| `inner.color` | `"red"` | red、blue：颜色。 |'


def test_tables_stand_between_their_marks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--check prints what differs and writes nothing; without it the table is written."""
    mark = "<!-- settings: igrag.config.schema.LogConfig lang=en -->"
    path = tmp_path / "README.md"
    path.write_text(f"before\n\n{mark}\nold\n<!-- end settings -->\nafter\n")
    words = ["--root", str(tmp_path)]
    assert document.command([*words, "--check"]) == 1
    assert "-old" in capsys.readouterr().out and "old" in path.read_text()
    assert document.command(words) == 0
    text = path.read_text()
    assert '| `level` | `"warning"` | debug, info' in text and "old" not in text
    assert text.startswith(f"before\n\n{mark}\n| Key") and text.endswith("-->\nafter\n")
    assert document.command([*words, "--check"]) == 0


def test_fields_are_found_by_their_path() -> None:
    """Names of the user's own, and unknown keys, have no field."""
    field = find_field(Outer, ("more", "mine", "rate"))
    assert field is not None and field.description == "Learning rate."
    assert find_field(Outer, ("more", "mine")) is None
    assert find_field(Outer, ("nothing", "at", "all")) is None


def test_every_folder_of_configurations_is_there() -> None:
    """The list of folders is that of the repository."""
    for folder in document.MODELS:
        assert list((REPO_ROOT / folder).glob("*.yaml"))
