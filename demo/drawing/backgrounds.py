"""The backgrounds of all places."""

from dataclasses import dataclass
from random import Random

from PIL import Image

from demo.drawing import outdoors, rooms, tables, waters
from demo.drawing.canvas import Canvas

_PAINTERS = {
    "beach": waters.paint_beach,
    "park": outdoors.paint_park,
    "street": outdoors.paint_street,
    "farm": outdoors.paint_farm,
    "savanna": outdoors.paint_savanna,
    "snowy mountain": outdoors.paint_snowy_mountain,
    "lake": waters.paint_lake,
    "forest": outdoors.paint_forest,
    "desert": outdoors.paint_desert,
    "harbor": waters.paint_harbor,
    "airport": waters.paint_airport,
    "garden": waters.paint_garden,
    "kitchen": tables.paint_kitchen,
    "restaurant": tables.paint_restaurant,
    "living room": rooms.paint_living_room,
    "bedroom": rooms.paint_bedroom,
    "office": tables.paint_office,
}
# Rows in which the sky (or the wall) may end.
_HORIZONS = {
    "beach": (50, 62),
    "street": (84, 92),
    "lake": (62, 74),
    "harbor": (62, 74),
    "forest": (86, 98),
    "desert": (66, 78),
    "kitchen": (94, 104),
    "restaurant": (94, 104),
    "living room": (90, 98),
    "bedroom": (90, 98),
    "office": (94, 104),
}
_USUAL_HORIZON = (62, 78)
# Where something flies, more sky is shown.
_FLYING_EXTRA = 16


@dataclass(frozen=True, slots=True)
class Backdrop:
    """A painted place: the RGB image and the row where the sky or the wall ends."""

    image: Image.Image
    horizon: float


def paint_backdrop(
    rng: Random,
    place: str,
    time: str,
    *,
    pose: str = "stand",
    pier_side: int = 1,
    omit: str | None = None,
) -> Backdrop:
    """Paints a place; no two draws are alike.

    Args:
        rng: Varies hues, horizon, clouds, hills and furniture.
        place: A key of `demo.world.places.PLACES`.
        time: day, sunset or night.
        pose: What the main thing does there: a surfer needs waves, a bird a high sky.
        pier_side: Where a pier is: -1 left, 1 right.
        omit: A kind that will stand there itself, not to be painted as furniture.
    """
    canvas = Canvas(time)
    low, high = _HORIZONS.get(place, _USUAL_HORIZON)
    horizon = rng.uniform(low, high)
    if pose in ("fly", "takeoff"):
        horizon = min(horizon + _FLYING_EXTRA, 98)
    if place == "beach":
        waters.paint_beach(canvas, rng, horizon, surf=pose == "surf")
    elif place == "harbor":
        waters.paint_harbor(canvas, rng, horizon, side=pier_side)
    elif place == "bedroom":
        rooms.paint_bedroom(canvas, rng, horizon, bed=omit != "bed")
    else:
        _PAINTERS[place](canvas, rng, horizon)
    return Backdrop(canvas.finish(), horizon)
