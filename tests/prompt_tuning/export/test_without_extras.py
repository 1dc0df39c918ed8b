"""Without the extra ctranslate2 everything else works, and what needs it names it."""

from __future__ import annotations

import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

from igrag.config import REPO_ROOT
from tests.command import Command, one_error
from tests.prompt_tuning.export.conftest import Export, save_prompt_for


@pytest.fixture
def without_ctranslate2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides CTranslate2, installed or not."""
    found = util.find_spec

    def find(name: str, package: str | None = None) -> object:
        return None if name == "ctranslate2" else found(name, package)

    for module in ("prompt_tuning.export.exporter", "igrag.captioning.ctranslate2_model"):
        monkeypatch.setattr(f"{module}.find_spec", find)


@pytest.mark.usefixtures("without_ctranslate2")
def test_export_names_the_extra(
    tiny_t5: Path, tmp_path: Path, export: Export, capsys: pytest.CaptureFixture[str]
) -> None:
    """--format ctranslate2 is an error of usage before anything is loaded."""
    assert export(tmp_path / "no.pt", tiny_t5, tmp_path / "out", "--format", "ctranslate2") == 2
    assert 'pip install "igrag[ctranslate2]"' in capsys.readouterr().err


@pytest.mark.usefixtures("without_ctranslate2")
def test_engine_names_the_extra(
    command: Command, tiny_t5: Path, tmp_path: Path, export: Export
) -> None:
    """--engine ctranslate2 needs it, too."""
    prompt = save_prompt_for(tiny_t5, tmp_path / "p.pt")
    assert export(prompt, tiny_t5, tmp_path / "out", "--format", "transformers") == 0
    description = tmp_path / "out" / "export.json"
    text = description.read_text(encoding="utf-8")
    description.write_text(text.replace('"transformers"', '"ctranslate2"'), encoding="utf-8")
    words = ("--i", "input/802.jpg", "--engine", "ctranslate2", "--model", tmp_path / "out")
    code, _, err = command(*words)
    assert code == 2 and 'pip install "igrag[ctranslate2]"' in one_error(err)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["igrag.from_config", "prompt_tuning.methods", "main"])
def test_default_path_does_not_import_it(module: str) -> None:
    """Captioning in torch imports neither CTranslate2 nor anything of ONNX."""
    code = (
        f"import sys, {module}; print({{'ctranslate2', 'onnx', 'onnxruntime'}} & {{*sys.modules}})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
