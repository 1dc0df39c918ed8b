"""Reading and writing files: new ones appear whole or not at all, and replace nothing before."""

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
_BLOCK = 1 << 20  # Bytes hashed at a time.


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary file next to `path` that replaces it on success.

    The folder is made if it is missing. On any error, an interruption included, the temporary
    file is removed and an existing file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays: np.save and others would append their own to a name without it.
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
    """Yields a temporary folder next to `path` that replaces it on success.

    An existing folder is moved aside first and removed last.
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
