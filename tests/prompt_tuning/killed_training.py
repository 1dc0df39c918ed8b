"""Runs prompt training until it kills its own process, as `kill -9` does, at a given point.

Usage: python -m tests.prompt_tuning.killed_training TEXT prompt_training.py [options ...]; TEXT is
part of the path of a JSON file, after whose writing the process is killed, or "curves of
checkpoint-N." for the time when that checkpoint is complete.
"""

import os
import signal
import sys
from pathlib import Path
from unittest.mock import patch

from igrag.files import write_json
from igrag.training.record import TrainingRecord
from prompt_tuning import checkpoints, prompt_training


def _kill_after(point: str) -> None:
    if sys.argv[1] in point:
        os.kill(os.getpid(), signal.SIGKILL)


def _write_json(path: Path, content: object) -> None:
    write_json(path, content)
    _kill_after(str(path))


def _draw_curves(record: TrainingRecord, path: Path) -> None:
    path.touch()
    _kill_after(f"curves of {record.evaluations[-1].checkpoint}.")


if __name__ == "__main__":
    with patch.multiple(checkpoints, write_json=_write_json, draw_curves=_draw_curves):
        prompt_training.main(*prompt_training.parse_arguments(sys.argv[3:]))
