"""The table of times by number of images, on little data."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import build_speed, scale
from benchmarks.synthetic_knowledge_base import make_knowledge_base


def test_rows_are_measured_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row is measured in its own process and kept: a second call prints the same table."""
    words = ["--folder", tmp_path / "kb", "--rows", 300, "--queries", 40, "--json", tmp_path / "a"]
    monkeypatch.setattr(sys, "argv", ["scale.py", *map(str, words)])
    monkeypatch.setattr(scale, "INDEXES", ("exact",))
    assert scale.main() == 0
    table = capfd.readouterr().out
    assert "| 300 | exact |" in table and "40 queries, s" in table and "1.0000 |" in table
    monkeypatch.setattr(scale, "in_own_process", lambda *_: pytest.fail("measured again"))
    assert scale.main() == 0
    assert capfd.readouterr().out == table
    (row,) = json.loads((tmp_path / "a").read_text())
    assert row["rows"] == 300 and row["recall"] == 1 and row["one"][0] > 0


def test_index_is_made_and_compared(tmp_path: Path) -> None:
    """The index of a small knowledge base finds all that the exact search found."""
    make_knowledge_base(tmp_path / "300", 300)
    assert scale.measure(tmp_path / "300", "exact", 20)["recall"] == 1
    assert scale.measure(tmp_path / "300", "faiss", 20)["recall"] == 1


def test_exponent_is_the_slope_of_the_logarithms() -> None:
    """Times that grow with the square of the rows have the exponent 2."""
    rows = [{"rows": rows, "one": [1.0, 1e-9 * rows**2]} for rows in (10, 1_000, 50_000)]
    assert scale.exponent(rows, "one") == pytest.approx(2)


def test_building_is_compared_without_the_start(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images a second count from the first images on, and against one process."""
    monkeypatch.setattr(build_speed, "save_clip", lambda *_, **__: None)
    monkeypatch.setattr(
        build_speed,
        "build",
        lambda folder, limit, processes, workers: 5 + limit / processes / (1 + workers),
    )
    assert build_speed.main(["--images", "8"]) == 0
    rows = capfd.readouterr().out.splitlines()[2:]
    assert rows[0] == "| 1 | 0 | 1.0 | 1.00x |" and rows[2] == "| 1 | 2 | 3.0 | 3.00x |"
    assert rows[4] == "| 2 | 1 | 4.0 | 4.00x |"
