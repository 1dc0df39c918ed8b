"""Times and sizes as a reader wants them."""

import pytest

from igrag.units import format_size, format_time


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (125.3, "2 min 05 s"),
     (3599.7, "1 h 00 min"), (6059, "1 h 40 min")],
)  # fmt: skip
def test_format_time(seconds: float, text: str) -> None:
    """A time is shown in seconds, minutes or hours."""
    assert format_time(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (15_320, "15 kB"), (412_345, "412 kB"),
     (999_700, "1.0 MB"), (3_440_000, "3.4 MB"), (2_300_000_000, "2,300 MB")],
)  # fmt: skip
def test_format_size(size: int, text: str) -> None:
    """A size has two significant digits at least."""
    assert format_size(size) == text
