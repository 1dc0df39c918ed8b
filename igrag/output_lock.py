"""One process at a time writes an output: a lock that the system frees when its process ends."""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from igrag.errors import OutputError
from igrag.files import check_output_folder, exists, remove_leftovers

LOCK_NAME = ".lock"
_OWNER_SUFFIX = ".json"
# Data-loading workers of a killed process hold its lock until they notice that it is gone.
_WORKERS_SECONDS = 15.0
_held: dict[Path, int] = {}  # Locks of this process -> when each was taken.


@contextmanager
def lock_folder(folder: Path, *, option: str) -> Iterator[None]:
    """Holds an output folder, which is made if it is missing; an empty one is removed again.

    Args:
        folder: The folder; this process may hold it already.
        option: The option that it was given with, for the error.

    Raises:
        UsageError: It is a file, or cannot be written to.
        OutputError: Another process holds it.
    """
    check_output_folder(folder, option=option)
    if (folder / LOCK_NAME).absolute() in _held:
        yield
        return
    with made_folder(folder), lock_file(folder / LOCK_NAME, output=folder, option=option):
        yield


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Makes a folder, with those above it; the ones that it has made go if they stay empty."""
    missing = [path for path in (folder, *folder.parents) if not exists(path)]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # One that holds something stays.
            for path in missing:
                path.rmdir()


@contextmanager
def lock_beside(path: Path, *, option: str) -> Iterator[None]:
    """Holds an output that is replaced as a whole: its lock lies next to it; see `lock_folder`."""
    folder = path.absolute().parent
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / f".{path.name}{LOCK_NAME}"
    with lock_file(lock, output=path, option=option):
        remove_leftovers(folder, is_own=path.name.__eq__, before=_held[lock])
        yield


@contextmanager
def lock_file(lock: Path, *, output: Path, option: str) -> Iterator[None]:
    """Holds a lock file, with a file next to it that names this process; both go at the end.

    Raises:
        OutputError: Another process holds it.
    """
    lock = lock.absolute()
    taken = _take(lock, output, option)
    owner = _owner_file(lock)
    try:
        owner.write_text(json.dumps(_describe_process()), encoding="utf-8")
        _held[lock] = owner.stat().st_mtime_ns
        yield
    finally:
        _held.pop(lock, None)
        owner.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)  # While it is held: nobody else's is removed.
        taken.release()


def held_since(folder: Path) -> int:
    """Returns when this process took a folder's lock, in the clock of its file system, in ns.

    The current time, if it holds none.
    """
    return _held.get(folder.absolute() / LOCK_NAME, time.time_ns())


def _take(lock: Path, output: Path, option: str) -> FileLock:
    deadline = time.monotonic() + _WORKERS_SECONDS
    while True:
        taken = FileLock(lock)
        try:
            taken.acquire(timeout=0)
        except Timeout:
            owner = _read_owner(lock)
            if owner and not _is_alive(owner) and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            raise OutputError(
                f"{output}: {_name(owner)} is writing there; wait until it ends, or give another "
                f"{option}"
            ) from None
        if lock.exists():
            return taken
        taken.release()  # The one before removed the file between its opening and its locking.


def _owner_file(lock: Path) -> Path:
    return lock.with_name(lock.name + _OWNER_SUFFIX)


def _describe_process() -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": Path(sys.argv[0]).name,
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _read_owner(lock: Path) -> dict[str, object]:
    try:
        owner = json.loads(_owner_file(lock).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # It is about to write it.
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_alive(owner: dict[str, object]) -> bool:
    pid = owner.get("pid")
    if owner.get("host") != socket.gethostname() or not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _name(owner: dict[str, object]) -> str:
    if not owner:
        return "another process"
    host = owner.get("host")
    where = "" if host == socket.gethostname() else f" on {host}"
    details = f"{owner.get('command')}, started {owner.get('started')}"
    return f"process {owner.get('pid')}{where} ({details})"
