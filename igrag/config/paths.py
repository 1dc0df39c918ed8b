"""Paths in a configuration: those of a file count from its project, typed ones from the cwd."""

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo

from igrag.files import exists, may_be_hub_id

# The clone; the folder of the installed packages where the project was installed from a wheel.
REPO_ROOT = Path(__file__).resolve().parents[2]
_PROJECT_MARKS = ("pyproject.toml", ".git")


class LocatedText(str):
    """A text of a configuration with the folder that it counts from if it is a relative path."""

    root: Path


def locate(value: Any, root: Path) -> Any:
    """Attaches `root` to every text inside a value that was read from YAML."""
    return _locate(value, root, {})


@cache
def project_root(folder: Path) -> Path | None:
    """Returns the nearest folder with pyproject.toml or .git, from `folder` upwards."""
    folders = (folder, *folder.parents)
    return next((each for each in folders if any(exists(each / m) for m in _PROJECT_MARKS)), None)


def file_root(path: Path) -> Path:
    """Returns the folder that relative paths in a YAML file count from."""
    return project_root(path.resolve().parent) or Path.cwd()


def default_root() -> Path:
    """Returns the folder that relative paths in code count from: the clone, else the cwd."""
    return REPO_ROOT if exists(REPO_ROOT / "pyproject.toml") else Path.cwd()


def resolve_path(value: str | Path, root: Path | None = None) -> Path:
    """Makes a path absolute: from its own root, else from `root`, else from `default_root`.

    Raises:
        ValueError: It begins with the home of a user who does not exist.
    """
    base = getattr(value, "root", None) if isinstance(value, LocatedText) else root
    try:
        return (base or default_root()) / Path(value).expanduser()
    except RuntimeError:
        raise ValueError("a path under the home of a known user") from None


def portable(path: Path | str) -> str:
    """Names a path or a model from the repository's root if it lies inside, else as it is."""
    inside = REPO_ROOT in Path(path).parents
    return Path(path).relative_to(REPO_ROOT).as_posix() if inside else str(path)


def _locate(value: Any, root: Path, located: dict[int, Any]) -> Any:
    if isinstance(value, str):
        text = LocatedText(value)
        text.root = root
        return text
    if not isinstance(value, dict | list):
        return value
    if id(value) not in located:  # An alias may stand inside its own anchor.
        located[id(value)] = value
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in list(items):
            value[key] = _locate(item, root, located)
    return value


def _to_path(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str | Path) or value == "":
        return value
    return resolve_path(value, (info.context or {}).get("root"))


def _to_model_reference(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise ValueError("a model's folder or hub id")
    folder = resolve_path(value, (info.context or {}).get("root"))
    # A hub id has one slash at most: an error about what has more shows where it was looked for.
    return str(folder) if value.count("/") > 1 or exists(folder) else str(value)


def _to_checkpoint_path(value: object, info: ValidationInfo) -> object:
    path = _to_path(value, info)
    if not isinstance(value, str | Path) or not isinstance(path, Path):
        return path
    # Relative, where every other path is absolute: `igrag.hub.fetch` looks for it on the hub.
    return Path(str(value)) if may_be_hub_id(value) and not exists(path) else path


# A file or folder; it need not exist.
ConfigPath = Annotated[Path, BeforeValidator(_to_path)]
# A soft prompt or an adapter: as ConfigPath, but what does not exist and may be a hub id stays.
CheckpointPath = Annotated[Path, BeforeValidator(_to_checkpoint_path)]
# A model: an existing folder becomes an absolute path, anything else may be a hub id and stays.
ModelReference = Annotated[str, BeforeValidator(_to_model_reference)]


# What --build_data writes by default, and both trainings read if it is there.
BUILT_DATA = default_root() / "lora_training" / "data"


def default_examples(split: str, built: Path) -> Path:
    """Returns the file that training reads by default: built data, or else the demo's.

    Args:
        split: "train" or "val".
        built: Folder that --build_data writes to. If it holds anything of a build, its file is
            returned even if it is missing: an interrupted build must not mix with the demo data.
    """
    names = ("train.jsonl", "val.jsonl", "data.json")
    folder = (
        built
        if any((built / name).exists() for name in names)
        else default_root() / "demo" / "data"
    )
    return folder / f"{split}.jsonl"
