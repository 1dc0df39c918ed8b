"""Captions dev images as a user would and counts the captions that name the main thing.

python -m demo.evaluate_captions
python -m demo.evaluate_captions --count 300 --set prompt_tuning.enabled=true

The exit code is 1 if fewer than four fifths of them do.
"""

import argparse
import json
import re
import subprocess
import sys

from demo.coco_files import file_name
from demo.evaluate_retrieval import LEAST_SHARE
from demo.world.kinds import KINDS
from demo.world.splits import SPLIT_SIZES, CaptionedScene, captioned_scenes
from igrag.cli import run
from igrag.config import REPO_ROOT
from igrag.errors import DataError

# A longer word comes first: a fire truck is no truck, and a sailing boat no boat.
_KIND_OF = {word.lower(): kind for kind in KINDS.values() for pair in kind.words for word in pair}
_WORDS = re.compile(rf"\b({'|'.join(sorted(_KIND_OF, key=len, reverse=True))})\b")


def named_kinds(caption: str) -> list[str]:
    """Lists the names of the kinds that a caption speaks of, in its order."""
    return [_KIND_OF[word].name for word in _WORDS.findall(caption.lower())]


def evenly_spread(count: int) -> list[CaptionedScene]:
    """Chooses `count` of the dev images."""
    scenes = captioned_scenes("dev")
    return [scenes[number * len(scenes) // count] for number in range(count)]


def main(arguments: argparse.Namespace) -> int:
    """Prints each image's caption with a mark and then the count."""
    chosen = evenly_spread(arguments.count)
    named = 0
    for captioned, caption in zip(chosen, _captions(chosen, arguments.set), strict=True):
        name = captioned.scene.main.kind.name
        hit = name in named_kinds(caption)
        named += hit
        print(f"{'+' if hit else '-'} {name:15} {file_name(captioned.image_id)}  {caption}")
    print(f"{named} of {len(chosen)} captions name the main thing.")
    return int(named < LEAST_SHARE * len(chosen))


def _captions(chosen: list[CaptionedScene], overrides: list[str]) -> list[str]:
    folder = REPO_ROOT / "demo" / "coco" / "dev"
    command = [sys.executable, str(REPO_ROOT / "main.py"), "--model", "flan-t5", "--json"]
    command += [word for override in overrides for word in ("--set", override)]
    command += ["--i", *(str(folder / file_name(captioned.image_id)) for captioned in chosen)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if finished.returncode:
        raise DataError(f"main.py: exit code {finished.returncode}, expected one caption per image")
    return [json.loads(line)["caption"] for line in finished.stdout.splitlines()]


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m demo.evaluate_captions")
    parser.add_argument(
        "--count", type=int, default=20, choices=range(1, SPLIT_SIZES["dev"] + 1),
        metavar="N", help="test images, evenly spread",
    )  # fmt: skip
    parser.add_argument("--set", action="append", default=[], help="passed on to main.py")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args()


if __name__ == "__main__":
    parsed = _parse_arguments()
    sys.exit(run(lambda: main(parsed), debug=parsed.debug))
