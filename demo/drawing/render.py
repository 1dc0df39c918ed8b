"""Images of scenes: the backdrop, the companion, the main thing and what shows its pose."""

from dataclasses import dataclass, replace
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from demo.drawing import effects
from demo.drawing.backgrounds import paint_backdrop
from demo.drawing.canvas import HEIGHT, WIDTH
from demo.drawing.layout import Spot, place_companion, place_main
from demo.drawing.sprites import SKIN_TONE_COUNT, sprite
from demo.world.scenes import Scene, Thing

Box = tuple[int, int, int, int]
_WATER_POSES = frozenset({"swim", "float", "sail", "row", "dock"})
_DUSTY_POSES = frozenset({"run", "drive"})
_AIR_POSES = frozenset({"fly", "takeoff", "jump"})
# Which share of the height is under water.
_DRAUGHT = {"swim": 0.2, "float": 0.1, "sail": 0.05, "row": 0.14, "dock": 0.04}
_MEALS = {"rabbit": "🥕", "monkey": "🍌", "pig": "🍎", "giraffe": "🌿", "deer": "🌿",
          "elephant": "🌿"}  # fmt: skip
_USUAL_MEAL = "🌾"
# Leaned nose up (positive: counter-clockwise, for things that face left as the artwork does).
_LEANS = {"takeoff": -16, "jump": -12, "run": 5, "sleep": 7, "eat": 8}
_SQUASHES = {"sleep": 0.74}


@dataclass(frozen=True, slots=True)
class Rendered:
    """An image and where its things are.

    Attributes:
        image: RGB image.
        boxes: (kind name, (x, y, width, height)) in pixels of `image`, for each thing seen, the
            nearest last.
    """

    image: Image.Image
    boxes: list[tuple[str, Box]]

    def least_visible(self) -> float:
        """Returns the share, 0 to 1, of the most hidden thing's box that no nearer box covers."""
        covered = np.zeros((self.image.height, self.image.width), bool)
        shares = [1.0]
        for _, (x, y, width, height) in reversed(self.boxes):
            place = covered[y : y + height, x : x + width]
            shares.append(1 - float(place.mean()))
            place[:] = True
        return min(shares)


class _Painter:
    """Pastes sprites onto one image and notes where they went."""

    def __init__(self, image: Image.Image, time: str) -> None:
        self.image = image
        self.time = time
        self.boxes: list[tuple[str, Box]] = []

    def paste(self, art: Image.Image, center: float, bottom: float) -> Box:
        """Pastes RGBA art by the middle of its foot; returns its box inside the image."""
        left, top = round(center - art.width / 2), round(bottom - art.height)
        self.image.paste(art, (left, top), art)
        right, low = min(left + art.width, WIDTH), min(top + art.height, HEIGHT)
        left, top = max(left, 0), max(top, 0)
        return (left, top, right - left, low - top)

    def note(self, name: str, box: Box) -> None:
        if box[2] > 1 and box[3] > 1:
            self.boxes.append((name, box))

    def shadow(self, center: float, ground: float, width: float) -> None:
        size = 2 * max(4, round(width / 2))
        self.paste(effects.shadow(size, max(4, size // 6)), center, ground + size / 12 + 4)


def render(
    rng: Random, scene: Scene, size: tuple[int, int] = (WIDTH, HEIGHT), *, apart: float = 0
) -> Rendered:
    """Draws a scene.

    Args:
        rng: Varies everything the scene leaves open; the same state gives the same image.
        scene: What to draw.
        size: Width and height in pixels; other sizes than 224 x 160 are scaled from it.
        apart: Pixels by which main thing and companion stand farther from each other.

    Raises:
        FontMissingError: If the emoji font is not installed.
    """
    omit = scene.companion.kind.name if scene.companion else None
    side = rng.choice((-1, 1))
    # A pier carries the companion only if that is an anchor; else it must not be in its way.
    pier = side if omit == "anchor" else -side
    backdrop = paint_backdrop(
        rng, scene.place, scene.time, pose=scene.pose, pier_side=pier, omit=omit
    )
    painter = _Painter(backdrop.image, scene.time)
    spots = [replace(spot, x=spot.x - side * apart / 2) for spot in place_main(rng, scene, side)]
    companion = scene.companion
    if companion:
        spot = place_companion(rng, scene, spots, side, backdrop.horizon, apart=apart)
        if scene.relation != "behind":
            _paint_companion(painter, companion, spot)
    _paint_main(painter, rng, scene, spots)
    if companion and scene.relation == "behind":
        _paint_companion(painter, companion, spot)
    if size == (WIDTH, HEIGHT):
        return Rendered(painter.image, painter.boxes)
    fx, fy = size[0] / WIDTH, size[1] / HEIGHT
    boxes = [
        (name, (round(x * fx), round(y * fy), round(w * fx), round(h * fy)))
        for name, (x, y, w, h) in painter.boxes
    ]
    return Rendered(painter.image.resize(size, Image.Resampling.LANCZOS), boxes)


def _paint_companion(painter: _Painter, thing: Thing, spot: Spot) -> None:
    art = _art(thing, spot, "stand", painter.time)
    _put(painter, thing.kind.name, art, spot)


def _art(thing: Thing, spot: Spot, pose: str, time: str, *, tone: int = 2) -> Image.Image:
    person = thing.kind.family == "person"
    lean = 0 if person else _LEANS.get(pose, 0)
    return sprite(
        thing.kind.name,
        spot.height,
        pose=pose,
        color=thing.color,
        tone=tone,
        flip=spot.flip,
        angle=-lean if spot.flip else lean,
        squash=_SQUASHES.get(pose, 1.0),
        max_width=spot.max_width,
        time=time,
    )


def _put(
    painter: _Painter, name: str, art: Image.Image, spot: Spot, *, draught: float = 0.1
) -> Box:
    """Puts the art at its spot: into water, above its shadow, or on the ground."""
    if spot.afloat:
        art = art.crop((0, 0, art.width, round(art.height * (1 - draught))))
        box = painter.paste(art, spot.x, spot.y)
        rings = effects.ripple(2 * round(art.width * 0.66), painter.time)
        painter.paste(rings, spot.x, spot.y + 6)
    else:
        if spot.shadow_y is not None:
            painter.shadow(spot.x, spot.shadow_y, art.width * (0.8 if spot.lifted else 0.95))
        box = painter.paste(art, spot.x, spot.y)
    painter.note(name, box)
    return box


def _paint_main(painter: _Painter, rng: Random, scene: Scene, spots: list[Spot]) -> None:
    thing, pose = scene.main, scene.pose
    tone = rng.randrange(SKIN_TONE_COUNT)
    arts = [_art(thing, spot, pose, scene.time, tone=tone) for spot in spots]
    if pose in ("plate", "board"):
        _paint_dish(painter, pose, spots, arts)
    if thing.kind.name == "kite":
        _paint_strings(painter, rng, spots, arts)
    for number, (spot, art) in enumerate(zip(spots, arts, strict=True), start=1):
        if pose in _DUSTY_POSES:
            _paint_dust(painter, scene, spot, art)
        box = _put(painter, thing.kind.name, art, spot, draught=_DRAUGHT.get(pose, 0.1))
        if pose != "play" or number == len(spots):  # Those that play share one ball.
            _paint_signs(painter, scene, spot, box)


def _paint_dish(painter: _Painter, pose: str, spots: list[Spot], arts: list[Image.Image]) -> None:
    """Draws one plate or board under all the food."""
    left = min(spot.x - art.width / 2 for spot, art in zip(spots, arts, strict=True))
    right = max(spot.x + art.width / 2 for spot, art in zip(spots, arts, strict=True))
    bottom = max(spot.y for spot in spots)
    width = 2 * round(((right - left) * (1.3 if len(spots) == 1 else 1.16) + 14) / 2)
    dish = effects.plate(width) if pose == "plate" else effects.board(width)
    painter.shadow((left + right) / 2, bottom + dish.height * 0.4, width)
    shift = width * 0.06 if pose == "board" else 0
    painter.paste(dish, (left + right) / 2 + shift, bottom + dish.height * 0.46)


def _paint_strings(
    painter: _Painter, rng: Random, spots: list[Spot], arts: list[Image.Image]
) -> None:
    """Draws the strings on which kites are held, to below the image's edge."""
    draw = ImageDraw.Draw(painter.image)
    hand = rng.uniform(80, 144)
    for spot, art in zip(spots, arts, strict=True):
        bend = ((spot.x + hand) / 2 + 6, spot.y + 34)
        draw.line([(spot.x, spot.y - art.height * 0.3), bend, (hand, HEIGHT)],
                  fill=(236, 236, 240), width=1, joint="curve")  # fmt: skip


def _paint_dust(painter: _Painter, scene: Scene, spot: Spot, art: Image.Image) -> None:
    """Draws a cloud of dust (and for vehicles lines of motion) behind something that moves."""
    back = 1 if not spot.flip else -1
    if scene.main.kind.family == "vehicle":
        lines = effects.speed_lines(26, max(14, art.height // 2), scene.time)
        if spot.flip:
            lines = lines.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        painter.paste(lines, spot.x + back * (art.width / 2 + 14), spot.y - art.height * 0.22)
    size = 2 * round(max(12, art.height * 0.28) / 2)
    puff = sprite("💨", size, flip=spot.flip, time=scene.time)
    painter.paste(puff, spot.x + back * (art.width / 2 + size * 0.35), spot.y + 1)


def _paint_signs(painter: _Painter, scene: Scene, spot: Spot, box: Box) -> None:
    """Draws what shows the pose: sleep's Zs, a meal, a ball, spray."""
    x, y, width, height = box
    front = -1 if not spot.flip else 1
    head = x + width * (0.5 + 0.3 * front)
    if scene.pose == "sleep":
        painter.paste(sprite("💤", 22, time=scene.time), head + front * 4, y + 5)
    elif scene.pose == "eat":
        meal = _MEALS.get(scene.main.kind.name, _USUAL_MEAL)
        size = 2 * round(max(20, height * 0.4) / 2)
        art = sprite(meal, size, flip=spot.flip, time=scene.time)
        upright = scene.main.kind.name in ("monkey", "giraffe", "elephant")
        row = y + height * 0.62 if upright else spot.y + 2
        painter.paste(art, x + width * (0.5 + 0.5 * front) + front * 3, row)
    elif scene.pose == "play":
        ball = "🧶" if scene.main.kind.name == "cat" else "ball"
        art = sprite(ball, 18, time=scene.time)
        place = x + width * (0.5 + 0.5 * front) + front * 9
        painter.shadow(place, spot.y + 2, 16)
        painter.note("ball", painter.paste(art, place, spot.y + 3))
    elif scene.pose == "jump" and scene.place == "harbor":
        wide = 2 * round(width * 0.45)
        painter.paste(effects.splash(wide), x + width / 2, (spot.shadow_y or spot.y) + 2)
    elif scene.pose == "surf":
        painter.paste(effects.splash(2 * round(width * 0.5)), x + width / 2, spot.y + 4)
