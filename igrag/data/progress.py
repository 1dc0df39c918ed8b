"""Progress bars of the `datasets` library, which shows them wherever it is used."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def datasets_bars(*, shown: bool) -> Iterator[None]:
    """Shows the library's own progress bars inside the block or not, and then as before."""
    from datasets.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    before = not are_progress_bars_disabled()
    if shown == before:
        yield
        return
    (enable_progress_bars if shown else disable_progress_bars)()
    try:
        yield
    finally:
        (enable_progress_bars if before else disable_progress_bars)()
