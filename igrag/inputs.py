"""Reads input files, regular ones only, and names what one is instead of what it should be."""

import errno
import json
import os
import pickle
import re
import stat
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

_TYPES = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Of a model's or adapter's folder, what a library reads.
_READ_BY_LIBRARIES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".json", ".model", ".txt"})
HEAD = 512  # bytes that show what a file is
_POINTER = b"version https://git-lfs"
_PAGE = re.compile(rb"\s*<(!doctype html|html|head|\?xml)", re.IGNORECASE)
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_GLOBAL = re.compile(r"GLOBAL (\S+)")  # in torch.load's error: what a pickle asks for
_LONGEST_HEADER = 100_000_000  # bytes of a safetensors header; the library has the same limit


class InvalidJsonError(ValueError):
    """A text is not JSON; `line` is where, 0 if it is not one line's fault."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.line = line


def check_regular(path: Path) -> None:
    """Checks that a path is a file: reading a pipe or a device may wait forever.

    Raises:
        OSError: It is missing or something else.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    for is_type, name in _TYPES:
        if is_type(mode):
            raise OSError(errno.EINVAL, f"{name}, expected a file", str(path))


def open_input(path: Path) -> BinaryIO:
    """Opens a file to read its bytes; errors as `check_regular`'s."""
    check_regular(path)
    return path.open("rb")


def read_text(path: Path, *, most_bytes: int | None = None) -> str:
    """Reads a text file in UTF-8, without a byte order mark.

    Args:
        path: The file.
        most_bytes: The most that it may have; None for any size.

    Raises:
        OSError: As `check_regular`, or it is too large.
        UnicodeDecodeError: It is not UTF-8.
    """
    with open_input(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if most_bytes is not None and size > most_bytes:
            found = f"has {size:,} bytes, expected at most {most_bytes:,}"
            raise OSError(errno.EFBIG, found, str(path))
        return stream.read().decode("utf-8-sig")


def parse_json(text: str) -> Any:
    """Parses JSON.

    Raises:
        InvalidJsonError: It is not JSON, nested too deeply, or has a number of too many digits.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidJsonError(error.msg, error.lineno) from None
    except RecursionError:
        raise InvalidJsonError("nested too deeply") from None
    except ValueError:  # The interpreter's limit on the digits of a number.
        raise InvalidJsonError("a number is too long") from None


def reason_of(error: BaseException, *files: Path) -> str:
    """Returns why files could not be read, on one line of at most 200 characters.

    Args:
        error: What a library raised.
        files: The files, or folders of them, that it read, if they exist: the first that is
            something else, such as the pointer of Git LFS, is named instead of the library's text.
    """
    for file in files:
        if file.is_file() and (found := actual_content(file)):
            return found
        for each in library_files(file) if file.is_dir() else []:
            if found := actual_content(each):
                return f"{each.name} is {found}"
    if isinstance(error, pickle.UnpicklingError):  # torch.load's; its text names unsafe options
        asked = _GLOBAL.search(str(error))
        objects = f"{asked[1]}, which is not run" if asked else "or damaged"
        return f"a pickle of something else than plain tensors: {objects}"
    return " ".join(str(error).split())[:200] or type(error).__name__


def short_reason(error: BaseException) -> str:
    """Returns the system's words for an error, else the library's on one short line."""
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:100]


def library_files(folder: Path) -> list[Path]:
    """Lists what a library may read of a model's or adapter's folder, sorted by name."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in _READ_BY_LIBRARIES and path.exists() and not path.is_dir()
    )


def actual_content(path: Path) -> str | None:
    """Returns what a file is instead of its suffix's format; None if nothing is found."""
    try:
        with open_input(path) as stream:
            head = stream.read(HEAD)
            size = stream.seek(0, os.SEEK_END)
    except OSError as error:
        return error.strerror
    if found := common_stand_in(head):
        return found
    if path.suffix == ".safetensors":
        return _actual_safetensors(path, head, size)
    if path.suffix in (".pt", ".pth", ".bin"):
        return _actual_pickle(path, head, size)
    return None


def common_stand_in(head: bytes) -> str | None:
    """Returns what often stands in for a file, by its first bytes; None for anything else."""
    if head.startswith(_POINTER):
        return "a pointer of Git LFS, not the file itself; run git lfs pull, or download the file"
    if _PAGE.match(head):
        return "an HTML page, not the file itself; download the file again"
    return None


def _actual_safetensors(path: Path, head: bytes, size: int) -> str | None:
    if head.startswith((_ZIP, _PICKLE)):
        return "a pickle (of torch.save), expected safetensors; save it in that format"
    length = int.from_bytes(head[:8], "little")
    if length > _LONGEST_HEADER:
        return "not a safetensors file; download it again"
    expected = 8 + length
    if expected <= size:
        with open_input(path) as stream:
            stream.seek(8)
            expected += _length_of_tensors(stream.read(length))
    if expected > size:
        return f"cut off after {size:,} of at least {expected:,} bytes; download or copy it again"
    return None


def _length_of_tensors(header: bytes) -> int:
    """Returns the end of the last tensor in bytes; 0 for a header that is damaged."""
    try:
        entries = parse_json(header.decode("utf-8"))
        return max(int(entry["data_offsets"][1]) for entry in entries.values() if "dtype" in entry)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return 0


def _actual_pickle(path: Path, head: bytes, size: int) -> str | None:
    if not size:
        return "an empty file; download or copy it again"
    if head.startswith(_ZIP):
        try:
            is_whole = zipfile.is_zipfile(path)
        except zipfile.BadZipFile as error:  # Some damage is an error already here.
            return f"damaged ({error}); copy it again"
        return None if is_whole else f"cut off after {size:,} bytes; copy it again"
    if not head.startswith(_PICKLE):
        return "not a file of torch.save; name another file"
    return None
