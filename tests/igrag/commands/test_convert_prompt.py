"""Conversion to PEFT and back, and outputs that are replaced only when asked."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForSeq2SeqLM

from igrag.captioning.language_model import load_language_model
from igrag.commands import convert_prompt
from igrag.config import REPO_ROOT
from prompt_tuning.fingerprint import fingerprint_of
from prompt_tuning.prompt_file import PromptFile, load_prompt, save_prompt
from tests.prompt_tuning.models import batch_of, image_prompt_of, noise, tuner_of
from tests.tiny import WORDS, save_t5


def convert(*words: object) -> int:
    """Runs the script in this process."""
    return convert_prompt.command([str(word) for word in words])


def save_marked(path: Path, model: Path, *, lora: str | None = None) -> Path:
    """Saves a prompt with the fingerprint of its model."""
    language = load_language_model(str(model), device="cpu")
    marks = fingerprint_of(language.model, language.tokenizer, template="t", lora=lora)
    save_prompt(path, PromptFile(noise(4), "random", marks))
    return path


def test_prompt_survives_conversion_to_peft_and_back(
    tmp_path: Path, tiny_t5: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The values survive both ways, and the output is named."""
    prompt = save_marked(tmp_path / "a.pt", tiny_t5)
    folder = tmp_path / "peft"
    assert convert("--to-peft", prompt, "--output", folder, "--model", tiny_t5) == 0
    assert convert("--from-peft", folder, "--output", tmp_path / "b.pt") == 0
    captured = capsys.readouterr()
    assert captured.out == f"{folder}: written\n{tmp_path / 'b.pt'}: written\n"
    assert captured.err == ""
    assert torch.equal(load_prompt(tmp_path / "b.pt").embeddings, noise(4))


def test_prompt_with_image_tokens_is_not_converted(
    tmp_path: Path, tiny_t5: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PEFT's format cannot hold them, and half of a prompt would be another one."""
    language = load_language_model(str(tiny_t5), device="cpu")
    tuner_of(language, noise(4), image_prompt_of(language)).save_prompt(tmp_path / "a.pt")
    folder = tmp_path / "peft"
    assert convert("--to-peft", tmp_path / "a.pt", "--output", folder, "--model", tiny_t5) == 1
    assert "found a prompt with 2 image tokens, which PEFT's" in capsys.readouterr().err
    assert not folder.exists()


def test_peft_loads_the_converted_prompt(tmp_path: Path, tiny_t5: Path) -> None:
    """The folder names its base model, and before that one computes what the prompt computes."""
    prompt = save_marked(tmp_path / "a.pt", tiny_t5)
    folder = tmp_path / "peft"
    assert convert("--to-peft", prompt, "--output", folder, "--model", tiny_t5) == 0
    named = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    theirs = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(named), folder).eval()
    language = load_language_model(str(tiny_t5), device="cpu", dtype="float32")
    batch = batch_of(language.tokenizer)
    with torch.no_grad():
        ours = tuner_of(language, noise(4))(**batch).logits
        torch.testing.assert_close(theirs(**batch).logits, ours, atol=1e-5, rtol=1e-5)


def test_prompt_of_another_model_is_refused(
    tmp_path: Path, tiny_t5: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its fingerprint, and by its width where it has none."""
    other = save_t5(tmp_path / "other", words=WORDS.split(), seed=1)
    prompt, folder = save_marked(tmp_path / "a.pt", other), tmp_path / "peft"
    words = ("--output", folder, "--model", tiny_t5)
    assert convert("--to-peft", prompt, *words) == 1
    assert "embeddings" in capsys.readouterr().err
    save_prompt(prompt, PromptFile(noise(4, width=8), "random", None))
    assert convert("--to-peft", prompt, *words) == 1
    assert "width 8" in capsys.readouterr().err and not folder.exists()
    assert convert("--to-peft", tmp_path / "none.pt", *words) == 1
    assert "none.pt: no such file" in capsys.readouterr().err


def test_unknown_origin_in_peft_format_is_a_warning(
    tmp_path: Path, tiny_t5: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prompt on a LoRA adapter, and one without the fingerprint of its model, are warnings."""
    words = ("--model", tiny_t5, "--output")
    prompt = save_marked(tmp_path / "a.pt", tiny_t5, lora="d" * 64)
    assert convert("--to-peft", prompt, *words, tmp_path / "peft") == 0
    assert "LoRA adapter" in capsys.readouterr().err
    save_prompt(prompt, PromptFile(noise(4), "random", None))
    assert convert("--to-peft", prompt, *words, tmp_path / "peft2") == 0
    assert "used unchecked" in capsys.readouterr().err


def test_output_is_replaced_only_when_asked(
    tmp_path: Path, tiny_t5: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another prompt or adapter is replaced, but no folder with other files in it."""
    prompt, folder = save_marked(tmp_path / "a.pt", tiny_t5), tmp_path / "peft"
    there = ("--to-peft", prompt, "--model", tiny_t5, "--output")
    back = ("--from-peft", folder, "--output")
    assert convert(*there, folder) == 0
    assert convert(*back, prompt) == 2
    assert "--overwrite_output_dir replaces it" in capsys.readouterr().err
    assert convert(*there, folder) == 2
    assert "--overwrite_output_dir replaces it" in capsys.readouterr().err
    assert load_prompt(prompt).fingerprint is not None
    assert convert(*there, prompt, "--force") == 2 and "is a file" in capsys.readouterr().err
    assert convert(*back, folder, "--force") == 2 and "is a folder" in capsys.readouterr().err
    (folder / "notes.txt").touch()
    assert convert(*there, folder, "--force") == 2 and "notes.txt" in capsys.readouterr().err
    (folder / "notes.txt").unlink()
    save_prompt(prompt, PromptFile(noise(6), "random", None))
    assert convert(*there, folder, "--force") == 0
    assert convert(*back, prompt, "--force") == 0
    assert load_prompt(prompt).prompt_length == 6


def test_missing_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file is named in the error, and no output is made."""
    output = tmp_path / "b.pt"
    assert convert("--from-peft", tmp_path / "none", "--output", output) == 1
    error = capsys.readouterr().err
    assert "adapter_config.json" in error and len(error.splitlines()) == 1
    assert not output.exists()


def test_script_runs_as_typed(tmp_path: Path) -> None:
    """From anywhere, without the repository on Python's path; a direction must be chosen."""
    script = REPO_ROOT / "scripts" / "convert_prompt.py"
    for words, code, said in ((["--help"], 0, "--to_peft"), (["--output", "x"], 2, "--from_peft")):
        done = subprocess.run(
            [sys.executable, script, *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == code and said in done.stdout + done.stderr
