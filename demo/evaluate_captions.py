"""Captions test pictures as a user would and counts the captions that name the main thing.

python -m demo.evaluate_captions

The exit code is 1 if fewer than four fifths of them do.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from demo.world.kinds import Kind
from demo.world.splits import SPLIT_SIZES, CaptionedScene, captioned_scenes

LEAST_SHARE = 0.8
_ROOT = Path(__file__).resolve().parent.parent


def names_kind(caption: str, kind: Kind) -> bool:
    """Tells whether the caption holds one of the words for `kind`, singular or plural."""
    words = "|".join(re.escape(word) for pair in kind.words for word in pair)
    return re.search(rf"\b({words})\b", caption, re.IGNORECASE) is not None


def main() -> int:
    """Prints each picture's caption with a mark and then the count."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m demo.evaluate_captions")
    parser.add_argument(
        "--count", type=int, default=20, choices=range(1, SPLIT_SIZES["test"] + 1),
        metavar="N", help="test pictures, evenly spread",
    )  # fmt: skip
    parser.add_argument("--set", action="append", default=[], help="passed on to main.py")
    arguments = parser.parse_args()
    scenes = captioned_scenes("test")
    chosen = scenes[:: len(scenes) // arguments.count][: arguments.count]
    captions = _captions(chosen, arguments.set)
    named = 0
    for captioned, caption in zip(chosen, captions, strict=True):
        hit = names_kind(caption, captioned.scene.main.kind)
        named += hit
        mark = "+" if hit else "-"
        print(f"{mark} {captioned.scene.main.kind.name:15} {_path(captioned).name}  {caption}")
    print(f"{named} of {len(chosen)} captions name the main thing.")
    return int(named < LEAST_SHARE * len(chosen))


def _path(captioned: CaptionedScene) -> Path:
    return _ROOT / "demo" / "coco" / "test" / f"{captioned.image_id:012d}.jpg"


def _captions(chosen: list[CaptionedScene], overrides: list[str]) -> list[str]:
    command = [sys.executable, str(_ROOT / "main.py"), "--model", "flan-t5", "--json"]
    command += [word for override in overrides for word in ("--set", override)]
    command += ["--i", *(str(_path(captioned)) for captioned in chosen)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line)["caption"] for line in finished.stdout.splitlines()]


if __name__ == "__main__":
    sys.exit(main())
