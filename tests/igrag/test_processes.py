"""The processes of one run: ranks from the environment, waiting for one another, one error."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from igrag.errors import IgragError
from igrag.processes import (
    EndedElsewhere,
    Processes,
    Ranks,
    first_process_prints,
    joined_processes,
)

_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


class Store:
    """The launcher's key-value store, of which the other processes' part is prepared."""

    def __init__(self, **values: Any) -> None:
        self.values: dict[str, Any] = values

    def set(self, key: str, value: str) -> None:
        """Sets a text."""
        self.values[key] = value

    def get(self, key: str) -> Any:
        """Returns a value, as bytes."""
        return self.values[key].encode()

    def add(self, key: str, amount: int) -> int:
        """Counts."""
        self.values[key] = int(self.values.get(key, 0)) + amount
        return int(self.values[key])

    def check(self, keys: list[str]) -> bool:
        """Returns whether there are all keys."""
        return all(key in self.values for key in keys)


class LostStore:
    """The store of a launcher that is gone."""

    def check(self, *arguments: object) -> bool:
        """Fails as the library's does."""
        raise RuntimeError("Connection reset by peer")

    add = check


def test_ranks_come_from_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a launcher there is one process; the cores of a machine are shared by its own."""
    for name in _LAUNCHER:
        monkeypatch.delenv(name, raising=False)
    assert Ranks.from_environment() == Ranks(0, 1, 0, 1)
    for name, value in zip(_LAUNCHER, "5813", strict=True):
        monkeypatch.setenv(name, value)
    ranks = Ranks.from_environment()
    assert ranks == Ranks(rank=5, size=8, local_rank=1, local_size=3) and not ranks.is_first
    assert Ranks(local_size=10**6).cores() == 1 <= Ranks().cores()


@pytest.mark.parametrize(
    ("name", "gpus", "device"),
    [("auto", 0, "auto"), ("auto", 8, "cuda:3"), ("cuda", 1, "cuda:0"), ("cpu", 8, "cpu"),
     ("cuda:5", 8, "cuda:5")],
)  # fmt: skip
def test_each_process_of_a_machine_has_its_gpu(
    monkeypatch: pytest.MonkeyPatch, name: str, gpus: int, device: str
) -> None:
    """Rank r takes cuda:r, unless a device is chosen or there is no GPU."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert Ranks(3, 4, local_rank=3, local_size=4).device(name) == device
    assert Ranks().device(name) == name


def test_what_the_first_process_makes_reaches_the_others() -> None:
    """It is made once, and a second process waits for it."""
    store = Store()
    first, second = (Processes(Ranks(rank, 2, rank, 2), store) for rank in (0, 1))
    assert first.from_first("plan", lambda: {"images": 3}) == {"images": 3}
    assert second.from_first("plan", lambda: pytest.fail("made twice")) == {"images": 3}
    second.first_waits("end")
    first.first_waits("end")
    assert Processes(Ranks()).from_first("plan", lambda: 1) == 1


def test_process_ends_where_another_one_has_failed() -> None:
    """Waiting ends, and nobody reports the same error twice."""
    store = Store()
    first, second = (Processes(Ranks(rank, 2, rank, 2), store) for rank in (0, 1))
    first.check()
    assert second.fails_first() and not first.fails_first()
    for wait in (first.check, lambda: first.first_waits("end")):
        with pytest.raises(EndedElsewhere) as ended:
            wait()
        assert ended.value.code == 1


def test_process_without_its_launcher_ends() -> None:
    """Where the launcher was killed there is nobody to wait for."""
    lost = Processes(Ranks(1, 2, 1, 2), LostStore())
    with pytest.raises(IgragError, match="process 1 of 2: the other processes are gone"):
        lost.check()
    assert lost.fails_first()


@pytest.mark.parametrize(("rank", "shown"), [("0", "usage\n"), ("1", "")])
def test_only_the_first_process_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: str, shown: str
) -> None:
    """Help and usage appear once, however many processes there are."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    with first_process_prints():
        print("usage")
    assert capsys.readouterr().out == shown


def _serve(ports: Any) -> None:
    """Is the launcher: its store outlives the processes of the run."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    ports.put(store.port)
    time.sleep(600)


def _run(rank: int, port: int, work: Callable[[Processes], None], results: Any) -> None:
    values = (str(rank), "3", str(rank), "3")
    os.environ.update(zip(_LAUNCHER, values, strict=True))
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    try:
        with joined_processes() as processes:
            work(processes)
        results.put((rank, "done"))
    except BaseException as error:
        results.put((rank, type(error).__name__))


def _fail_in_the_last(processes: Processes) -> None:
    assert processes.from_first("plan", lambda: [1, 2]) == [1, 2]
    if processes.ranks.rank == 2:
        raise ValueError
    processes.first_waits("encoded")
    while True:  # The second one is at work.
        processes.check()
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_error_of_one_process_ends_all_of_them() -> None:
    """Three processes over the library's store: one error is raised, and nothing hangs."""
    import torch.distributed  # noqa: F401 (once, before the processes are forked)

    context = multiprocessing.get_context("fork")
    ports, results = context.Queue(), context.Queue()
    server = context.Process(target=_serve, args=(ports,), daemon=True)
    server.start()
    started = [
        context.Process(target=_run, args=(rank, port, _fail_in_the_last, results), daemon=True)
        for port in [ports.get(timeout=60)]
        for rank in range(3)
    ]
    try:
        for process in started:
            process.start()
        found = dict(results.get(timeout=60) for _ in started)
    finally:
        for process in (server, *started):
            process.kill()
    assert found == {0: "EndedElsewhere", 1: "EndedElsewhere", 2: "ValueError"}
