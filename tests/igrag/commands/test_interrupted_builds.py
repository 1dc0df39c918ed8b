"""A build that is interrupted, killed, or loses a worker, with workers as by default."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from igrag.config import REPO_ROOT
from tests.tiny import CocoFolder, save_coco

SCRIPT = REPO_ROOT / "scripts" / "build_knowledge_base.py"
CONTINUES = "interrupted: the same command continues from here\n"
# The data loader waits 5 s for each of its 2 workers that does not end by itself.
QUICK_SECONDS = 10.0
# For what only a hanging process exceeds, on a busy machine, too.
DEADLINE = 300.0

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> CocoFolder:
    """Images enough for a build to be met at work."""
    return save_coco(tmp_path_factory.mktemp("many") / "coco", count=1200)


class Build:
    """A running build with two workers, in a process group of its own."""

    def __init__(self, process: subprocess.Popen[str], output: Path) -> None:
        self.process = process
        self._shards = output.with_name(f"{output.name}.partial") / "shards"
        self._resumed = self.images_done()  # before an interrupted build continues

    def wait_for_batches(self) -> None:
        """Returns when the build has encoded some more images."""
        deadline = time.monotonic() + DEADLINE
        while self.process.poll() is None and time.monotonic() < deadline:
            if self.images_done() > self._resumed:
                return
            time.sleep(0.01)
        pytest.fail(f"the build is not at work: {self.process.communicate()}")

    def images_done(self) -> int:
        """Returns how many images the unfinished build has dealt with."""
        records = [json.loads(file.read_bytes()) for file in self._shards.glob("[0-9]*.json")]
        return sum(stop - start for start, stop in (record["images"] for record in records))

    def workers(self) -> list[int]:
        """Returns the workers' process ids."""
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def end(self) -> tuple[int, str]:
        """Waits for the end; returns the exit code and stderr."""
        _, stderr = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, stderr


Start = Callable[[], Build]


@pytest.fixture
def start(tmp_path: Path, coco: CocoFolder, tiny_clip: Path) -> Iterator[Start]:
    """Starts builds; none of their processes outlives the test."""
    output = tmp_path / "kb"
    paths = ["--captions", coco.captions, "--images", coco.images, "--output", output]
    # 16 images are more than a pipe holds: a worker blocks until its batch is read.
    options = ["--device", "cpu", "--workers", "2", "--batch-size", "16"]
    encoder = ["--set", f"retrieval_config.encoder={tiny_clip}"]
    started: list[subprocess.Popen[str]] = []

    def begin() -> Build:
        command = [sys.executable, str(SCRIPT), *map(str, paths), *options, *encoder]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True,
                                   start_new_session=True)  # fmt: skip
        started.append(process)
        build = Build(process, output)
        build.wait_for_batches()
        return build

    yield begin
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def seconds_until_gone(pids: Sequence[int]) -> float:
    """Waits for processes to end, or to be zombies; gives up at the deadline."""
    started = time.monotonic()
    while any(map(is_running, pids)) and time.monotonic() < started + DEADLINE:
        time.sleep(0.05)
    return time.monotonic() - started


def is_running(pid: int) -> bool:
    """Returns whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize(
    ("number", "code", "stderr"),
    [
        pytest.param(signal.SIGINT, 130, CONTINUES + "error: interrupted\n", id="SIGINT"),
        pytest.param(signal.SIGTERM, 143, CONTINUES, id="SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_signal_to_the_process_group_ends_the_build_at_once(
    start: Start, number: signal.Signals, code: int, stderr: str
) -> None:
    """Ctrl-C, and the end of a container, reach the workers too: no wait and no traceback."""
    seconds: list[float] = []
    while len(seconds) < 3:  # A busy machine delays one, waiting for the workers all of them.
        build = start()
        workers = build.workers()
        os.killpg(build.process.pid, number)
        seconds.append(seconds_until_gone(workers))
        assert build.end() == (code, stderr)
        if seconds[-1] < QUICK_SECONDS:
            return
    pytest.fail(f"the workers ended after {seconds} s")


@needs_proc
@pytest.mark.slow
def test_workers_of_a_killed_build_end(start: Start) -> None:
    """After kill -9 of the build alone its workers end by themselves."""
    build = start()
    workers = build.workers()
    assert len(workers) == 2
    build.process.kill()
    assert seconds_until_gone(workers) < DEADLINE


@pytest.mark.slow
@needs_proc
def test_killed_worker_is_one_error(start: Start) -> None:
    """A worker that the system kills ends the build with what to do; what is encoded stays."""
    build = start()
    os.kill(build.workers()[0], signal.SIGKILL)
    code, shown = build.end()
    assert code == 1
    assert shown.startswith("error: a data-loading worker was killed")
    assert "the same command continues from here" in shown and shown.count("\n") == 1
    assert build.images_done() > 0
