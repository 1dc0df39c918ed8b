"""Guards the results of another evaluation in the output folder against being overwritten."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.dataset import EvaluationDataset
from igrag.config import portable
from igrag.errors import DataError, UsageError
from igrag.files import read_json

EQUAL = " = "  # Between the names of one prompt that lies in several checkpoints.
METRICS_NAME = "metrics.json"
_QUOTE_LENGTH = 60  # characters of a value in an error
_ADVICE = "give another --output_dir, or replace it with --overwrite_output_dir"
# Keys of earlier versions -> today's.
_FORMER_KEYS = {"pictures": "images"}


def evaluation_identity(
    dataset: EvaluationDataset,
    *,
    model: str | None = None,
    decoding: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    files: Mapping[str, Sequence[Path]],
) -> dict[str, Any]:
    """Returns everything that the captions of an evaluation depend on, as plain JSON data.

    Args:
        dataset: The images.
        model: Folder or hub id of the model, None if captions came from files.
        decoding: The decoding settings, as plain JSON data.
        settings: How the model was loaded and the prompts were built, likewise.
        files: By method, what is loaded in addition to the model, or the file of its captions.
    """
    return {
        "data": _portable(dataset.path),
        "images": len(dataset.images),
        "model": model and portable(model),
        "decoding": decoding and dict(decoding),
        "settings": settings and dict(settings),
        "files": {name: [_portable(path) for path in paths] for name, paths in files.items()},
    }


def check_not_overwritten(
    folder: Path, identity: Mapping[str, Any], *, names: Sequence[str]
) -> None:
    """Checks that the folder holds results of the same evaluation, or none.

    Args:
        folder: The output folder.
        identity: See `evaluation_identity`.
        names: Files that the evaluation will write besides metrics.json.

    Raises:
        UsageError: It holds another evaluation, or one of further methods.
    """
    path = folder / METRICS_NAME
    if not path.is_file():
        if found := next((name for name in names if (folder / name).exists()), None):
            raise UsageError(
                f"{folder / found}: exists without a {METRICS_NAME} that would show which "
                f"evaluation it belongs to; {_ADVICE}"
            )
        return
    try:
        existing = read_json(path)
    except DataError:
        existing = None
    if not isinstance(existing, dict) or not isinstance(existing.get("methods"), dict):
        raise UsageError(f"{path}: is not that of an evaluation, expected none or one; {_ADVICE}")
    existing = {_FORMER_KEYS.get(key, key): value for key, value in existing.items()}
    lost = _single_names(existing["methods"]) - _single_names(identity["files"])
    problems = [*_differences(existing, identity)]
    problems += [f"it has {', '.join(sorted(lost))} too"] if lost else []
    if problems:
        raise UsageError(
            f"{folder}: holds another evaluation, which would be lost ({'; '.join(problems)}); "
            f"{_ADVICE}"
        )


def _single_names(names: Mapping[str, Any]) -> set[str]:
    """Splits the names of one prompt: another checkpoint may have become the best since."""
    return {part for name in names for part in name.split(EQUAL)}


def _differences(existing: Mapping[str, Any], identity: Mapping[str, Any]) -> Iterator[str]:
    """Yields the differences in what both have; an earlier version recorded less."""
    for key in (key for key in identity if key in existing):
        before, after = existing[key], identity[key]
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after)
        elif before != after:
            yield f"{key} was {_quote(before)}, is {_quote(after)}"


def _quote(value: Any) -> str:
    if isinstance(value, list):  # Paths, which differ at their ends.
        return " and ".join(f"...{path[-_QUOTE_LENGTH:]}" if len(path) > _QUOTE_LENGTH else path
                            for path in value) or "none"  # fmt: skip
    text = str(value)
    return text if len(text) <= _QUOTE_LENGTH else f"{text[:_QUOTE_LENGTH]}..."


def _portable(path: Path) -> str:
    """Returns the same name for a file from whichever folder it was given."""
    return portable(path.resolve())
