"""Settings of the process that every entry point makes before it computes."""

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_INT_MAX = 2**31 - 1


def tune_allocator() -> None:
    """Keeps freed memory in the process, where the C library is glibc.

    Batches of varying shape otherwise make glibc give memory back and fault it in again at every
    step, which can take more time than the arithmetic.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl, or another C library
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, _INT_MAX)
