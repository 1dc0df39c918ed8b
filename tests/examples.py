"""Tiny training data in JSONL, in words the tiny tokenizer knows."""

import json
from pathlib import Path
from random import Random

_SUBJECTS = ("dog", "cat", "horse", "bird", "man", "woman", "car", "bus")
_LOCATIONS = ("street", "field", "beach", "kitchen", "house")


def save_examples(path: Path, *, count: int, seed: int) -> Path:
    """Saves examples of different lengths whose captions follow from their prompts."""
    rng = Random(seed)
    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            subject, location = rng.choice(_SUBJECTS), rng.choice(_LOCATIONS)
            similar = [f"a {subject} in the {location}"] * rng.randint(1, 4)
            caption = f"the {subject} sits near a {location}" + " and sits" * rng.randint(0, 2)
            line = {
                "prompt": "generate a caption : " + " . ".join(similar),
                "caption": caption,
                "references": [caption, f"the {subject} sits in the {location}"],
                "image_id": number + 1,
            }
            stream.write(json.dumps(line) + "\n")
    return path
