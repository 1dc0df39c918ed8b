"""scripts/convert_prompt.py: to PEFT and back, and nothing replaced unasked."""

from pathlib import Path

import pytest
import torch

from igrag.cli import run
from prompt_tuning.prompt_file import PromptFile, load_prompt, save_prompt
from scripts import convert_prompt
from tests.prompt_tuning.models import noise


def convert(*words: object) -> int:
    """Run the script in this process."""
    arguments = convert_prompt.parse_arguments([str(word) for word in words])
    return run(lambda: convert_prompt.main(arguments), debug=False)


def test_there_and_back(tmp_path: Path, tiny_t5: Path) -> None:
    """The values survive both ways."""
    prompt = noise(4)
    save_prompt(tmp_path / "a.pt", PromptFile(prompt, "random", None))
    folder = tmp_path / "peft"
    assert convert("--to-peft", tmp_path / "a.pt", "--output", folder, "--model", tiny_t5) == 0
    assert convert("--from-peft", folder, "--output", tmp_path / "b.pt") == 0
    assert torch.equal(load_prompt(tmp_path / "b.pt").embeddings, prompt)


def test_wrong_inputs(tmp_path: Path, tiny_t5: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An output that is there, a prompt of another width, a missing file: one line each."""
    save_prompt(tmp_path / "a.pt", PromptFile(noise(4, width=8), "random", None))
    folder = tmp_path / "peft"
    to_peft = ("--to-peft", tmp_path / "a.pt", "--model", tiny_t5)
    assert convert(*to_peft, "--output", folder) == 1
    assert "width 8" in capsys.readouterr().err and not folder.exists()
    assert convert(*to_peft, "--output", tmp_path / "a.pt") == 2
    assert "--force" in capsys.readouterr().err
    assert convert("--from-peft", folder, "--output", tmp_path / "b.pt") == 1
    assert "adapter_config.json" in capsys.readouterr().err
