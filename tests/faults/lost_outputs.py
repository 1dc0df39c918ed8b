"""Real processes that hold an output, or train into it, for the tests of what may be lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from igrag.config import REPO_ROOT
from igrag.training.record import TrainingRecord
from tests.finished_runs import Trainer
from tests.lora_training.conftest import make_trainer as make_lora_trainer
from tests.prompt_tuning.conftest import make_trainer as make_prompt_trainer

LATEST = ("--resume_from_checkpoint", "latest")
TRAINERS: dict[str, Callable[[Path, Path], Trainer]] = {
    "prompt": make_prompt_trainer,
    "lora": make_lora_trainer,
}

# For what only a hanging process exceeds, on a busy machine, too.
DEADLINE = 300.0
_HOLD = (
    "import sys; from pathlib import Path\n"
    "from igrag.output_lock import lock_beside, lock_folder\n"
    "with globals()[sys.argv[1]](Path(sys.argv[2]), option='--output'):\n"
    "    print('held', flush=True); sys.stdin.read()\n"
)


@contextmanager
def held_by_another(path: Path, *, lock: str = "lock_folder") -> Iterator[int]:
    """Lets another process hold an output, and yields its process id; it is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, lock, str(path)],
        cwd=REPO_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"held\n"
            yield process.pid
        finally:
            process.kill()


def start(words: list[str], **environment: str) -> subprocess.Popen[str]:
    """Starts a command of the project as a process of its own, in a new session."""
    settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    variables: Mapping[str, str] = {**os.environ, **settings, **environment}
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=REPO_ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Returns as soon as a condition holds; fails if the process ends before."""
    deadline = time.monotonic() + DEADLINE
    while not reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.01)


def files(folder: Path) -> dict[str, bytes]:
    """Returns the content of all files below a folder, hidden ones included."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def training_results(output: Path) -> dict[str, Any]:
    """Returns what a training has come to: weights, losses and scores, without its times."""
    record = TrainingRecord.read(output / "all_results.json")
    found: dict[str, Any] = {
        str(path.relative_to(output)): path.read_bytes()
        for name in ("prompt_embeddings.pt", "adapter_model.safetensors")
        for path in output.rglob(name)
    }
    found["losses"] = [step.loss for step in record.history]
    found["scores"] = [(each.step, each.loss, each.bleu4) for each in record.evaluations]
    return found
