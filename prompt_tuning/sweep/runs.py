"""Trainings in processes of their own: how they are started, and what decides their results."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from igrag.config import Config, find_model, portable
from igrag.files import may_be_hub_id, sha256_file
from igrag.retrieval.vector_files import vector_files
from igrag.training.checkpoints import RESULTS_NAME
from igrag.training.record import TrainingRecord
from prompt_tuning.settings import PromptTrainingSettings

_CHILD = Path(__file__).parent / "child.py"
_LOG_NAME, _LOCK_NAME = "training.log", ".training.lock"
# Settings that do nothing without image tokens.
_IMAGE_KEYS = (
    ("data", "image_vectors"),
    ("prompt_tuning", "image_tokens"),
    ("prompt_tuning", "image_hidden"),
    ("prompt_tuning", "image_learning_rate"),
)
_PATIENCE = 30  # seconds for a process to end before it is killed


class TrainingProcess:
    """A training in a process of its own, so that nothing that ends it ends the caller.

    It ends when its caller ends, however that happens, and can be resumed then.

    Args:
        folder: Its output folder; the log is written there.
        words: Further options of prompt_training.py.
        threads: Threads that it computes with; None leaves it to the libraries.
    """

    def __init__(self, folder: Path, words: Sequence[str], *, threads: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._log = folder / _LOG_NAME
        options = ["--train", "--output_dir", str(folder), "--resume_from_checkpoint", "latest"]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(_CHILD), str(folder / _LOCK_NAME), *options, *words],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the caller, which ends it then.
            )

    def poll(self) -> int | None:
        """Returns the exit code; None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Waits until it ends, and returns the exit code."""
        return self._process.wait()

    def stop(self) -> None:
        """Ends it, if it still runs; its newest checkpoint stays."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()

    def record(self) -> TrainingRecord | None:
        """Returns its record so far; None before its first validation."""
        return read_record(self.folder)

    def failure(self) -> str:
        """Returns why it failed: its exit code, and the last line that it printed."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "nothing was printed")
        return f"exit code {self._process.poll()}: {last.strip()} (see {self._log})"


def read_record(folder: Path) -> TrainingRecord | None:
    """Returns the record in a training's folder; None if there is none."""
    path = folder / RESULTS_NAME
    return TrainingRecord.read(path) if path.is_file() else None


def describe_training(settings: PromptTrainingSettings) -> dict[str, Any]:
    """Returns everything that decides a training's result: settings and hashes of its files.

    Raises:
        OSError: A file is missing.
    """
    sections = {"model", "data", "prompt_tuning", "training", "evaluation"}
    content = settings.to_plain(include=sections)
    content["prompt_tuning"].pop("weights_path")  # names where results go
    if not settings.prompt_tuning.image_tokens:  # A study of an earlier version can be continued.
        for section, key in _IMAGE_KEYS:
            content[section].pop(key)
    content["files"] = {portable(path): _content_hash(path) for path in _files_of(settings)}
    return content


def _files_of(settings: PromptTrainingSettings) -> Iterator[Path]:
    """Yields the files a training reads: data, configuration, model, adapter, initial prompt."""
    model, init_file = settings.model, settings.prompt_tuning.init_file
    yield from (settings.train_file, settings.val_file, model.main_config)
    if settings.prompt_tuning.image_tokens:
        for examples in (settings.train_file, settings.val_file):
            yield from (path for path in vector_files(examples) if path.is_file())
    # A hub id is no file and no folder; it stands for itself.
    if init_file is not None and not may_be_hub_id(init_file):
        yield init_file
    base = Path(find_model(Config.load(model.main_config).models, model.name).path)
    for folder in (base, model.lora_weights_path):
        if folder is not None and folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.is_file())


@cache
def _content_hash(path: Path) -> str:
    return sha256_file(path)
