"""The demo's images: every scene can be drawn, the same way each time, with its boxes."""

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from demo.coco_files import file_name
from demo.drawing.backgrounds import paint_backdrop
from demo.drawing.paint import COLORS, recolor
from demo.drawing.render import Rendered, render
from demo.drawing.sprites import FontMissingError, artwork, find_font, sprite
from demo.world.kinds import KINDS, MAIN_KINDS, Kind
from demo.world.places import PLACES
from demo.world.scenes import Scene, Thing, sample_scene

needs_font = pytest.mark.usefixtures("emoji_font")


def _scene(kind: str, place: str, pose: str, **changes: Any) -> Scene:
    return replace(Scene(place, "day", Thing(KINDS[kind]), pose), **changes)


@pytest.mark.parametrize("place", PLACES)
def test_backdrop_of_every_place_and_time_is_drawn(place: str) -> None:
    """A backdrop fills the image, and its times of day differ."""
    times = ("day",) if PLACES[place].indoors else ("day", "sunset", "night")
    means = []
    for time in times:
        backdrop = paint_backdrop(Random(3), place, time)
        pixels = np.asarray(backdrop.image)
        assert pixels.shape == (160, 224, 3)
        assert 0 < backdrop.horizon < 110
        means.append(pixels.reshape(-1, 3).mean(0))
    for i, one in enumerate(means):
        assert all(np.abs(one - other).max() > 15 for other in means[i + 1 :])


def test_backdrops_vary_and_are_seeded() -> None:
    """Two draws of a place differ, and the same seed gives the same pixels."""
    first, second, again = (paint_backdrop(Random(n), "park", "day").image for n in (1, 2, 1))
    assert first.tobytes() != second.tobytes()
    assert first.tobytes() == again.tobytes()


@pytest.mark.parametrize("color", COLORS)
def test_recolored_artwork_has_the_named_color(color: str) -> None:
    """The flat part of a painted image comes out near the color that the word names."""
    red = Image.new("RGBA", (8, 8), (220, 40, 40, 255))
    painted = np.asarray(recolor(red, "apple", color))[..., :3].reshape(-1, 3).mean(0)
    assert np.abs(painted - COLORS[color]).max() < 12


def test_recoloring_keeps_details_and_transparency() -> None:
    """Only the kind's own color changes: black details and clear pixels stay."""
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2] = (220, 40, 40, 255)
    pixels[2] = (10, 10, 10, 255)
    painted = np.asarray(recolor(Image.fromarray(pixels), "car", "blue"))
    assert (painted[0, 0, 2] > painted[0, 0, 0]).all()
    assert (painted[2:] == pixels[2:]).all()


def test_missing_font_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the font and the command that installs it."""
    monkeypatch.setattr("demo.drawing.sprites.FONT_PATHS", ())
    with pytest.raises(FontMissingError, match="apt-get install fonts-noto-color-emoji") as caught:
        find_font()
    assert "\n" not in str(caught.value)


@needs_font
@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_has_artwork_in_every_color(kind: Kind) -> None:
    """Artwork in each color of a kind is visible, and the colors differ."""
    colors = kind.colors or (None,)
    arts = [artwork(kind.name, "stand", color, 2) for color in colors]
    assert all(min(art.size) > 10 for art in arts)
    assert len({art.tobytes() for art in arts}) == len(colors)


@needs_font
def test_sprite_has_the_given_height() -> None:
    """It is lower only if it would be wider than allowed."""
    assert sprite("dog", 60).height == 60
    assert sprite("bus", 90, max_width=40).width == 40


@needs_font
@pytest.mark.parametrize("kind", MAIN_KINDS, ids=lambda kind: kind.name)
def test_every_pose_can_be_drawn(kind: Kind) -> None:
    """Each kind is drawn in all its places and poses, its box inside the image."""
    for place, poses in kind.homes.items():
        for pose in poses:
            rendered = render(Random(4), Scene(place, "day", Thing(kind), pose))
            assert rendered.image.size == (224, 160)
            _check_boxes(rendered)
            assert rendered.boxes[0][0] == kind.name


def _check_boxes(rendered: Rendered) -> None:
    width, height = rendered.image.size
    for name, (x, y, w, h) in rendered.boxes:
        assert name in KINDS
        assert 0 <= x < x + w <= width
        assert 0 <= y < y + h <= height


@needs_font
@pytest.mark.parametrize("count", [1, 2, 3])
def test_group_has_a_box_for_each_member(count: int) -> None:
    """Two or three things are drawn two or three times."""
    scene = _scene("dog", "park", "run", main=Thing(KINDS["dog"], count, "brown"))
    names = [name for name, _ in render(Random(5), scene).boxes]
    assert names.count("dog") == count


@needs_font
def test_flying_bird_is_above_a_standing_one() -> None:
    """A bird that flies is drawn higher than one that stands."""
    flying, standing = (
        render(Random(6), _scene("bird", "garden", pose)).boxes[0][1] for pose in ("fly", "stand")
    )
    assert flying[1] + flying[3] < standing[1]


@needs_font
@pytest.mark.parametrize(("relation", "nearer"), [("behind", True), ("in front of", False)])
def test_relation_determines_which_is_nearer(relation: str, nearer: bool) -> None:
    """The companion stands lower in the image exactly if the main thing is behind it."""
    scene = _scene("dog", "park", "sleep", companion=Thing(KINDS["bench"]), relation=relation)
    boxes = dict(render(Random(7), scene).boxes)
    foot = {name: box[1] + box[3] for name, box in boxes.items()}
    assert (foot["bench"] > foot["dog"]) == nearer


@needs_font
def test_main_thing_is_mostly_larger_than_its_companion() -> None:
    """In nearly all scenes the companion's box is smaller than the main things' together."""
    rng = Random(8)
    smaller: list[bool] = []
    while len(smaller) < 60:
        scene = sample_scene(rng)
        if scene.companion is None or scene.main.kind.name == scene.companion.kind.name:
            continue
        boxes = render(rng, scene).boxes
        area = {True: 0, False: 0}
        for name, (_, _, w, h) in boxes:
            area[name == scene.main.kind.name] += w * h
        smaller.append(area[False] < area[True] * 1.3)
    assert sum(smaller) >= 50


@needs_font
def test_images_depend_on_seed_and_size() -> None:
    """The same seed gives the same pixels; another size scales the image and its boxes."""
    scene = _scene("dog", "park", "run")
    first, again = (render(Random(9), scene) for _ in range(2))
    assert first.image.tobytes() == again.image.tobytes()
    half = render(Random(9), scene, size=(112, 80))
    assert half.image.size == (112, 80)
    assert abs(half.boxes[0][1][2] - first.boxes[0][1][2] / 2) <= 1


def test_file_names_are_those_of_coco() -> None:
    """An image is named by its id in twelve digits."""
    assert file_name(802) == "000000000802.jpg"
