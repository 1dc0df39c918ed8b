"""The demo's places, kinds, scenes and splits."""

from dataclasses import replace
from random import Random

import pytest

from demo.coco_files import input_scenes
from demo.world.kinds import KINDS, MAIN_KINDS, Kind
from demo.world.places import PLACES, Place
from demo.world.scenes import Scene, sample_scene, sample_similar
from demo.world.splits import SPLIT_SIZES, captioned_scenes
from igrag.config import REPO_ROOT


def _scenes(count: int = 400) -> list[Scene]:
    rng = Random(1)
    return [sample_scene(rng) for _ in range(count)]


def test_world_has_12_places_and_40_main_kinds() -> None:
    """There are at least 12 places and 40 kinds that can be the main thing of an image."""
    assert len(PLACES) >= 12
    assert len(MAIN_KINDS) >= 40


@pytest.mark.parametrize("kind", MAIN_KINDS, ids=lambda kind: kind.name)
def test_homes_of_a_kind_are_known_places(kind: Kind) -> None:
    """Every home of a kind is a known place with at least one pose."""
    assert set(kind.homes) <= set(PLACES)
    assert all(kind.homes.values())


@pytest.mark.parametrize("place", PLACES.values(), ids=lambda place: place.name)
def test_place_has_main_kinds_and_known_props(place: Place) -> None:
    """Every place is some kind's home, and its props are known kinds."""
    assert any(place.name in kind.homes for kind in MAIN_KINDS)
    assert set(place.props) <= set(KINDS)


def test_sampled_scene_follows_the_world() -> None:
    """A sampled scene has its main kind at home, in a pose and a color of that kind."""
    for scene in _scenes():
        kind = scene.main.kind
        assert scene.pose in kind.homes[scene.place]
        assert scene.main.color is None if not kind.colors else scene.main.color in kind.colors
        assert 1 <= scene.main.count <= (3 if kind.herd else 1)
        assert scene.time == "day" or not PLACES[scene.place].indoors


def test_input_images_are_in_no_split() -> None:
    """input/ holds the scenes that the build draws for it, and no image of a split shows one."""
    inputs = dict(input_scenes(seed=7))
    assert {path.stem for path in (REPO_ROOT / "input").glob("*.jpg")} == set(inputs)

    def said(scene: Scene) -> Scene:
        return scene if scene.companion else replace(scene, relation="next to")

    known = [said(item.scene) for split in SPLIT_SIZES for item in captioned_scenes(split)]
    assert [name for name, scene in inputs.items() if said(scene) in known] == []


def test_companion_is_of_another_kind() -> None:
    """The companion is a prop of the place, and never of the main thing's kind."""
    for scene in _scenes():
        if scene.companion:
            assert scene.companion.kind.name in PLACES[scene.place].props
            assert scene.companion.kind.name != scene.main.kind.name


def test_scenes_are_seeded() -> None:
    """The same seed gives the same scenes."""
    assert _scenes(50) == _scenes(50)


def test_similar_scenes_mostly_share_kind_and_place() -> None:
    """Most scenes drawn as similar keep the main kind and the place."""
    rng = Random(2)
    pairs = [(scene, sample_similar(rng, scene)) for scene in _scenes()]
    same = [(a.main.kind, a.place) == (b.main.kind, b.place) for a, b in pairs]
    assert sum(same) / len(same) > 0.75


def test_no_image_id_is_in_two_splits() -> None:
    """The splits have their sizes, five captions an image, and no image id in common."""
    ids: set[int] = set()
    for split, size in SPLIT_SIZES.items():
        items = captioned_scenes(split)
        assert len(items) == size
        assert all(len(item.captions) == 5 for item in items)
        own = {item.image_id for item in items}
        assert len(own) == size
        assert not own & ids
        ids |= own
