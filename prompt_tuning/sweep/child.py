"""Runs one training in a process that ends with the one that started it.

Usage: python prompt_tuning/sweep/child.py LOCK [options of prompt_training.py ...]
LOCK is a file that the process holds while it runs.
"""

import os
import signal
import sys
import threading
from pathlib import Path

if not __package__:  # Run as a script: without an installation the clone is not on the path.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from filelock import FileLock

from prompt_tuning import prompt_training


def main(lock: str, words: list[str]) -> int:
    """Trains, and returns the exit code."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # An earlier process of this training may need a moment to end.
    with FileLock(lock):
        return prompt_training.command(words)


def _end_with_parent() -> None:
    # The parent holds the other end of the pipe, which the system closes even if it is killed.
    # sys.stdin's own buffer would be locked while the process ends.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
