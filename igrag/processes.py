"""The processes of one run, as torchrun and accelerate launch start them, on one machine or many.

They wait for one another through the launcher's key-value store, in short polls. A collective
operation would hold back signals, and gives up after minutes, while the first process may write a
large file for an hour.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from igrag.errors import IgragError

T = TypeVar("T")
_FAILED = "failed"
_POLL_SECONDS = 0.1
_PART_BYTES = 1 << 22  # torch's store ends the connection where a value is larger than 8 MB.


class EndedElsewhere(SystemExit):
    """Another process of the run has failed, and reports it: this one ends without a word."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of the run's processes this one is.

    Attributes:
        rank: Its number, from 0.
        size: How many there are.
        local_rank: Its number on its machine.
        local_size: How many there are on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def from_environment(cls) -> Ranks:
        """Reads what the launcher has set; without one there is one process."""
        names = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
        return cls(*(int(os.environ.get(name, default)) for name, default in names.items()))

    @property
    def is_first(self) -> bool:
        """Whether this one prints, and writes the files that there are once."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """Returns the device of this process: of several on a machine, each has its own GPU."""
        import torch

        if self.local_size == 1 or name not in ("auto", "cuda") or not torch.cuda.is_available():
            return name
        # A cluster may show each process its own GPU only.
        return f"cuda:{self.local_rank % torch.cuda.device_count()}"

    def cores(self) -> int:
        """Returns the machine's cores for each of its processes, at least one."""
        allowed = getattr(os, "sched_getaffinity", None)  # Linux's
        count = len(allowed(0)) if allowed else os.cpu_count() or 1
        return max(1, count // self.local_size)


class Processes:
    """The processes of one run; made by `joined_processes`.

    Args:
        ranks: Which one this is.
        store: Theirs; None for one process.
    """

    def __init__(self, ranks: Ranks, store: Any = None) -> None:
        self.ranks = ranks
        self._store = store

    def from_first(self, key: str, make: Callable[[], Any]) -> Any:
        """Returns what the first process makes, JSON data; the others wait for it.

        Args:
            key: Names it; each is used once.
            make: Makes it, in the first process alone.

        Raises:
            EndedElsewhere: Another process has failed.
        """
        if self._store is None:
            return make()
        if self.ranks.is_first:
            made = make()
            self._put(key, made)
            return made
        return self._take(key)

    def first_waits(self, key: str) -> None:
        """Lets the first process wait until all of them were here; the others go on.

        Raises:
            EndedElsewhere: Another process has failed.
        """
        if self._store is None:
            return
        self._call("add", key, 1)
        if self.ranks.is_first:
            self._poll(lambda: self._call("add", key, 0) == self.ranks.size)

    def in_order(
        self, key: str, count: int, make: Callable[[int], Any], *, together: int = 1
    ) -> Iterator[Any]:
        """Shares out numbered pieces of work in turn; the first process yields what they make.

        It yields all results, in order. The others make their share ahead, and yield nothing.

        Args:
            key: Names the work; each is used once.
            count: How many pieces there are.
            make: Makes JSON data from a piece's number.
            together: Pieces that follow one another and go to one process.

        Raises:
            EndedElsewhere: Another process has failed.
        """
        for number in range(count):
            piece = f"{key}/{number}"
            is_mine = number // together % self.ranks.size == self.ranks.rank
            if self.ranks.is_first:
                yield make(number) if is_mine else self._take(piece, delete=True)
            elif is_mine:
                self.check()
                self._put(piece, make(number))

    def everywhere(self, key: str, count: int, make: Callable[[int], Any]) -> Iterator[Any]:
        """Shares out pieces of work as `in_order`; every process yields all results, in order."""
        own = range(self.ranks.rank, count, self.ranks.size)
        if self._store is None:
            yield from map(make, own)
            return
        for number in own:
            self.check()
            self._put(f"{key}/{number}", make(number))
        for number in range(count):
            yield self._take(f"{key}/{number}")

    def _put(self, key: str, made: Any) -> None:
        text = json.dumps(made)  # ASCII
        parts = [text[start : start + _PART_BYTES] for start in range(0, len(text), _PART_BYTES)]
        for number, part in enumerate(parts):
            self._call("set", f"{key}#{number}", part)
        self._call("set", key, str(len(parts)))

    def _take(self, key: str, *, delete: bool = False) -> Any:
        self._poll(lambda: self._call("check", [key]))
        names = [f"{key}#{number}" for number in range(int(self._call("get", key)))]
        made = json.loads(b"".join(self._call("get", name) for name in names))
        for name in (*names, key) if delete else ():
            self._call("delete_key", name)
        return made

    def check(self) -> None:
        """Ends this process if another one has failed; to be called between pieces of work.

        Raises:
            EndedElsewhere: One has.
            IgragError: The launcher is gone.
        """
        if self._store is not None and self._call("check", [_FAILED]):
            raise EndedElsewhere(1)

    def fails_first(self) -> bool:
        """Notes that this process fails; returns whether it is the first one that does."""
        try:
            return self._store is None or self._call("add", _FAILED, 1) == 1
        except IgragError:  # The launcher is gone: nobody else can report this.
            return True

    def _poll(self, is_done: Callable[[], bool]) -> None:
        while not is_done():
            self.check()
            time.sleep(_POLL_SECONDS)

    def _call(self, operation: str, *arguments: Any) -> Any:
        try:
            return getattr(self._store, operation)(*arguments)
        except RuntimeError as error:  # The library's DistError is one.
            raise IgragError(
                f"process {self.ranks.rank} of {self.ranks.size}: the other processes are gone "
                f"({' '.join(str(error).split())[:80]}); start all of them again"
            ) from error


ALONE = Processes(Ranks())


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Joins the other processes of the run; one that fails inside the block ends all of them.

    The first error is the only one that is raised: the others end with `EndedElsewhere`.
    """
    ranks = Ranks.from_environment()
    processes = Processes(ranks, None if ranks.size == 1 else _join(ranks))
    try:
        yield processes
    except EndedElsewhere:
        raise
    except BaseException:
        if not processes.fails_first():
            raise EndedElsewhere(1) from None
        raise


@contextmanager
def first_process_prints() -> Iterator[None]:
    """Hides what the other processes print inside the block: a usage, or the help."""
    if Ranks.from_environment().is_first:
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _join(ranks: Ranks) -> Any:
    from torch.distributed.rendezvous import rendezvous

    try:
        store, *_ = next(iter(rendezvous("env://")))
    except (RuntimeError, ValueError) as error:
        raise IgragError(
            f"process {ranks.rank} of {ranks.size}: found no other process "
            f"({' '.join(str(error).split())[:120]}); start them with torchrun"
        ) from error
    return store
