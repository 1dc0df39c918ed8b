"""A knowledge base built by several processes, as torchrun and accelerate start them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from igrag.commands.build_knowledge_base import command
from igrag.config import REPO_ROOT
from igrag.retrieval.knowledge_base import KnowledgeBase
from tests.launchers import accelerate_launch, two_nodes
from tests.tiny import CocoFolder, save_coco

SCRIPT = REPO_ROOT / "scripts" / "build_knowledge_base.py"
LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone")
DEADLINE = 300.0  # what only a hanging process exceeds
Words = Callable[[Path], list[str]]


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> CocoFolder:
    """Images for five shards, one of them unreadable."""
    folder = save_coco(tmp_path_factory.mktemp("many") / "coco", count=1200)
    folder.image(700).write_text("no image")
    return folder


@pytest.fixture
def words(coco: CocoFolder, tiny_clip: Path) -> Words:
    """Makes the options of a build into an output."""

    def to(output: Path) -> list[str]:
        paths = ["--captions", coco.captions, "--images", coco.images, "--output", output]
        options = ["--device", "cpu", "--workers", "0", "--batch_size", "8"]
        return [*map(str, paths), *options, "--set", f"retrieval_config.encoder={tiny_clip}"]

    return to


def start(words: list[str], *launcher: str) -> subprocess.Popen[str]:
    """Starts a build by a launcher."""
    return subprocess.Popen(
        [*launcher, str(SCRIPT), *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the files of a knowledge base."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def kill_at_work(process: subprocess.Popen[str], output: Path) -> None:
    """Kills a launcher and its processes when a shard is finished."""
    shards = output.with_name(f"{output.name}.partial") / "shards"
    deadline = time.monotonic() + DEADLINE
    while not list(shards.glob("[0-9]*.json")) and process.poll() is None:
        assert time.monotonic() < deadline, "the build is not at work"
        time.sleep(0.002)
    for child in children(process.pid):
        os.kill(child, signal.SIGKILL)
    process.kill()
    process.communicate(timeout=DEADLINE)


def children(pid: int) -> list[int]:
    """Returns the processes that one has started."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
def test_processes_continue_what_others_began(tmp_path: Path, words: Words) -> None:
    """Two of torchrun are killed, three of accelerate finish: the bytes are those of one."""
    output = tmp_path / "many"
    kill_at_work(start(words(output), *LAUNCHER, "--nproc_per_node=2"), output)
    assert not output.exists()
    last = start(words(output), *accelerate_launch(3))
    assert command(words(tmp_path / "one")) == 0
    stdout, stderr = last.communicate(timeout=DEADLINE)
    assert last.returncode == 0, stderr
    assert stdout == f"{output}: 1199 images, 8 dimensions\n"
    assert stderr.count("continued an interrupted build after") == 1
    assert stderr.count("warning: 1 images left out") == 1
    assert contents(output) == contents(tmp_path / "one")
    assert KnowledgeBase.verify(output)[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many", "one"]


@pytest.mark.slow
def test_two_machines_build_what_one_process_builds(tmp_path: Path, words: Words) -> None:
    """Two launchers with an output folder in common write the bytes of one process."""
    nodes = [start(words(tmp_path / "two"), *launcher) for launcher in two_nodes()]
    assert command(words(tmp_path / "one")) == 0
    printed = [node.communicate(timeout=DEADLINE) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], printed
    assert [stdout for stdout, _ in printed] == [
        f"{tmp_path / 'two'}: 1199 images, 8 dimensions\n",
        "",
    ]
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


@pytest.mark.slow
def test_error_is_one_line_of_one_process(tmp_path: Path, words: Words) -> None:
    """What goes wrong in all processes, or in one of them, is reported once and ends all."""
    missing = ["--captions", str(tmp_path / "missing.json")]
    process = start([*words(tmp_path / "kb"), *missing], *LAUNCHER, "--nproc_per_node=2")
    _, stderr = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "missing.json: no such file" in errors[0]
    assert list(tmp_path.iterdir()) == []
