"""Runs the command run_evaluation.py on tiny models."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evaluation.options import parse_arguments
from evaluation.run_evaluation import main
from igrag.cli import run


@dataclass
class Evaluator:
    """Runs the command in this process, on tiny models."""

    settings: list[str]
    output: Path
    capfd: pytest.CaptureFixture[str]

    def __call__(self, *words: object) -> tuple[int, str, str]:
        """Returns the exit code and what was printed on stdout and stderr."""
        output = ["--output_dir", str(self.output), "--device", "cpu", "--meteor", "off"]
        settings = [word for setting in self.settings for word in ("--set", setting)]
        arguments = parse_arguments([*output, *settings, *map(str, words)])
        code = run(lambda: main(arguments), debug=arguments.debug)
        captured = self.capfd.readouterr()
        return code, captured.out, captured.err

    def read(self, name: str) -> Any:
        """Returns the content of one of the JSON files."""
        return json.loads((self.output / name).read_text(encoding="utf-8"))
