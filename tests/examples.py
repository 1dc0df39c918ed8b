"""Tiny training data in JSONL, in words the tiny tokenizer knows."""

import io
import json
from pathlib import Path
from random import Random

import numpy as np

from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.vector_files import save_vectors

ENCODER = EncoderIdentity("clip-8", 8, "f" * 64, {"size": 32})

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


def save_example_vectors(
    examples: Path, *, encoder: EncoderIdentity = ENCODER, seed: int = 0
) -> None:
    """Saves a random unit vector for each image, next to the examples."""
    lines = examples.read_text(encoding="utf-8").splitlines()
    image_ids = [json.loads(line)["image_id"] for line in lines]
    drawn = np.random.default_rng(seed).normal(size=(len(image_ids), encoder.dimension))
    rows = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16)
    save_vectors(examples, io.BytesIO(rows.tobytes()), image_ids, encoder)
