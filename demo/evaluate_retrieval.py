"""Measures clip-mini on the saved pictures: do a test picture's neighbours show the same?

    python -m demo.evaluate_retrieval

Prints the share of the five nearest training pictures of each test picture that show the same
main kind, the same place, and both.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igrag.image_encoder import ImageEncoder
from igrag.images import open_image

NEIGHBOURS = 5
_BATCH_SIZE = 100
_ROOT = Path(__file__).resolve().parent


def main() -> None:
    """Prints the three shares."""
    shares = evaluate_retrieval(_ROOT)
    print(f"of the {NEIGHBOURS} nearest training pictures of each test picture")
    for name, share in shares.items():
        print(f"  same {name}: {share:.1%}")


def evaluate_retrieval(root: Path, *, neighbours: int = NEIGHBOURS) -> dict[str, float]:
    """Measures the neighbours of the test pictures among the training pictures.

    Args:
        root: The demo folder with coco/ and models/clip-mini.
        neighbours: How many to look at.

    Returns:
        The shares, 0 to 1, of "main kind", "place" and "both".
    """
    encoder = ImageEncoder(str(root / "models" / "clip-mini"))
    train, test = (_read_scenes(root, split) for split in ("train", "test"))
    scores = _encode(encoder, root, "test", test) @ _encode(encoder, root, "train", train).T
    nearest = np.argsort(-scores, axis=1)[:, :neighbours]  # [test pictures, neighbours]
    same = {
        name: np.array([scene[key] for scene in test])[:, None]
        == np.array([scene[key] for scene in train])[nearest]
        for name, key in (("main kind", "kind"), ("place", "place"))
    }
    same["both"] = same["main kind"] & same["place"]
    return {name: float(matches.mean()) for name, matches in same.items()}


def _read_scenes(root: Path, split: str) -> list[dict[str, Any]]:
    text = (root / "coco" / f"scenes_{split}.json").read_text(encoding="utf-8")
    scenes: list[dict[str, Any]] = json.loads(text)
    return scenes


def _encode(
    encoder: ImageEncoder, root: Path, split: str, scenes: list[dict[str, Any]]
) -> NDArray[np.float32]:
    """Returns the unit vectors [N, D] of a split's pictures."""
    paths = [root / "coco" / split / scene["file_name"] for scene in scenes]
    batches = [
        encoder.encode([open_image(path) for path in paths[start : start + _BATCH_SIZE]])
        for start in range(0, len(paths), _BATCH_SIZE)
    ]
    return np.concatenate(batches)


if __name__ == "__main__":
    main()
