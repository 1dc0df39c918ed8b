"""The scenes of the demo's train, validation and test images, with their captions."""

from dataclasses import dataclass
from random import Random

from demo.language.annotators import write_captions
from demo.world.scenes import Scene, sample_scene

SPLIT_SIZES = {"train": 2000, "val": 300, "test": 300}
SEED = 2017
_LARGEST_ID = 600_000
# Names of the images in input/, which belong to no split.
_RESERVED_IDS = frozenset(range(1000))


@dataclass(frozen=True, slots=True)
class CaptionedScene:
    """A scene to be drawn, under COCO's kind of image id, and what its annotators wrote."""

    image_id: int
    scene: Scene
    captions: tuple[str, ...]


def captioned_scenes(split: str, *, seed: int = SEED) -> list[CaptionedScene]:
    """Samples the scenes of a split, in the order of their image ids; ids never repeat."""
    ids = Random(f"{seed}-ids").sample(
        range(len(_RESERVED_IDS), _LARGEST_ID), sum(SPLIT_SIZES.values())
    )
    for name, size in SPLIT_SIZES.items():
        chosen, ids = ids[:size], ids[size:]
        if name == split:
            break
    rng = Random(f"{seed}-{split}")
    scenes = []
    for image_id in sorted(chosen):
        scene = sample_scene(rng)
        scenes.append(CaptionedScene(image_id, scene, tuple(write_captions(rng, scene))))
    return scenes


def all_captions(*, seed: int = SEED) -> frozenset[str]:
    """Returns every caption of every split."""
    return frozenset(
        caption
        for split in SPLIT_SIZES
        for captioned in captioned_scenes(split, seed=seed)
        for caption in captioned.captions
    )
