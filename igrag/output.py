"""How captions are shown: for a person, or as one JSON object a line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from igrag.captioner import CaptionResult


def as_text(path: Path, result: CaptionResult, captions: Mapping[str, str] | None = None) -> str:
    """Lays out the retrieved captions with their scores, short, then the caption.

    Args:
        path: The picture.
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


def as_json(path: Path, result: CaptionResult, **facts: Any) -> str:
    """Puts a result on one line; `facts` (model, prompt_tuning, lora, seconds) are added."""
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
    return json.dumps(content, ensure_ascii=False)
