"""Memory of this process, in bytes."""

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """Returns the largest resident memory so far, pages of mapped files included.

    On Linux from VmHWM: `ru_maxrss` begins at the peak of the process that started this one.
    """
    if _STATUS.exists():
        return _status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def private_bytes() -> int:
    """Returns the resident memory that no file backs (Linux alone)."""
    return _status("RssAnon")


def _status(name: str) -> int:
    return int(_STATUS.read_text().partition(f"{name}:")[2].split()[0]) << 10
