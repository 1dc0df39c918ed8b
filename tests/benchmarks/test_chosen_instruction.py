"""The instruction that an evaluation chose, as a file for the next one."""

import json
from pathlib import Path

from benchmarks.figures.chosen_instruction import main
from evaluation.instructions import read_instructions


def test_chosen_instruction_can_be_read_again(tmp_path: Path) -> None:
    """The file has the text as it is, quotes and colons included."""
    text = 'Say "what": in one line.'
    metrics = tmp_path / "metrics.json"
    metrics.write_text(json.dumps({"instruction": {"text": text}}), encoding="utf-8")
    main(metrics, tmp_path / "instructions.yaml")
    assert read_instructions(tmp_path / "instructions.yaml") == (text,)
