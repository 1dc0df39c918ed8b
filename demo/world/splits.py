"""The scenes of the demo's train, validation and test images, with their captions."""

from dataclasses import dataclass
from random import Random

from demo.language.annotators import write_captions
from demo.world.kinds import MAIN_KINDS
from demo.world.scenes import Scene, sample_scene

SPLIT_SIZES = {"train": 2000, "val": 300, "dev": 300, "test": 300}
SEED = 2017
# The test split was drawn when base model and settings were final: by the hash of the commit that
# froze them, which nobody could choose.
TEST_SEED = 0x03062827
_LARGEST_ID = 600_000
# Names of the images in input/, which belong to no split.
_RESERVED_IDS = frozenset(range(1000))


@dataclass(frozen=True, slots=True)
class CaptionedScene:
    """A scene to be drawn, under COCO's kind of image id, and what its annotators wrote."""

    image_id: int
    scene: Scene
    captions: tuple[str, ...]


def captioned_scenes(split: str) -> list[CaptionedScene]:
    """Samples the scenes of a split, in the order of their image ids; ids never repeat."""
    # What is `dev` today was called test, which decides its scenes.
    rng = Random({"dev": f"{SEED}-test", "test": f"{TEST_SEED}-test"}.get(split, f"{SEED}-{split}"))
    scenes = []
    for image_id in sorted(_image_ids()[split]):
        scene = sample_scene(rng)
        scenes.append(CaptionedScene(image_id, scene, tuple(write_captions(rng, scene))))
    return scenes


def _image_ids() -> dict[str, list[int]]:
    first = {name: size for name, size in SPLIT_SIZES.items() if name != "test"}
    ids = Random(f"{SEED}-ids").sample(range(len(_RESERVED_IDS), _LARGEST_ID), sum(first.values()))
    found = {}
    for name, size in first.items():
        found[name], ids = ids[:size], ids[size:]
    taken = {image_id for chosen in found.values() for image_id in chosen}
    free = [
        image_id for image_id in range(len(_RESERVED_IDS), _LARGEST_ID) if image_id not in taken
    ]
    return {**found, "test": Random(f"{TEST_SEED}-ids").sample(free, SPLIT_SIZES.get("test", 0))}


def covered_kinds() -> frozenset[str]:
    """Returns the kinds of main things that the knowledge base of demo/uncovered has: half.

    Every second one of each family, so that all families are in both halves.
    """
    families: dict[str, list[str]] = {}
    for kind in MAIN_KINDS:
        families.setdefault(kind.family, []).append(kind.name)
    return frozenset(name for names in families.values() for name in names[::2])


def all_captions() -> frozenset[str]:
    """Returns every caption of every split."""
    return frozenset(
        caption
        for split in SPLIT_SIZES
        for captioned in captioned_scenes(split)
        for caption in captioned.captions
    )
