"""The notebooks docs/quickstart*.ipynb run, and are the same program in both languages."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from igrag.config import REPO_ROOT

DOCS = REPO_ROOT / "docs"


def read_cells(name: str) -> list[dict[str, Any]]:
    """Returns the cells of a notebook."""
    cells: list[dict[str, Any]] = json.loads((DOCS / name).read_text(encoding="utf-8"))["cells"]
    return cells


def code_of(name: str) -> dict[str, str]:
    """Returns the code cells of a notebook by id."""
    cells = read_cells(name)
    return {cell["id"]: "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"}


def run_cell(code: str, names: dict[str, Any]) -> Any:
    """Runs a cell; returns what Jupyter shows: the last expression, if the cell ends in one."""
    body = ast.parse(code).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)


def test_both_languages_have_the_same_code() -> None:
    """The notebooks differ in their texts alone, cell by cell."""
    english, chinese = (read_cells(f"quickstart{suffix}.ipynb") for suffix in ("", ".zh"))
    assert [cell["cell_type"] for cell in english] == [cell["cell_type"] for cell in chinese]
    assert code_of("quickstart.ipynb") == code_of("quickstart.zh.ipynb")


@pytest.mark.parametrize("name", ["quickstart.ipynb", "quickstart.zh.ipynb"])
def test_notebook_is_kept_without_outputs(name: str) -> None:
    """Outputs would be numbers of one machine, and images that every change stores again."""
    cells = [cell for cell in read_cells(name) if cell["cell_type"] == "code"]
    assert [cell["id"] for cell in cells if cell["outputs"] or cell["execution_count"]] == []


@pytest.mark.slow
def test_quickstart_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The notebook shows an image with its caption, trains 50 steps and uses the soft prompt."""
    monkeypatch.chdir(DOCS)  # where Jupyter starts it
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    printed: dict[str, str] = {}
    for cell, code in code_of("quickstart.ipynb").items():
        shown[cell] = run_cell(code, names)
        printed[cell] = capsys.readouterr().out
    assert shown["image"].size == names["image"].size
    assert shown["caption"] == names["result"].caption != ""
    assert len(printed["matches"].splitlines()) == 5
    assert names["result"].matches[0].captions[0] in printed["prompt"]
    assert "  50 " in printed["train"]
    assert names["settings"].best_prompt.is_relative_to(tmp_path)
    captions = printed["compare"].splitlines()
    assert len(captions) == 9
    assert captions[1].split(": ")[1] == names["result"].caption
    assert len(printed["nearest"].splitlines()) == names["tuner"].prompt_length == 20
