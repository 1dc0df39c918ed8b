"""What an evaluation is of, and that one of something else in its folder is not lost unasked."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.dataset import Split
from igrag.config import portable
from igrag.errors import DataError, UsageError
from igrag.files import read_json

EQUAL = " = "  # Between the names of one prompt that lies in several checkpoints.
METRICS_NAME = "metrics.json"
_LONGEST_VALUE = 60  # characters that an error quotes
_ADVICE = "give another --output_dir, or replace it with --force"


def identify(
    split: Split,
    *,
    model: str | None = None,
    decoding: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    files: Mapping[str, Sequence[Path]],
) -> dict[str, Any]:
    """Says what an evaluation is of, as plain JSON data: what decides its captions.

    Args:
        split: The images.
        model: Folder or hub id of the model, None where captions came from files.
        decoding: Its settings, as plain JSON data.
        settings: How it was loaded and its prompts were built, likewise.
        files: By method what is loaded beside the model, or the file of its captions.
    """
    return {
        "data": _name(split.path),
        "images": len(split.images),
        "model": model and portable(model),
        "decoding": decoding and dict(decoding),
        "settings": settings and dict(settings),
        "files": {name: [_name(path) for path in paths] for name, paths in files.items()},
    }


def refuse_to_replace(folder: Path, identity: Mapping[str, Any], *, names: Sequence[str]) -> None:
    """Makes sure that what is in the folder is an earlier run of the same evaluation, or nothing.

    Args:
        folder: Where the evaluation is to go.
        identity: See `identify`.
        names: Files that it will write beside metrics.json.

    Raises:
        UsageError: There is one of something else, or of methods that this one is without.
    """
    path = folder / METRICS_NAME
    if not path.is_file():
        if found := next((name for name in names if (folder / name).exists()), None):
            raise UsageError(
                f"{folder / found}: is there, and no {METRICS_NAME} beside it says what it is of; "
                f"{_ADVICE}"
            )
        return
    try:
        earlier = read_json(path)
    except DataError:
        earlier = None
    if not isinstance(earlier, dict) or not isinstance(earlier.get("methods"), dict):
        raise UsageError(f"{path}: is not that of an evaluation, expected none or one; {_ADVICE}")
    lost = _without_twins(earlier["methods"]) - _without_twins(identity["files"])
    problems = [*_differences(earlier, identity)]
    problems += [f"it has {', '.join(sorted(lost))} too"] if lost else []
    if problems:
        raise UsageError(
            f"{folder}: holds another evaluation, which would be lost ({'; '.join(problems)}); "
            f"{_ADVICE}"
        )


def _without_twins(names: Mapping[str, Any]) -> set[str]:
    """Takes the names of one prompt apart: the best checkpoint need not stay the best."""
    return {part for name in names for part in name.split(EQUAL)}


def _differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Says what of both differs; what only one of them names is not compared."""
    for key in now:
        before, after = earlier.get(key), now[key]
        if key in earlier and isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after)
        elif key in earlier and before != after:
            yield f"{key} was {_show(before)}, is {_show(after)}"


def _show(value: Any) -> str:
    if isinstance(value, list):  # Paths, which differ at their ends.
        return " and ".join(map(_shorten_path, value)) or "none"
    text = str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _shorten_path(path: str) -> str:
    return path if len(path) <= _LONGEST_VALUE else f"...{path[-_LONGEST_VALUE:]}"


def _name(path: Path) -> str:
    """Names a file alike from wherever it was typed."""
    return portable(path.resolve())
