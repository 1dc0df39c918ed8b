"""How captions are shown: for a person, or as one JSON object a line."""

import codecs
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from igrag.captioning.captioner import CaptionResult


def as_text(path: Path, result: CaptionResult, captions: Mapping[str, str] | None = None) -> str:
    """Lays out the retrieved captions with their scores, short, then the caption.

    Args:
        path: The image.
        result: What became of it.
        captions: By method, to be shown in the place of the one caption.
    """
    lines = [str(path)]
    for match in result.matches:
        first = match.captions[0] if match.captions else ""
        lines.append(f"  {match.score:.3f}  {first}")
    if not captions:
        lines.append(f"  Caption: {result.caption}")
    width = max(map(len, captions or ()), default=0)
    lines += [f"  {name + ':':<{width + 1}} {text}" for name, text in (captions or {}).items()]
    return "\n".join(lines)


def is_utf8(encoding: str) -> bool:
    """Tells whether an encoding, whichever of its names is used, is UTF-8."""
    return codecs.lookup(encoding).name == "utf-8"


def as_json(path: Path, result: CaptionResult, *, ascii_only: bool = False, **facts: Any) -> str:
    """Puts a result on one line, as JSON in any case.

    Args:
        path: The image; bytes of its name that are no text are half characters, escaped here.
        result: What became of it.
        ascii_only: Escape all other characters too, for a stream that is not UTF-8.
        facts: What to add: model, prompt_tuning, lora, seconds.
    """
    retrieved = [
        {"image_id": match.image_id, "score": match.score, "captions": list(match.captions)}
        for match in result.matches
    ]
    content = {
        "image": str(path),
        "caption": result.caption,
        "retrieved": retrieved,
        "prompt": result.prompt,
        **facts,
    }
    text = json.dumps(content, ensure_ascii=ascii_only)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
