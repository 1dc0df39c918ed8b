"""Commands that are run once: a command that has finished on the same files is not repeated."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from igrag.config import REPO_ROOT
from igrag.errors import DataError
from igrag.files import sha256_file, write_json


@dataclass(frozen=True, slots=True)
class Step:
    """A command of the project.

    Attributes:
        name: Its folder under the work folder.
        words: The script or module with its options; {output} stands for the step's folder.
        inputs: Files and folders whose content decides the result.
        after: Steps that must have finished.
    """

    name: str
    words: tuple[str, ...]
    inputs: tuple[Path, ...] = ()
    after: tuple["Step", ...] = ()

    def folder(self, work: Path) -> Path:
        """Returns the folder of its output."""
        return work / self.name

    def digest(self) -> str:
        """Returns a digest of the command, of its files, and of what it waits for."""
        # Relative, so that a clone that has moved repeats nothing.
        files = {os.path.relpath(path, REPO_ROOT): _content(path) for path in self.inputs}
        content = [self.words, files, [step.digest() for step in self.after]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def is_done(self, work: Path) -> bool:
        """Returns whether this very step has finished."""
        path = self.folder(work) / _DONE
        return path.is_file() and json.loads(path.read_text())["digest"] == self.digest()

    def run(self, work: Path, *, threads: int) -> None:
        """Runs the command, with its output in step.log, unless it has finished before.

        Raises:
            DataError: It fails.
        """
        folder = self.folder(work)
        if self.is_done(work):
            return
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _DONE).unlink(missing_ok=True)
        words = [
            word.format(output=folder, **{step.name: step.folder(work) for step in self.after})
            for word in self.words
        ]
        print(f"{self.name}: {' '.join(words)}", flush=True)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        started = time.perf_counter()
        with (folder / _LOG).open("w") as log:
            finished = subprocess.run(
                [sys.executable, *words], cwd=REPO_ROOT, env=environment, stdout=log, stderr=log
            )
        if finished.returncode:
            raise DataError(f"{folder / _LOG}: exit code {finished.returncode} of {words[0]}")
        seconds = round(time.perf_counter() - started, 1)
        write_json(
            folder / _DONE,
            {
                "digest": self.digest(),
                "seconds": seconds,
                "words": words,
                "commit": current_commit(REPO_ROOT),
            },
        )


_DONE, _LOG = "done.json", "step.log"


def run_steps(steps: Iterable[Step], work: Path, *, jobs: int, threads: int) -> None:
    """Runs steps and what they wait for, several at once.

    Raises:
        DataError: One fails; those that have begun are finished first.
    """
    levels: list[list[Step]] = []
    for step in dict.fromkeys(_with_earlier(steps)):
        depth = _depth(step)
        while len(levels) <= depth:
            levels.append([])
        levels[depth].append(step)
    for level in levels:
        with ThreadPoolExecutor(jobs) as pool:
            for done in [pool.submit(step.run, work, threads=threads) for step in level]:
                done.result()


def measuring_commit(steps: Iterable[Step], work: Path) -> str | None:
    """Returns the commits whose code ran the steps and what they wait for.

    A step that has finished is not repeated after a change of the code: there may be several.

    Returns:
        One or more commits, as `current_commit` writes them; None where one is not known.
    """
    done = [step.folder(work) / _DONE for step in _with_earlier(steps)]
    commits = {json.loads(path.read_text()).get("commit") for path in done}
    return None if None in commits else ", ".join(sorted(commits))


@cache  # Later the documents are written, and the clone differs from every commit.
def current_commit(root: Path) -> str | None:
    """Returns the commit of a clone, with -dirty where files differ; None without git."""
    try:
        words = ("git", "describe", "--always", "--dirty")
        found = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def _with_earlier(steps: Iterable[Step]) -> Iterator[Step]:
    for step in steps:
        yield from _with_earlier(step.after)
        yield step


def _depth(step: Step) -> int:
    return max((1 + _depth(each) for each in step.after), default=0)


def _content(path: Path) -> str:
    if path.is_file():
        return _file_hash(path, path.stat().st_mtime_ns)
    # A model card says what was measured, and decides nothing.
    names: Sequence[Path] = sorted(
        each for each in path.rglob("*") if each.is_file() and each.suffix != ".md"
    )
    return " ".join(_file_hash(each, each.stat().st_mtime_ns) for each in names)


@cache
def _file_hash(path: Path, modified: int) -> str:
    if path.suffix == ".yaml":  # Comments decide nothing.
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return sha256_file(path)
