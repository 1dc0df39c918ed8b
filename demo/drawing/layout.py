"""Where the things of a scene stand in its image, and how large they are."""

from dataclasses import dataclass, replace
from random import Random

from demo.drawing.canvas import WIDTH
from demo.world.scenes import Scene

# Height in pixels of a dog as the main thing.
_UNIT = 64
_GROUP_SCALE = {1: 1.0, 2: 0.8, 3: 0.68}
_GROUP_MAX_WIDTH = {1: 124, 2: 82, 3: 62}
# Poses in which a person or an animal takes less (or more) height than standing.
_POSE_SCALE = {"yoga": 0.82, "swim": 0.9, "row": 0.9, "bike": 1.05, "ride": 1.12, "surf": 1.1,
               "ski": 1.05, "snowboard": 1.05}  # fmt: skip
_SWIMMER_SCALE = 0.62
_WATER_PLACES = frozenset({"lake", "harbor"})
_WATER_POSES = frozenset({"swim", "float", "sail", "row", "dock"})
# Props that float in the water of a place, and those that keep to the land or the air.
_FLOATING = frozenset({"sailboat", "ship", "duck", "lily", "canoe"})
_AIRBORNE = frozenset({"butterfly"})
# Writing must not be mirrored.
_LETTERED = frozenset({"stop sign"})
# Where the companion of something high in the air stands.
_GROUND = 138
_COMPANION_SCALE = 0.74
_COMPANION_MAX_WIDTH = 74


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in the image, in pixels.

    Attributes:
        x: The middle of the thing.
        y: Its foot (the waterline, when afloat).
        height: Its height before turning and squashing.
        max_width: It is made smaller rather than wider than this.
        flip: Mirrored: it faces right instead of left.
        afloat: In the water: its lowest part is hidden.
        lifted: In the air.
        shadow_y: The row of its shadow; None for none.
    """

    x: float
    y: float
    height: int
    max_width: int
    flip: bool
    afloat: bool = False
    lifted: bool = False
    shadow_y: float | None = None


def _even(value: float) -> int:
    """Rounds to an even number of pixels, so that few sizes of a sprite have to be kept."""
    return max(4, 2 * round(value / 2))


def place_main(rng: Random, scene: Scene, side: int) -> list[Spot]:
    """Returns a spot for each of the main things, the farthest first.

    Args:
        rng: Varies size and position.
        scene: What is shown.
        side: Where the companion will be: -1 left or 1 right of the main thing.
    """
    kind, count = scene.main.kind, scene.main.count
    scale = kind.height**0.75 * _POSE_SCALE.get(scene.pose, 1.0) * rng.uniform(0.94, 1.08)
    if kind.family == "person" and scene.pose == "swim":
        scale = _SWIMMER_SCALE
    height = _UNIT * scale * _GROUP_SCALE[count]
    center = _main_center(rng, scene, side)
    foot, lifted, shadow = _footing(rng, scene, height)
    flip = rng.random() < 0.5 and not (kind.family == "person" and scene.pose == "row")
    first = Spot(
        x=center,
        y=foot,
        height=_even(height),
        max_width=_GROUP_MAX_WIDTH[count],
        flip=flip,
        afloat=_is_afloat(scene),
        lifted=lifted,
        shadow_y=shadow,
    )
    return _group(rng, first, count)


def _is_afloat(scene: Scene) -> bool:
    return scene.pose in _WATER_POSES or (scene.place == "lake" and scene.pose != "fly")


def _group(rng: Random, first: Spot, count: int) -> list[Spot]:
    """Spreads `count` things around the first spot, each a little different."""
    if count == 1:
        return [first]
    step = min(first.height * 0.98, first.max_width * 0.92)
    spots = []
    for i in range(count):
        dy = rng.uniform(2, 6) * (-1 if i % 2 else 1)
        if first.lifted:
            dy *= 1.8
        x = first.x + (i - (count - 1) / 2) * step + rng.uniform(-2, 2)
        shadow = None if first.shadow_y is None else first.shadow_y + dy * 0.5
        height = _even(first.height * rng.uniform(0.95, 1.05))
        spots.append(replace(first, x=x, y=first.y + dy, height=height, shadow_y=shadow))
    return sorted(spots, key=lambda spot: spot.y)


def _main_center(rng: Random, scene: Scene, side: int) -> float:
    middle = WIDTH / 2 + rng.uniform(-14, 14)
    if scene.companion is None:
        return middle
    # Room for what stands beside it.
    shift = {1: 24, 2: 18, 3: 14}[scene.main.count]
    if scene.relation != "next to":
        shift = 8
    return WIDTH / 2 + -side * shift + rng.uniform(-6, 6)


def _footing(rng: Random, scene: Scene, height: float) -> tuple[float, bool, float | None]:
    """Returns the row of the foot, whether it is in the air, and the row of the shadow."""
    ground = rng.uniform(134, 142)
    pose = scene.pose
    if _is_afloat(scene):
        return rng.uniform(122, 132), False, None
    if pose == "fly":
        foot = rng.uniform(36, 46) + height / 2
        return foot, True, None if scene.place in _WATER_PLACES else ground + 2
    if pose == "takeoff":
        return ground - rng.uniform(24, 34), True, ground
    if pose == "jump":
        return ground - rng.uniform(22, 30), True, ground
    if pose == "surf":
        return rng.uniform(120, 128), False, None
    if pose in ("plate", "board"):
        return rng.uniform(130, 136), False, None
    return ground, False, ground


def place_companion(
    rng: Random, scene: Scene, mains: list[Spot], side: int, horizon: float, *, apart: float = 0
) -> Spot:
    """Returns the companion's spot relative to the main things', on their `side`.

    It stands `apart` pixels farther to the side than it would by itself.
    """
    assert scene.companion is not None
    kind = scene.companion.kind
    height = _UNIT * _COMPANION_SCALE * kind.height**0.85 * rng.uniform(0.94, 1.06)
    main_x = sum(spot.x for spot in mains) / len(mains)
    reach = max(abs(spot.x - main_x) + min(spot.height * 1.1, spot.max_width) / 2 for spot in mains)
    ground = max(spot.shadow_y or spot.y for spot in mains)
    if scene.pose == "fly":
        ground = _GROUND
    wide = min(height, _COMPANION_MAX_WIDTH)
    if scene.relation == "in front of":  # the companion is farther: higher up and smaller
        height *= 0.92
        x, y = main_x + side * (reach + wide * 0.1), ground - rng.uniform(16, 22)
    elif scene.relation == "behind":  # the companion is nearer: lower, before the main's side
        height = min(height * 1.05, max(spot.height for spot in mains) * 0.66)
        x, y = main_x + side * reach * 0.9, min(ground + rng.uniform(11, 15), 156.0)
    else:
        x, y = main_x + side * (reach + wide / 2 + 4), ground - rng.uniform(0, 6)
    x = min(max(x + side * apart, wide * 0.45), WIDTH - wide * 0.45)
    flip = rng.random() < 0.5 and kind.name not in _LETTERED
    spot = Spot(x, y, _even(height), _COMPANION_MAX_WIDTH, flip, shadow_y=y)
    return _settle(rng, scene, spot, horizon)


def _settle(rng: Random, scene: Scene, spot: Spot, horizon: float) -> Spot:
    """Moves a companion to where its kind belongs: boats to the water, birds into the air."""
    assert scene.companion is not None
    name = scene.companion.kind.name
    if scene.place in _WATER_PLACES:
        if name == "bird":
            y = rng.uniform(34, 52)
            return replace(spot, y=y, height=_even(spot.height * 0.8), shadow_y=None)
        if name == "anchor":  # on the pier
            x = WIDTH / 2 + (WIDTH / 2 - 22) * (1 if spot.x > WIDTH / 2 else -1)
            return replace(spot, x=x, y=152, shadow_y=None)
        return replace(spot, afloat=name in _FLOATING, shadow_y=None)
    if scene.place == "beach" and name == "sailboat" and scene.relation != "behind":
        y = horizon + rng.uniform(16, 24)
        return replace(spot, y=y, height=_even(spot.height * 0.8), afloat=True, shadow_y=None)
    if scene.pose == "surf":  # the shore is at the very bottom of the image
        return replace(spot, y=156, shadow_y=156)
    if name in _AIRBORNE:
        return replace(spot, y=spot.y - rng.uniform(24, 36), lifted=True)
    if name == "window":
        return replace(spot, y=min(spot.y, horizon - 12), shadow_y=None)
    return spot
