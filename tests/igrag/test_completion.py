"""Completion in the shell, as argcomplete asks for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from igrag.config import REPO_ROOT

IGRAG = "from igrag.commands import main; main()"


def complete(line: str, folder: Path, *, code: str = "", words: int = 1) -> tuple[int, list[str]]:
    """Returns the exit code and the completions of the last word of a line.

    Args:
        line: What is typed so far.
        folder: Where the completions are written.
        code: What the program runs; the script main.py if empty.
        words: How many words of the line are the program.
    """
    answer = folder / "completions"
    asked = {
        "_ARGCOMPLETE": str(words),
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    program = ["-c", code] if code else ["main.py"]
    done = subprocess.run(
        [sys.executable, *program],
        cwd=REPO_ROOT,
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
    )
    assert done.stdout == ""
    found = answer.read_text().splitlines() if answer.exists() else []
    return done.returncode, [each.strip() for each in found]


def test_subcommands_are_completed(tmp_path: Path) -> None:
    """Of igrag itself, its subcommands."""
    code, found = complete("igrag con", tmp_path, code=IGRAG)
    assert code == 0 and found == ["convert-prompt"]


def test_options_of_a_subcommand_are_completed(tmp_path: Path) -> None:
    """After a subcommand's name, what its own parser takes, and the values of an option."""
    _, found = complete("igrag caption --to", tmp_path, code=IGRAG)
    assert found == ["--top_k"]
    _, found = complete("igrag caption --engine c", tmp_path, code=IGRAG)
    assert found == ["ctranslate2"]
    # A file, and no second argument: the subcommand's name is none of its own arguments.
    _, found = complete("igrag explain CHANGEL", tmp_path, code=IGRAG)
    assert found == ["CHANGELOG.md"]


def test_options_of_a_script_are_completed(tmp_path: Path) -> None:
    """Of python main.py, which the shell finds by the marker in the file."""
    _, found = complete("python main.py --req", tmp_path, words=2)
    assert found == ["--requests"]


def test_nothing_is_run_without_the_library(tmp_path: Path) -> None:
    """A shell that asks for completions never starts the command instead."""
    missing = "import sys; sys.modules['argcomplete'] = None; "
    assert complete("igrag doctor ", tmp_path, code=missing + IGRAG) == (1, [])


@pytest.mark.parametrize(
    "script",
    [
        "main.py",
        "scripts/build_knowledge_base.py",
        "scripts/convert_prompt.py",
        "prompt_tuning/prompt_training.py",
        "lora_training/data_builder.py",
        "lora_training/train_lora.py",
        "evaluation/run_evaluation.py",
    ],
)
def test_scripts_have_the_marker(script: str) -> None:
    """The library reads the first 1024 bytes of a script that it may run."""
    assert b"PYTHON_ARGCOMPLETE_OK" in (REPO_ROOT / script).read_bytes()[:1024]
