"""The queue: batches of what arrives together, a bound, errors, and an end that loses nothing."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from igrag.serving.batch_queue import BatchQueue, QueueFullError


class Doubler:
    """Doubles numbers, and records its batches; it waits until it is allowed to run."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.allowed = threading.Event()
        self.allowed.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        """Returns the numbers doubled; a negative one is an error."""
        self.batches.append(list(items))
        self.allowed.wait(60)
        if min(items, default=0) < 0:
            raise ValueError("negative")
        return [2 * item for item in items]


def with_queue(
    double: Doubler,
    use: Callable[[BatchQueue[int, int]], Awaitable[Any]],
    *,
    batch_size: int = 4,
    capacity: int = 100,
) -> Any:
    """Returns what `use` returns for a queue that is started and closed around it."""

    async def run() -> Any:
        queue = BatchQueue(double, batch_size=batch_size, wait=0.05, capacity=capacity)
        queue.start()
        try:
            return await use(queue)
        finally:
            double.allowed.set()
            await queue.close()

    return asyncio.run(run())


def test_what_arrives_together_is_one_batch() -> None:
    """Requests share batches of at most batch_size, in their order; each gets its own results."""
    double = Doubler()

    async def use(queue: BatchQueue[int, int]) -> Any:
        return await asyncio.gather(queue.run([1]), queue.run([2, 3]), queue.run([4, 5]))

    assert with_queue(double, use) == [[2], [4, 6], [8, 10]]
    assert double.batches == [[1, 2, 3, 4], [5]]


def test_items_collect_while_a_batch_runs() -> None:
    """What arrives meanwhile is the next batch, however long ago its first item came."""
    double = Doubler()

    async def use(queue: BatchQueue[int, int]) -> Any:
        double.allowed.clear()
        tasks = [asyncio.create_task(queue.run([0]))]
        await asyncio.sleep(0.2)
        for number in (1, 2, 3):
            tasks.append(asyncio.create_task(queue.run([number])))
            await asyncio.sleep(0.06)  # longer than a batch waits
        double.allowed.set()
        return await asyncio.gather(*tasks)

    assert with_queue(double, use) == [[0], [2], [4], [6]]
    assert double.batches == [[0], [1, 2, 3]]


def test_full_queue_refuses_and_has_room_again() -> None:
    """Room is held until the block ends, also by an error; what does not fit takes none."""

    async def use(queue: BatchQueue[int, int]) -> None:
        with queue.reserve(2):
            with pytest.raises(QueueFullError, match="2 of 3 images are waiting"), queue.reserve(2):
                pass
            with pytest.raises(ValueError, match="negative"), queue.reserve(1):
                await queue.run([-1])
            assert queue.waiting == 2
        with queue.reserve(3):
            assert await queue.run([1, 2, 3]) == [2, 4, 6]
        assert queue.waiting == 0

    with_queue(Doubler(), use, capacity=3)


def test_error_of_a_batch_is_its_own() -> None:
    """Every request of the batch gets the error, and the next batch is run."""

    async def use(queue: BatchQueue[int, int]) -> None:
        found = await asyncio.gather(queue.run([1]), queue.run([-1]), return_exceptions=True)
        assert [type(each) for each in found] == [ValueError, ValueError]
        assert await queue.run([3]) == [6]

    with_queue(Doubler(), use)


def test_closing_finishes_what_is_accepted() -> None:
    """Batches that have not begun are run too, before `close` returns."""
    double = Doubler()

    async def run() -> Any:
        queue = BatchQueue(double, batch_size=1, wait=0, capacity=9)
        queue.start()
        double.allowed.clear()
        tasks = [asyncio.create_task(queue.run([number])) for number in range(3)]
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(queue.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        double.allowed.set()
        await closing
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == [[0], [2], [4]]


def test_cancelled_request_is_not_run() -> None:
    """A request that is given up while it waits costs nothing."""
    double = Doubler()

    async def use(queue: BatchQueue[int, int]) -> Any:
        double.allowed.clear()
        first = asyncio.create_task(queue.run([1]))
        await asyncio.sleep(0.2)
        second = asyncio.create_task(queue.run([2]))
        await asyncio.sleep(0.05)
        second.cancel()
        double.allowed.set()
        return await first, await queue.run([3])

    assert with_queue(double, use, batch_size=1) == ([2], [6])
    assert [1] in double.batches and [2] not in double.batches
