"""Requests for captions: images, and for each the soft prompts to caption it with, by name."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from igrag.data.coco import ImageId
from igrag.data.jsonl import BadLineError, id_of, iter_lines, parse_object, text_of
from igrag.errors import DataError, UsageError

_KEYS = ("image", "prompt_name", "id")
_FIX = 'name a file with lines like {"image": "a.jpg", "prompt_name": "..."}'


@dataclass(frozen=True, slots=True)
class CaptionRequest:
    """One image to caption.

    Attributes:
        image: The image's file.
        prompt_names: The soft prompts, a caption each; None is what the configuration enables.
        request_id: The caller's id of it, if any.
        origin: Where the names stand, for errors.
    """

    image: Path
    prompt_names: tuple[str | None, ...] = (None,)
    request_id: ImageId | None = None
    origin: str = field(default="--prompt", compare=False)

    @property
    def is_named(self) -> bool:
        """Whether a soft prompt is asked for by name."""
        return any(name is not None for name in self.prompt_names)


def read_requests(path: Path, names: Sequence[str] = ()) -> list[CaptionRequest]:
    """Reads a JSONL file of requests: {"image": path, "prompt_name": name?, "id": any?} a line.

    Args:
        path: The file. Relative paths in it count from the current folder.
        names: Soft prompts of the lines that name none; empty for what the configuration enables.

    Raises:
        DataError: The file cannot be read or is empty, or (file:line) a line is invalid.
    """
    requests = []
    for number, line in iter_lines(path, fix=_FIX):
        try:
            requests.append(_parse(line, names, f"{path}:{number}: prompt_name"))
        except BadLineError as problem:
            raise DataError(f"{path}:{number}: {problem}") from None
    if not requests:
        raise DataError(f"{path}: is empty; {_FIX}")
    return requests


def used_names(
    requests: Sequence[CaptionRequest], known: Collection[str], *, key: str
) -> list[str]:
    """Returns the names of soft prompts that requests use, each once.

    Args:
        requests: The requests.
        known: The names that there are.
        key: Where the configuration has them, for the error.

    Raises:
        UsageError: A name is unknown.
    """
    found: dict[str, str] = {}
    for request in requests:
        for name in request.prompt_names:
            if name is not None:
                found.setdefault(name, request.origin)
    for name, origin in found.items():
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            listed = ", ".join(known) or "none"
            raise UsageError(f"{origin} {name}: {hint}expected a name of {key} ({listed})")
    return list(found)


def _parse(line: bytes, names: Sequence[str], origin: str) -> CaptionRequest:
    content = parse_object(line)
    if unknown := sorted(content.keys() - set(_KEYS)):
        raise BadLineError(f'unknown key "{unknown[0]}", expected some of {", ".join(_KEYS)}')
    image, request_id = Path(text_of(content, "image")), id_of(content, "id")
    if content.get("prompt_name") is None:
        return CaptionRequest(image, tuple(names) or (None,), request_id)
    return CaptionRequest(image, (text_of(content, "prompt_name"),), request_id, origin)
