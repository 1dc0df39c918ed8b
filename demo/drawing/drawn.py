"""Artwork that the emoji font lacks, drawn at four times its size and scaled down."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from demo.drawing.paint import COLORS

_SCALE = 4
_DILATE = ImageFilter.MaxFilter(5)
_Color = tuple[int, int, int]


def _shade(color: _Color, factor: float) -> _Color:
    red, green, blue = (min(255, round(channel * factor)) for channel in color)
    return (red, green, blue)


class _Pen:
    """Draws in the coordinates of the finished artwork on a canvas four times as large."""

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        self._image = Image.new("RGBA", (width * _SCALE, height * _SCALE))
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, color: _Color, *points: tuple[float, float]) -> None:
        self._draw.polygon([(x * _SCALE, y * _SCALE) for x, y in points], fill=color)

    def box(self, color: _Color, x: float, y: float, w: float, h: float, r: float = 0) -> None:
        corners = [n * _SCALE for n in (x, y, x + w, y + h)]
        self._draw.rounded_rectangle(corners, r * _SCALE, fill=color)

    def oval(self, color: _Color, x: float, y: float, w: float, h: float) -> None:
        self._draw.ellipse([n * _SCALE for n in (x, y, x + w, y + h)], fill=color)

    def line(self, color: _Color, width: float, *points: tuple[float, float]) -> None:
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self._draw.line(scaled, fill=color, width=round(width * _SCALE), joint="curve")

    def finish(self) -> Image.Image:
        image = self._image.resize(self._size, Image.Resampling.BOX)
        return image.crop(image.getbbox())


def _airplane(color: str | None) -> Image.Image:
    """A passenger jet from the side, nose to the left."""
    body = COLORS[color or "white"]
    dark, deep = _shade(body, 0.78), _shade(body, 0.58)
    trim = (52, 84, 150) if color in (None, "white") else _shade(body, 0.62)
    pen = _Pen(160, 90)
    pen.polygon(dark, (92, 40), (122, 40), (140, 22), (128, 22))  # far wing
    pen.polygon(trim, (128, 42), (156, 42), (158, 6), (144, 6))  # tail fin
    pen.box(body, 14, 34, 140, 26, 13)
    pen.polygon(body, (120, 34), (158, 38), (158, 44), (120, 60))
    pen.oval(body, 4, 35, 40, 25)
    pen.polygon(dark, (16, 54), (30, 60), (124, 60), (152, 46), (124, 53), (30, 54))
    pen.polygon((60, 72, 92), (11, 42), (24, 38), (27, 45), (9, 46))  # cockpit
    for x in range(38, 130, 10):
        pen.box((88, 150, 205), x, 41, 5, 7, 2)
    pen.polygon(trim, (130, 47), (152, 47), (158, 40), (140, 42))
    pen.polygon(deep, (66, 54), (96, 54), (124, 80), (112, 80))  # near wing
    pen.box((90, 96, 110), 72, 62, 24, 11, 5)  # engine
    for x in (30, 96):
        pen.line((80, 84, 92), 2, (x + 4, 60), (x + 4, 74))
        pen.oval((46, 48, 54), x - 1, 71, 10, 10)
    return pen.finish()


def _bench(_: str | None) -> Image.Image:
    wood, dark, iron = (176, 112, 58), (140, 84, 40), (70, 74, 80)
    pen = _Pen(130, 74)
    for x in (14, 108):
        pen.box(iron, x, 4, 6, 66, 2)
        pen.box(iron, x - 6, 40, 20, 5, 2)
    for y in (4, 17, 30):
        pen.box(wood, 4, y, 122, 9, 3)
    pen.box(wood, 0, 43, 130, 8, 3)
    pen.box(dark, 0, 50, 130, 5, 2)
    return pen.finish()


def _control_tower(_: str | None) -> Image.Image:
    wall, dark = (226, 228, 232), (184, 188, 196)
    pen = _Pen(80, 150)
    pen.line((200, 60, 60), 3, (40, 0), (40, 24))
    pen.box(dark, 22, 20, 36, 10, 3)
    pen.polygon((66, 120, 170), (6, 28), (74, 28), (66, 52), (14, 52))  # the glass cabin
    for x in (22, 38, 54):
        pen.line((200, 222, 240), 2, (x, 29), (x + (40 - x) * 0.18, 51))
    pen.polygon(dark, (10, 52), (70, 52), (62, 62), (18, 62))
    pen.polygon(wall, (26, 62), (54, 62), (58, 150), (22, 150))
    pen.polygon(dark, (44, 62), (54, 62), (58, 150), (46, 150))
    for y in (76, 98, 120):
        pen.box((110, 130, 150), 33, y, 8, 9, 1)
    return pen.finish()


def _barn(_: str | None) -> Image.Image:
    red, dark, white = (190, 48, 42), (150, 34, 32), (244, 240, 232)
    pen = _Pen(130, 116)
    pen.polygon((110, 74, 66), (65, 0), (104, 18), (130, 58), (0, 58), (26, 18))
    pen.polygon(red, (65, 8), (98, 24), (120, 58), (120, 116), (10, 116), (10, 58), (32, 24))
    pen.box(white, 50, 28, 30, 22)
    pen.box(dark, 53, 31, 24, 16)
    pen.box(white, 36, 62, 58, 54)
    pen.box(dark, 40, 66, 50, 50)
    pen.line(white, 4, (40, 66), (90, 116))
    pen.line(white, 4, (90, 66), (40, 116))
    pen.line(white, 3, (65, 66), (65, 116))
    return pen.finish()


def _lamp(_: str | None) -> Image.Image:
    """A table lamp that is on."""
    pen = _Pen(90, 126)
    pen.polygon((252, 214, 112), (28, 6), (62, 6), (86, 62), (4, 62))
    pen.polygon((255, 236, 168), (36, 6), (50, 6), (58, 62), (30, 62))
    pen.box((228, 182, 84), 4, 58, 82, 6, 3)
    pen.box((120, 84, 60), 42, 64, 6, 18)
    pen.oval((64, 132, 150), 27, 76, 36, 42)
    pen.oval((110, 176, 190), 33, 82, 12, 22)
    pen.box((120, 84, 60), 26, 114, 38, 10, 4)
    return pen.finish()


def _stop_sign(_: str | None) -> Image.Image:
    pen = _Pen(84, 150)
    pen.box((150, 154, 160), 39, 60, 7, 90, 2)
    for color, r in (((246, 246, 246), 42), ((206, 30, 36), 38)):
        c = r * 0.414
        pen.polygon(
            color,
            *((42 - c, 42 - r), (42 + c, 42 - r), (42 + r, 42 - c), (42 + r, 42 + c)),
            *((42 + c, 42 + r), (42 - c, 42 + r), (42 - r, 42 + c), (42 - r, 42 - c)),
        )
    white = (255, 255, 255)
    pen.line(white, 4, (23, 33), (13, 33), (13, 42), (23, 42), (23, 51), (12, 51))  # S
    pen.line(white, 4, (27, 33), (41, 33))  # T
    pen.line(white, 4, (34, 33), (34, 53))
    pen.line(white, 4, (45, 33), (55, 33), (55, 51), (45, 51), (45, 31))  # O
    pen.line(white, 4, (61, 53), (61, 33), (71, 33), (71, 43), (61, 43))  # P
    return pen.finish()


DRAWINGS: dict[str, Callable[[str | None], Image.Image]] = {
    "airplane": _airplane,
    "bench": _bench,
    "control tower": _control_tower,
    "barn": _barn,
    "lamp": _lamp,
    "stop sign": _stop_sign,
}


def striped(horse: Image.Image) -> Image.Image:
    """Returns a zebra: the RGBA artwork of a white horse with dark stripes."""
    pixels = np.array(horse)
    red, _, blue = _bands(horse)
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    phase = columns + 0.4 * rows + 4 * np.sin(rows / 9)
    coat = pixels[..., :3].min(-1) > 120
    pixels[coat & (np.sin(phase * 2 * np.pi / 15) > 0.25), :3] = (44, 44, 50)
    mane = (red > blue + 25) & (pixels[..., 3] > 40)
    pixels[mane, :3] = (60, 58, 62)
    return Image.fromarray(pixels)


def without_water(image: Image.Image) -> Image.Image:
    """Returns the RGBA artwork without the saturated blue of a sea."""
    red, green, blue = _bands(image)
    return _without(image, (blue > 170) & (blue - red > 110) & (green > 80))


def without_snow(image: Image.Image) -> Image.Image:
    """Returns the RGBA artwork without the near-white and pale blue of a slope."""
    red, green, blue = _bands(image)
    return _without(image, (red > 175) & (green > 205) & (blue > 225) & (blue >= red))


def _bands(image: Image.Image) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pixels = np.asarray(image).astype(int)
    return pixels[..., 0], pixels[..., 1], pixels[..., 2]


def _without(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """Makes the masked pixels clear, and with them the half-clear outline around them."""
    pixels = np.array(image)
    alpha = pixels[..., 3]
    near = np.asarray(Image.fromarray(mask | (alpha == 0)).convert("L").filter(_DILATE)) > 0
    pixels[mask | (near & (alpha < 235)), 3] = 0
    return Image.fromarray(pixels)
