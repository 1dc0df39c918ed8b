"""What every data-loading worker process does: it ends with its parent, and by it alone."""

import os
import signal
import time
from threading import Thread

_WATCH_SECONDS = 1.0  # How long a worker may outlive its parent.


def prepare_worker(worker: int) -> None:
    """Leaves signals to the parent, which ends its workers itself, and ends when it is gone.

    A terminal, or a container's end, signals every process of the group. A worker that Ctrl-C
    ends waits to be rid of the batch that nobody fetches, and its parent waits for it; one that
    SIGTERM ends is reported as an accident.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # The library's own watch ends in that same wait if the parent was killed.
    # The parent may be a server that starts the workers, and ends with the build.
    Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)
