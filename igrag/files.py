"""Writing files so that nothing the user had is ever lost: new ones appear whole or not at all."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from igrag.errors import DataError, UsageError

_BLOCK = 1 << 20  # Bytes hashed at a time.


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary file beside `path` that takes its place on success.

    The folder is made if need be. On any error, an interruption included, the temporary file is
    removed and what stood at `path` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays: np.save and others would append their own to a name without it.
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=f".tmp{path.suffix}"
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp's files are readable by their owner alone.
        _flush_to_disk(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path` that takes its place on success.

    A folder that stood at `path` is moved aside first and removed last.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _swap(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def exists(path: Path) -> bool:
    """Tells whether something is there; what the system will not even look at is not.

    A name too long for a file, or one in a closed folder, ends `Path.exists` with an error.
    """
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    """Tells whether a folder is there, in the same way."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: Path) -> bool:
    """Tells whether a file is there, in the same way."""
    return os.path.isfile(path)  # noqa: PTH113


def check_output_folder(path: Path, *, option: str) -> None:
    """Makes sure that files can be written into a folder, which need not be there yet.

    Args:
        path: The folder.
        option: What it was given as, to be named in the advice.

    Raises:
        UsageError: A file is in its place, or it cannot be written to.
    """
    ways = (path, *path.absolute().parents)
    try:
        there = next(folder for folder in ways if folder.exists() or folder.is_symlink())
        if not there.is_dir():
            raise UsageError(f"{there}: is no folder, expected one; give another {option}")
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written to ({error.strerror}); give another {option}"
        ) from None


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as indented UTF-8 JSON, atomically."""
    with atomic_path(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        # Half a character, as of a file name that is not UTF-8, becomes JSON's escape of it.
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def read_json(path: Path) -> Any:
    """Reads a file that `write_json` wrote.

    Raises:
        DataError: It is missing, or not JSON in UTF-8.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; expected JSON") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 (byte {error.start}), expected JSON") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: not valid JSON: {error.msg}; make it again"
        ) from None


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
    """Says whether a text has only whole characters: JSON can write half a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def sha256_file(path: Path) -> str:
    """Returns the SHA-256 of the file's bytes in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def check_zip_sums(path: Path) -> None:
    """Compares the checksums inside a file of torch.save's, which torch.load does not look at.

    A file in torch's format before 1.6 has none.

    Raises:
        ValueError: One of them is wrong.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")


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
