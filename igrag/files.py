"""Reading and writing files: new ones appear whole or not at all, and replace nothing before."""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from igrag.errors import DataError, OutputError, UsageError
from igrag.inputs import (
    InvalidJsonError,
    actual_content,
    check_regular,
    open_input,
    parse_json,
    read_text,
)

# The files of a LoRA adapter: PEFT's own two, and this project's identity of the model below it.
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE_NAME = "base_model.json"
# "owner/name", perhaps with "@revision". A name with the extension of a file is none.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[A-Za-z0-9][\w.-]*)?", re.ASCII)
_FILE = re.compile(r".*\.(pt|pth|bin|safetensors|jsonl?|ya?ml)", re.IGNORECASE)
_BLOCK = 1 << 20  # Bytes hashed at a time.
# As `atomic_path` and `atomic_directory` name them; of a file its suffix follows: ".a.x1.tmp.json"
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.[^.]+\.(?P<state>tmp|old)")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What stands in the errors of libraries that raise no OSError: torch's zip files, and safetensors.
_FULL_TEXTS = ("PytorchStreamWriter failed", "unexpected pos", "os error 28", "os error 122",
               "os error 27")  # fmt: skip


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary file next to `path` that replaces it on success.

    The folder is made if it is missing. On any error, an interruption included, the temporary
    file is removed and an existing file stays.

    Raises:
        OutputError: The disk is full.
    """
    with naming_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays: np.save and others would append their own to a name without it.
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=f".tmp{path.suffix}"
        )
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            # mkstemp's files are readable by their owner alone.
            temporary.chmod(0o666 & ~_umask())
            _flush_to_disk(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yields a temporary folder next to `path` that replaces it on success.

    An existing folder is moved aside first and removed last.

    Raises:
        OutputError: The disk is full.
    """
    with naming_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush_to_disk(file)
            _swap(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


class _FullDiskError(OutputError):
    """A full disk, which the outermost output names."""

    def __init__(self, message: str, *, reason: str, needed: int | None) -> None:
        super().__init__(message)
        self.reason, self.needed = reason, needed


@contextmanager
def naming_full_disk(path: Path, *, needed: int | None = None) -> Iterator[None]:
    """Names an output in the error of a full disk, which names a temporary file or none.

    Args:
        path: The output.
        needed: How many bytes it needs, where that is known.

    Raises:
        OutputError: The disk is full, or a quota or a limit of the file's size is reached.
    """
    try:
        yield
    except Exception as error:
        reason = _full_reason(error)
        if reason is None:
            raise
        needed = needed or getattr(error, "needed", None)
        size = "" if needed is None else f" (needs {needed:,} bytes{_free(path)})"
        raise _FullDiskError(
            f"{path}: cannot be written: {reason}{size}; free some space, or give another output",
            reason=reason,
            needed=needed,
        ) from error


def reserve_space(file: BinaryIO, size: int) -> None:
    """Reserves space behind what is written to a file: a full disk is then found before the rest.

    Where the file system cannot, writing finds it.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        file.flush()
        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
    except OSError as error:
        if error.errno in _FULL:
            raise


def remove_leftovers(folder: Path, *, is_own: Callable[[str], bool], before: int) -> None:
    """Removes what killed processes have left of files and folders that they were writing.

    For the process that holds the lock on these outputs. What is younger than the lock, or another
    user's, is left alone: it is not of an earlier holder. What was moved aside comes back if what
    was to replace it never came.

    Args:
        folder: Where the outputs lie.
        is_own: Returns whether an output of this name is locked.
        before: When the lock was taken, in ns; see `output_lock.held_since`.
    """
    for path in list(folder.glob(".*")) if folder.is_dir() else []:
        match = _LEFTOVER.fullmatch(path.name) or _LEFTOVER.fullmatch(path.stem)
        if match is None or not is_own(match["name"]):
            continue
        status = path.lstat()
        is_ours = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
        if status.st_mtime_ns > before or not is_ours:
            continue
        output, aside = folder / match["name"], path / match["name"]
        if match["state"] == "old" and aside.exists() and not output.exists():
            aside.replace(output)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def may_be_hub_id(path: str | Path) -> bool:
    """Returns whether this could be a hub id, "owner/name" or "owner/name@revision"."""
    text = path.as_posix() if isinstance(path, Path) else path
    return bool(_HUB_ID.fullmatch(text)) and not _FILE.fullmatch(text)


def exists(path: Path) -> bool:
    """Returns whether a path exists; one that the system refuses to look up does not.

    A name too long for a file, or one in a closed folder, ends `Path.exists` with an error.
    """
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    """Returns whether a path is a folder, as `exists`."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: Path) -> bool:
    """Returns whether a path is a file, as `exists`."""
    return os.path.isfile(path)  # noqa: PTH113


def check_output_folder(path: Path, *, option: str) -> None:
    """Checks that files can be written into a folder, which need not exist yet.

    Args:
        path: The folder.
        option: The option that it was given with, for the error.

    Raises:
        UsageError: It is a file, or cannot be written to.
    """
    folders = (path, *path.absolute().parents)
    try:
        existing = next(folder for folder in folders if folder.exists() or folder.is_symlink())
        if not existing.is_dir():
            raise UsageError(f"{existing}: is no folder, expected one; give another {option}")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written to ({error.strerror}); give another {option}"
        ) from None


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as indented UTF-8 JSON, atomically."""
    with atomic_path(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        # Half a surrogate pair, as in a file name that is not UTF-8, becomes JSON's escape of it.
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def read_json(path: Path, *, expected: str = "JSON") -> Any:
    """Reads a JSON file, whoever wrote it.

    Args:
        path: The file.
        expected: What it should be, for the error.

    Raises:
        DataError: It is missing, no regular file, or not JSON in UTF-8.
    """
    try:
        return parse_json(read_text(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected {expected}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; expected {expected}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 (byte {error.start}), expected {expected}") from None
    except InvalidJsonError as error:
        where = f"{path}:{error.line}" if error.line else str(path)
        reason = actual_content(path) or f"{error}; make it again"
        raise DataError(f"{where}: not valid JSON: {reason}") from None


def json_type_name(value: object) -> str:
    """Returns the name of a value's type in JSON: "an object", "a list", "null", ..."""
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        type(None): "null",
        bool: "a boolean",
    }
    return names.get(type(value), "a number")


def is_whole(text: str) -> bool:
    """Returns whether a text has only whole characters: JSON can write half a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def sha256_file(path: Path) -> str:
    """Returns the SHA-256 of the file's bytes in hexadecimal."""
    digest = hashlib.sha256()
    with open_input(path) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def check_zip_sums(path: Path) -> None:
    """Compares the checksums in a file of torch.save, which torch.load does not check.

    A file in torch's format before 1.6 has none.

    Raises:
        OSError: It is missing, or no regular file.
        ValueError: One of them is wrong, or the file unpacks to more than its size.
    """
    check_regular(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > path.stat().st_size:  # torch.save compresses nothing.
                raise ValueError(f"unpacks to {unpacked:,} bytes")
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")


def _full_reason(error: Exception) -> str | None:
    """Returns why nothing more can be written; None for any other error."""
    if isinstance(error, _FullDiskError):
        return error.reason
    if isinstance(error, OSError) and error.errno in _FULL:
        return os.strerror(error.errno)
    is_full = any(text in str(error) for text in _FULL_TEXTS)
    return os.strerror(errno.ENOSPC) if is_full else None


def _free(path: Path) -> str:
    existing = next(folder for folder in path.absolute().parents if exists(folder))
    with suppress(OSError):
        return f", {shutil.disk_usage(existing).free:,} are free"
    return ""


def _swap(new: Path, path: Path) -> None:
    if not path.exists():
        new.replace(path)
        return
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is a file, expected a folder", str(path))
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".old"))
    old = aside / path.name
    try:
        path.replace(old)
        new.replace(path)
    finally:
        if not path.exists() and old.exists():
            old.replace(path)
        shutil.rmtree(aside, ignore_errors=True)


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
