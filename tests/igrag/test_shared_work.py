"""Work that the processes of a run share out, and how it reaches those that need it."""

from typing import Any

import pytest

from igrag.processes import ALONE, EndedElsewhere, Processes
from tests.shared_work import in_threads


def square(number: int) -> dict[str, int]:
    """Makes a piece of work."""
    return {"square": number**2}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("together", [1, 2])
def test_first_process_has_all_pieces_in_order(count: int, together: int) -> None:
    """Each piece is made once, by the process whose turn it is; the others yield nothing."""
    made: list[tuple[int, int]] = []

    def work(processes: Processes) -> list[Any]:
        def make(number: int) -> dict[str, int]:
            made.append((number, processes.ranks.rank))
            return square(number)

        return list(processes.in_order("squares", 7, make, together=together))

    first, *others = in_threads(count, work)
    assert first == [square(number) for number in range(7)]
    assert others == [[]] * (count - 1)
    assert sorted(made) == [(number, number // together % count) for number in range(7)]


def test_every_process_has_all_pieces_where_all_need_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are the same for all, and those that are larger than the store takes come whole."""
    monkeypatch.setattr("igrag.processes._PART_BYTES", 10)

    def work(processes: Processes) -> list[str]:
        return list(processes.everywhere("texts", 4, lambda number: f"{number}é" * 20))

    found = in_threads(3, work)
    assert found == [[f"{number}é" * 20 for number in range(4)]] * 3


def test_one_process_makes_everything_itself() -> None:
    """Without others nothing is waited for, and pieces are made as they are asked for."""
    pieces = ALONE.in_order("squares", 3, square)
    assert next(pieces) == square(0)
    assert list(ALONE.everywhere("squares", 2, square)) == [square(0), square(1)]


def test_error_in_one_process_ends_the_others() -> None:
    """The first process does not wait for a piece that never comes."""

    def work(processes: Processes) -> str:
        def make(number: int) -> int:
            if number == 1:
                raise ValueError("broken image")
            return number

        try:
            list(processes.in_order("numbers", 4, make))
        except EndedElsewhere:
            return "ended"
        return "done"

    ended: list[str] = []

    def record(processes: Processes) -> None:
        ended.append(work(processes))

    with pytest.raises(ValueError, match="broken image"):
        in_threads(2, record)
    assert ended == ["ended"]
