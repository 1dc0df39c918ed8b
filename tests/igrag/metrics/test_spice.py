"""SPICE by pycocoevalcap's class, with a fake Java program."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from igrag.metrics import spice as module
from igrag.metrics.registry import MetricError, TokenizedCorpus
from igrag.metrics.spice import Spice
from igrag.metrics.tokens import tokenize_corpus

program = pytest.importorskip("pycocoevalcap.spice.spice", reason="it is not installed")
# Scores an image by a tenth of the words of its caption, an empty one by NaN.
FAKE_JAVA = """
import json, sys
words = sys.argv[1:]
entries = json.load(open(words[words.index("-Xmx8G") + 2]))
with open(words[words.index("-out") + 1], "w") as file:
    json.dump([
        {"image_id": entry["image_id"], "scores": {"All": {
            "f": len(entry["test"].split()) / 10 if entry["test"] else float("nan")
        }}}
        for entry in entries
    ], file)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A copy of the package's folder to write in; returns a function that sets the program."""
    monkeypatch.setattr(program, "__file__", str(tmp_path / "spice.py"))
    monkeypatch.setattr(program, "get_stanford_models", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))

    def set_program(body: str) -> None:
        java = tmp_path / "java"
        java.write_text(f"#!{sys.executable}\n{body}", encoding="utf-8")
        java.chmod(0o755)

    return set_program


def corpus() -> TokenizedCorpus:
    """Returns two captions."""
    captions = ["A dog runs.", ""]
    return TokenizedCorpus(*tokenize_corpus(captions, [["a dog", "a puppy"], ["two birds"]]))


def test_score_is_the_mean_over_images(package: Any) -> None:
    """The statistics are the images' F-scores; one that is not defined counts as 0."""
    package(FAKE_JAVA)
    found = Spice().compute(corpus())
    assert found.value == pytest.approx(0.15)
    assert found.statistics is not None and found.statistics.tolist() == [[0.3], [0.0]]


def test_failing_program_is_an_error(package: Any) -> None:
    """A program that fails leaves the metric out."""
    package("raise SystemExit(3)")
    with pytest.raises(MetricError, match=r"^failed: .*exit status 3"):
        Spice().compute(corpus())


def test_missing_requirements_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The reason names Java, the package or the models, and how to get them."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Spice().unavailable() == "needs Java, which is not installed"
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(module, "_folder", lambda: tmp_path)
    reason = Spice().unavailable()
    assert reason is not None and "python -m pycocoevalcap.spice.get_stanford_models" in reason
    (tmp_path / "lib").mkdir()
    for name in module._MODELS:
        (tmp_path / "lib" / name).write_text(json.dumps(None))
    assert Spice().unavailable() is None
    monkeypatch.setattr(module, "_PACKAGE", "no_such_package")
    assert Spice().unavailable() == (
        "needs no_such_package, which is not installed (pip install no_such_package)"
    )
