"""Measures clip-mini on the saved images: do an image's neighbors show the same?

    python -m demo.evaluate_retrieval                # the dev split
    python -m demo.evaluate_retrieval --split val

Prints the share of the five nearest training images of each image of the split that show the
same main kind, the same place, and both. The exit code is 1 if main kind or place is below 80%.
"""

import argparse
import sys
from pathlib import Path

from demo.coco_files import file_name
from demo.world.splits import captioned_scenes
from igrag.cli import run
from igrag.config import REPO_ROOT
from igrag.data.images import open_image
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase

NEIGHBORS = 5
LEAST_SHARE = 0.8
_BATCH_SIZE = 100


def main(arguments: argparse.Namespace) -> int:
    """Prints the three shares, and returns the exit code."""
    shares = evaluate_retrieval(REPO_ROOT / "demo", split=arguments.split)
    print(f"of the {NEIGHBORS} nearest training images of each {arguments.split} image")
    for name, share in shares.items():
        print(f"  same {name}: {share:.1%}")
    return int(min(shares["main kind"], shares["place"]) < LEAST_SHARE)


def evaluate_retrieval(
    root: Path, *, split: str = "dev", neighbors: int = NEIGHBORS
) -> dict[str, float]:
    """Measures a split's images and what captioning would find for them.

    Args:
        root: The demo folder with coco/, models/clip-mini and knowledge_base/.
        split: val or dev.
        neighbors: How many to look at.

    Returns:
        The shares, 0 to 1, of "main kind", "place" and "both".
    """
    encoder = ImageEncoder(str(root / "models" / "clip-mini"))
    knowledge_base = KnowledgeBase.open(root / "knowledge_base", encoder=encoder.identity)
    # The scenes are the ground truth: what each image was drawn from.
    shown = {item.image_id: item.scene for item in captioned_scenes("train")}
    same: dict[str, list[bool]] = {"main kind": [], "place": [], "both": []}
    queries = captioned_scenes(split)
    for start in range(0, len(queries), _BATCH_SIZE):
        batch = queries[start : start + _BATCH_SIZE]
        paths = [root / "coco" / split / file_name(item.image_id) for item in batch]
        vectors = encoder.encode([open_image(path) for path in paths])  # [B, D]
        for item, matches in zip(batch, knowledge_base.search(vectors, neighbors), strict=True):
            for match in matches:
                found = shown[int(match.image_id)]
                kind = found.main.kind.name == item.scene.main.kind.name
                place = found.place == item.scene.place
                same["main kind"].append(kind)
                same["place"].append(place)
                same["both"].append(kind and place)
    return {name: sum(matches) / len(matches) for name, matches in same.items()}


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.evaluate_retrieval")
    parser.add_argument("--split", choices=("val", "dev"), default="dev")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args()


if __name__ == "__main__":
    parsed = _parse_arguments()
    sys.exit(run(lambda: main(parsed), debug=parsed.debug))
