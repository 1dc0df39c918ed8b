"""Measures clip-mini on the saved pictures: do a test picture's neighbours show the same?

    python -m demo.evaluate_retrieval                # the test split
    python -m demo.evaluate_retrieval --split val

Prints the share of the five nearest training pictures of each picture of the split that show the
same main kind, the same place, and both. The exit code is 1 if main kind or place is below 80%.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo.coco_files import file_name
from demo.world.splits import CaptionedScene, captioned_scenes
from igrag.image_encoder import ImageEncoder
from igrag.images import open_image

NEIGHBOURS = 5
LEAST_SHARE = 0.8
_BATCH_SIZE = 100
_ROOT = Path(__file__).resolve().parent


def main() -> int:
    """Prints the three shares, and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo.evaluate_retrieval")
    parser.add_argument("--split", choices=("val", "test"), default="test")
    split = parser.parse_args().split
    shares = evaluate_retrieval(_ROOT, split=split)
    print(f"of the {NEIGHBOURS} nearest training pictures of each {split} picture")
    for name, share in shares.items():
        print(f"  same {name}: {share:.1%}")
    return int(min(shares["main kind"], shares["place"]) < LEAST_SHARE)


def evaluate_retrieval(
    root: Path, *, split: str = "test", neighbours: int = NEIGHBOURS
) -> dict[str, float]:
    """Measures the neighbours of a split's pictures among the training pictures.

    Args:
        root: The demo folder with coco/ and models/clip-mini.
        split: val or test.
        neighbours: How many to look at.

    Returns:
        The shares, 0 to 1, of "main kind", "place" and "both".
    """
    encoder = ImageEncoder(str(root / "models" / "clip-mini"))
    # The scenes are the ground truth: what each picture was drawn from.
    train, queries = captioned_scenes("train"), captioned_scenes(split)
    scores = _encode(encoder, root, split, queries) @ _encode(encoder, root, "train", train).T
    nearest = np.argsort(-scores, axis=1)[:, :neighbours]  # [pictures, neighbours]
    same = {
        "main kind": _kinds(queries)[:, None] == _kinds(train)[nearest],
        "place": _places(queries)[:, None] == _places(train)[nearest],
    }
    same["both"] = same["main kind"] & same["place"]
    return {name: float(matches.mean()) for name, matches in same.items()}


def _kinds(items: list[CaptionedScene]) -> NDArray[np.str_]:
    return np.array([item.scene.main.kind.name for item in items])


def _places(items: list[CaptionedScene]) -> NDArray[np.str_]:
    return np.array([item.scene.place for item in items])


def _encode(
    encoder: ImageEncoder, root: Path, split: str, items: list[CaptionedScene]
) -> NDArray[np.float32]:
    """Returns the unit vectors [N, D] of a split's pictures."""
    paths = [root / "coco" / split / file_name(item.image_id) for item in items]
    batches = [
        encoder.encode([open_image(path) for path in paths[start : start + _BATCH_SIZE]])
        for start in range(0, len(paths), _BATCH_SIZE)
    ]
    return np.concatenate(batches)


if __name__ == "__main__":
    sys.exit(main())
