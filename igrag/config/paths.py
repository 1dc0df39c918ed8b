"""Paths in a configuration: in a YAML from the repo root, in --set from where it is typed."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from igrag.files import exists

REPO_ROOT = Path(__file__).resolve().parents[2]


class FromCommandLine(str):
    """Text typed on the command line, where a relative path counts from the cwd."""


def from_command_line(value: Any) -> Any:
    """Marks every text inside a value that was typed on the command line."""
    if isinstance(value, str):
        return FromCommandLine(value)
    if isinstance(value, list):
        return [from_command_line(item) for item in value]
    if isinstance(value, dict):
        return {key: from_command_line(item) for key, item in value.items()}
    return value


def resolve_path(value: str) -> Path:
    """Makes a path absolute: from the cwd if it was typed, from the repo root otherwise.

    Raises:
        ValueError: It begins with the home of a user who does not exist.
    """
    base = Path.cwd() if isinstance(value, FromCommandLine) else REPO_ROOT
    try:
        return base / Path(value).expanduser()
    except RuntimeError:
        raise ValueError("a path under the home of a known user") from None


def portable(path: Path | str) -> str:
    """Names a path or a model from the repo root if it lies inside, else as it is."""
    inside = REPO_ROOT in Path(path).parents
    return Path(path).relative_to(REPO_ROOT).as_posix() if inside else str(path)


def _to_path(value: object) -> object:
    return resolve_path(value) if isinstance(value, str) and value else value


def _to_model_reference(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise ValueError("a model's folder or hub id")
    folder = resolve_path(value)
    return str(folder) if exists(folder) else str(value)


# A file or folder; it need not exist.
ConfigPath = Annotated[Path, BeforeValidator(_to_path)]
# A model: an existing folder becomes an absolute path, anything else may be a hub id and stays.
ModelReference = Annotated[str, BeforeValidator(_to_model_reference)]
