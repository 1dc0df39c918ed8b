"""Writes the instruction that an evaluation chose into a file for --instructions.

python -m benchmarks.figures.chosen_instruction RESULTS/metrics.json instructions.yaml

Every seed is compared with the same instruction; choosing it again would take longer than the rest.
"""

import sys
from pathlib import Path

import yaml

from igrag.files import read_json


def main(metrics: Path, output: Path) -> None:
    """Reads metrics.json and writes one instruction, to be tried beside the default."""
    text = read_json(metrics)["instruction"]["text"]
    output.write_text(
        yaml.safe_dump({"instructions": [text]}, allow_unicode=True, width=1000), encoding="utf-8"
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
