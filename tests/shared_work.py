"""Runs several of a run's processes as threads, which share a store of torch's in memory."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from torch.distributed import HashStore  # type: ignore[attr-defined]

from igrag.processes import Processes, Ranks

T = TypeVar("T")


def in_threads(count: int, work: Callable[[Processes], T]) -> list[T]:
    """Returns what each process makes; the first error is raised, and ends the others."""
    store = HashStore()

    def run(rank: int) -> T:
        processes = Processes(Ranks(rank=rank, size=count), store)
        try:
            return work(processes)
        except BaseException:
            processes.fails_first()
            raise

    with ThreadPoolExecutor(count) as pool:
        started = [pool.submit(run, rank) for rank in range(count)]
    return [future.result() for future in started]
