"""igrag export --format ctranslate2, and main.py --engine ctranslate2 on such a folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.command import Command, one_error
from tests.prompt_tuning.adapters import save_adapter
from tests.prompt_tuning.export.conftest import HEADS, Export, read_json, save_prompt_for
from tests.prompt_tuning.models import TEXTS

pytest.importorskip("ctranslate2", reason="CTranslate2 is not installed: igrag[ctranslate2]")

from prompt_tuning.export import run_export

FORMAT = ("--format", "ctranslate2")
ENGINE = ("--engine", "ctranslate2", "--i", "input/802.jpg")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("length", [1, 20, 100])
@pytest.mark.parametrize("beams", [1, 4])
def test_exported_model_generates_the_same_tokens(
    models: dict[str, Path], tmp_path: Path, export: Export, head: str, length: int, beams: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In float32 the command ends with 0 where all captions are equal, in beam search, too."""
    prompt = save_prompt_for(models[head], tmp_path / "p.pt", length=length)
    assert export(prompt, models[head], tmp_path / "out", *FORMAT, beams=beams) == 0
    assert "12 of 12" in capsys.readouterr().out.splitlines()[2]


@pytest.mark.parametrize("head", HEADS)
def test_adapter_is_merged(
    models: dict[str, Path], tmp_path: Path, export: Export, head: str
) -> None:
    """With --lora the captions are those of the adapted model."""
    adapter = save_adapter(tmp_path / "lora", models[head])
    prompt = save_prompt_for(models[head], tmp_path / "p.pt", lora=adapter)
    assert export(prompt, models[head], tmp_path / "out", *FORMAT, "--lora", adapter) == 0
    assert read_json(tmp_path / "out" / "export.json")["lora"] is True


def test_int8_reports_its_agreement(
    models: dict[str, Path], tmp_path: Path, export: Export, capsys: pytest.CaptureFixture[str]
) -> None:
    """Quantized weights may change captions: the command reports how many, BLEU-4 and speed."""
    prompt = save_prompt_for(models["untied"], tmp_path / "p.pt", length=20)
    float32, int8 = tmp_path / "float32", tmp_path / "int8"
    assert export(prompt, models["untied"], float32, *FORMAT) == 0
    capsys.readouterr()
    assert export(prompt, models["untied"], int8, *FORMAT, "--quantization", "int8") == 0
    table = capsys.readouterr().out.splitlines()[:3]
    assert "BLEU-4" in table[0] and "speed" in table[0]
    assert re.search(r"ctranslate2 int8 +\d+ of 12 +0\.\d{4} +[\d.]+ +[\d.]+x", table[2])
    sizes = [(folder / "model.bin").stat().st_size for folder in (int8, float32)]
    assert sizes[0] < sizes[1]


def test_readme_lines_run(
    models: dict[str, Path], tmp_path: Path, export: Export,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The code of the folder's README generates with CTranslate2 and tokenizers alone."""
    monkeypatch.setattr(run_export, "_TEXT", TEXTS[1])
    prompt = save_prompt_for(models["untied"], tmp_path / "p.pt")
    assert export(prompt, models["untied"], tmp_path / "out", *FORMAT, beams=4) == 0
    capsys.readouterr()
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert found is not None and "torch" not in found[1] and "beam_size=4" in found[1]
    monkeypatch.chdir(tmp_path)
    exec(found[1], {})
    assert capsys.readouterr().out.strip()


@pytest.fixture
def exported(models: dict[str, Path], tmp_path: Path, export: Export) -> Path:
    """A tied model with a soft prompt, exported for CTranslate2."""
    prompt = save_prompt_for(models["tied"], tmp_path / "p.pt", length=20)
    assert export(prompt, models["tied"], tmp_path / "exported", *FORMAT) == 0
    return tmp_path / "exported"


def result(command: Command, *words: object, settings: tuple[str, ...] = ()) -> Any:
    """Runs the command with --json; returns its result."""
    code, out, err = command("--json", *words, settings=settings)
    assert code == 0, err
    return json.loads(out.splitlines()[-1])


def test_engine_captions_as_torch(
    command: Command, models: dict[str, Path], exported: Path
) -> None:
    """main.py writes the caption, and the prompt, that it writes with the prompt in torch."""
    file = exported.parent / "p.pt"
    greedy = "generation_config.num_beams=1"
    tuned = ("prompt_tuning.enabled=true", f"prompt_tuning.weights_path={file}", greedy)
    model = ("--model", models["tied"])
    torch = result(command, "--i", "input/802.jpg", *model, settings=tuned)
    untuned = result(command, "--i", "input/802.jpg", *model, settings=(greedy,))
    fast = result(command, *ENGINE, "--model", exported, settings=(greedy,))
    assert (fast["caption"], fast["retrieved"]) == (torch["caption"], torch["retrieved"])
    assert fast["caption"] != untuned["caption"]
    assert (fast["engine"], fast["prompt_tuning"], fast["lora"]) == ("ctranslate2", True, False)


def test_engine_samples_by_seed(command: Command, exported: Path) -> None:
    """The same seed draws the same caption."""
    settings = ("generation_config.num_beams=1", "generation_config.do_sample=true",
                "generation_config.max_new_tokens=12")  # fmt: skip
    captions = [
        result(command, *ENGINE, "--model", exported,
               settings=(*settings, f"generation_config.seed={seed}"))["caption"]
        for seed in (1, 1, 2)
    ]  # fmt: skip
    assert captions[0] == captions[1] != captions[2]


@pytest.mark.parametrize(
    ("words", "settings", "error"),
    [
        ((), (), "export.json: no such file"),
        (("--compare",), (), "--compare: needs --engine torch"),
        ((), ("prompt_tuning.enabled=true",), "prompt_tuning.enabled: found true"),
        ((), ("lora_config.enabled=true",), "lora_config.enabled: found true"),
        ((), ("prompt_config.instruction=Other.",), "another prompt template"),
        ((), ("generation_config.do_sample=true", "generation_config.num_beams=4"), "expected 1"),
    ],
)
def test_what_the_engine_cannot_do_is_one_error(
    command: Command, exported: Path, words: tuple[str, ...], settings: tuple[str, ...], error: str
) -> None:
    """The error names what is wrong; without --model the default model is no export."""
    if error.startswith("another"):
        content = read_json(exported / "export.json") | {"template": "0" * 64}
        (exported / "export.json").write_text(json.dumps(content), encoding="utf-8")
    model = () if error.startswith("export.json") else ("--model", exported)
    code, _, err = command(*ENGINE, *model, *words, settings=settings)
    assert code in (1, 2) and error in one_error(err)


@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json"])
def test_damaged_folder_is_one_error(command: Command, exported: Path, name: str) -> None:
    """A file that is cut short ends the command with one line that names the folder."""
    content = (exported / name).read_bytes()
    (exported / name).write_bytes(content[: len(content) // 2])
    code, _, err = command(*ENGINE, "--model", exported)
    assert code == 1 and str(exported) in one_error(err)


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": "ctranslate2"}'])
def test_damaged_description_is_one_error(command: Command, exported: Path, content: str) -> None:
    """An export.json that is not what the command writes ends with one line."""
    (exported / "export.json").write_text(content, encoding="utf-8")
    code, _, err = command(*ENGINE, "--model", exported)
    assert code == 1 and "expected the keys" in one_error(err)
