"""Collects what arrives together into batches, which one thread works on; bounded, and drained."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class QueueFullError(Exception):
    """There is no room for more; `waiting` items are accepted and `capacity` at most."""

    def __init__(self, waiting: int, capacity: int) -> None:
        super().__init__(f"{waiting} of {capacity} images are waiting, try again later")
        self.waiting = waiting
        self.capacity = capacity


class BatchQueue(Generic[ItemT, ResultT]):
    """Runs a function on batches of items that arrive together, one batch at a time.

    Start it inside the event loop that uses it.

    Args:
        run: Takes a batch of items and returns a result for each; called in one other thread.
        batch_size: The most items of a batch.
        wait: Seconds that the first item of a batch waits for others. While a batch is running,
            items collect anyway.
        capacity: The most items that are accepted and not answered.
    """

    def __init__(
        self,
        run: Callable[[Sequence[ItemT]], Sequence[ResultT]],
        *,
        batch_size: int,
        wait: float,
        capacity: int,
    ) -> None:
        self.capacity = capacity
        self.waiting = 0
        self._run = run
        self._batch_size = batch_size
        self._wait = wait
        self._items: asyncio.Queue[tuple[ItemT, asyncio.Future[ResultT]]] = asyncio.Queue()
        # One thread: a model's state (prompt, adapter, seed) belongs to one batch at a time.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="caption")
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts to work on what arrives."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Finishes what is accepted, and stops."""
        await self._items.join()
        if self._worker is not None:
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker
        self._thread.shutdown()

    @contextmanager
    def reserve(self, count: int) -> Iterator[None]:
        """Holds room for `count` items inside the block, whose items `run` takes.

        Raises:
            QueueFullError: There is no room for them.
        """
        if self.waiting + count > self.capacity:
            raise QueueFullError(self.waiting, self.capacity)
        self.waiting += count
        try:
            yield
        finally:
            self.waiting -= count

    async def run(self, items: Sequence[ItemT]) -> list[ResultT]:
        """Returns the results of items, each in whichever batch it comes.

        Raises:
            Exception: What the function raised for a batch of them.
        """
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[ResultT]] = [loop.create_future() for _ in items]
        for item, future in zip(items, futures, strict=True):
            self._items.put_nowait((item, future))
        return list(await asyncio.gather(*futures))

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._collect()
            # A request that was cancelled takes no result.
            wanted = [(item, future) for item, future in batch if not future.done()]
            futures = [future for _, future in wanted]
            try:
                items = [item for item, _ in wanted]
                results = await loop.run_in_executor(self._thread, self._run, items)
            except Exception as error:
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
            else:
                for future, result in zip(futures, results, strict=True):
                    if not future.done():
                        future.set_result(result)
            for _ in batch:
                self._items.task_done()

    async def _collect(self) -> list[tuple[ItemT, asyncio.Future[ResultT]]]:
        """Waits for an item, and then a moment for others."""
        batch = [await self._items.get()]
        deadline = asyncio.get_running_loop().time() + self._wait
        while len(batch) < self._batch_size:
            left = deadline - asyncio.get_running_loop().time()
            try:
                # What is there already is taken even if the moment is over.
                item = self._items.get_nowait() if left <= 0 else await self._next(left)
            except (asyncio.QueueEmpty, asyncio.TimeoutError):
                break
            batch.append(item)
        return batch

    async def _next(self, seconds: float) -> tuple[ItemT, asyncio.Future[ResultT]]:
        return await asyncio.wait_for(self._items.get(), seconds)
