"""Output of captions: as text, or as one JSON object a line."""

import codecs
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from igrag.captioning.captioner import CaptionResult

CAPTION = "Caption"  # before the caption of what the configuration enables


def as_text(path: Path, result: CaptionResult, captions: Mapping[str, str] | None = None) -> str:
    """Formats the retrieved captions with their scores, then the caption.

    Args:
        path: The image.
        result: Its caption, with the prompt and the matches.
        captions: By method or soft prompt, shown instead of the one caption.
    """
    lines = [str(path)]
    for match in result.matches:
        first = match.captions[0] if match.captions else ""
        lines.append(f"  {match.score:.3f}  {first}")
    if not captions:
        lines.append(f"  {CAPTION}: {result.caption}")
    width = max(map(len, captions or ()), default=0)
    lines += [f"  {name + ':':<{width + 1}} {text}" for name, text in (captions or {}).items()]
    return "\n".join(lines)


def is_utf8(encoding: str) -> bool:
    """Returns whether an encoding, whichever of its names is used, is UTF-8."""
    return codecs.lookup(encoding).name == "utf-8"


def as_json(path: Path, result: CaptionResult, *, ascii_only: bool = False, **facts: Any) -> str:
    """Formats a result as JSON on one line.

    Args:
        path: The image; bytes of its name that are not UTF-8 are escaped.
        result: Its caption, with the prompt and the matches.
        ascii_only: Escape all other characters too, for a stream that is not UTF-8.
        facts: More keys: model, prompt_tuning, lora, prompt_name, id, seconds.
    """
    text = json.dumps(as_object(str(path), result, **facts), ensure_ascii=ascii_only)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def as_object(image: str, result: CaptionResult, **facts: Any) -> dict[str, Any]:
    """Returns a result with the keys of its JSON, in their order.

    Args:
        image: The image's name.
        result: Its caption, with the prompt and the matches.
        facts: More keys, see `as_json`.
    """
    retrieved = [
        {"image_id": match.image_id, "score": match.score, "captions": list(match.captions)}
        for match in result.matches
    ]
    return {
        "image": image,
        "caption": result.caption,
        "retrieved": retrieved,
        "prompt": result.prompt,
        **facts,
    }
