"""A small drawing surface for backgrounds: smooth edges, gradients and the light of the day."""

from collections.abc import Sequence
from math import pi, sin
from random import Random

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 224, 160
# Shapes are drawn at twice the size and scaled down, which smooths their edges.
_SCALE = 2
Color = tuple[int, ...]
Point = tuple[float, float]
WHITE: Color = (250, 250, 248)
# How the color of a lit surface changes with the time of day: (factors, additions).
_LIGHT: dict[str, tuple[tuple[float, float, float], tuple[int, int, int]]] = {
    "sunset": ((0.98, 0.78, 0.68), (8, 0, 10)),
    "night": ((0.42, 0.48, 0.66), (10, 14, 30)),
}


def jitter(rng: Random, color: Color, amount: int = 8) -> Color:
    """Returns the color with each channel moved by up to `amount`."""
    return tuple(max(0, min(255, c + rng.randint(-amount, amount))) for c in color)


def mix(one: Color, other: Color, share: float) -> Color:
    """Returns the color between two, `share` of the way to the other."""
    return tuple(round(a + (b - a) * share) for a, b in zip(one, other, strict=True))


class Canvas:
    """Draws in image coordinates (224 x 160). Colors are RGB or RGBA as seen by day."""

    def __init__(self, time: str) -> None:
        self.time = time
        self._image = Image.new("RGB", (WIDTH * _SCALE, HEIGHT * _SCALE))
        self._draw = ImageDraw.Draw(self._image, "RGBA")

    def lit(self, color: Color) -> Color:
        """Returns the color of a surface in the light of this canvas's time of day."""
        if self.time not in _LIGHT:
            return color
        factors, extra = _LIGHT[self.time]
        rgb = (min(255, round(c * f + e)) for c, f, e in zip(color, factors, extra, strict=False))
        return (*rgb, *color[3:])

    def _fill(self, color: Color, glow: bool) -> Color:
        return color if glow else self.lit(color)

    def gradient(
        self, top: float, bottom: float, upper: Color, lower: Color, *, glow: bool = False
    ) -> None:
        """Fills all columns from row `top` to `bottom`; `glow`: the color is light itself."""
        start, rows = round(top * _SCALE), round((bottom - top) * _SCALE)
        if rows <= 0:
            return
        share = np.linspace(0, 1, rows)[:, None]
        first, last = (np.array(self._fill(c, glow)[:3]) for c in (upper, lower))
        column = (first + (last - first) * share).astype(np.uint8)[:, None]
        band = Image.fromarray(column).resize((WIDTH * _SCALE, rows), Image.Resampling.NEAREST)
        self._image.paste(band, (0, start))

    def polygon(self, color: Color, points: Sequence[Point], *, glow: bool = False) -> None:
        """Fills a polygon."""
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self._draw.polygon(scaled, fill=self._fill(color, glow))

    def box(
        self, color: Color, x: float, y: float, w: float, h: float, *, glow: bool = False
    ) -> None:
        """Fills a rectangle given by its corner and size."""
        corners = [n * _SCALE for n in (x, y, x + w, y + h)]
        self._draw.rectangle(corners, fill=self._fill(color, glow))

    def oval(
        self, color: Color, x: float, y: float, rx: float, ry: float, *, glow: bool = False
    ) -> None:
        """Fills an ellipse given by its center and radii."""
        corners = [n * _SCALE for n in (x - rx, y - ry, x + rx, y + ry)]
        self._draw.ellipse(corners, fill=self._fill(color, glow))

    def line(
        self, color: Color, width: float, points: Sequence[Point], *, glow: bool = False
    ) -> None:
        """Draws a line through the points."""
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self._draw.line(
            scaled,
            fill=self._fill(color, glow),
            width=max(1, round(width * _SCALE)),
            joint="curve",
        )

    def specks(
        self, rng: Random, color: Color, top: float, bottom: float, count: int, *, tall: float = 0
    ) -> None:
        """Strews specks over the rows, or with `tall` blades of that height in pixels."""
        fill = self.lit(color)
        for _ in range(count):
            x, y = rng.uniform(0, WIDTH), rng.uniform(top, bottom)
            # What is nearer looks larger.
            size = 0.5 + 0.9 * (y - top) / max(bottom - top, 1)
            lean = rng.uniform(-1, 1) * tall * 0.4 if tall else 2.2 * size
            ends = (x * 2, y * 2, (x + lean) * 2, (y - tall * size) * 2)
            self._draw.line(ends, fill=fill, width=2)

    def ridge(
        self, rng: Random, color: Color, base: float, swing: float, *, bottom: float = HEIGHT
    ) -> list[Point]:
        """Fills below a rolling line around row `base` and returns the line's points."""
        waves = [(rng.uniform(0.5, 1.3), rng.uniform(0, 2 * pi), 0.6)]
        waves.append((rng.uniform(1.6, 3.2), rng.uniform(0, 2 * pi), 0.3))
        points = []
        for x in range(0, WIDTH + 8, 8):
            angle = 2 * pi * x / WIDTH
            height = sum(part * sin(angle * turns + start) for turns, start, part in waves)
            points.append((float(x), base - swing * height))
        self.polygon(color, [*points, (WIDTH, bottom), (0, bottom)])
        return points

    def finish(self) -> Image.Image:
        """Returns the image, RGB 224 x 160."""
        return self._image.reduce(_SCALE)


def paint_wall(c: Canvas, rng: Random, choices: tuple[Color, ...], bottom: float) -> Color:
    """Paints a wall in one of the colors down to row `bottom` and returns its color."""
    wall = jitter(rng, rng.choice(choices), 7)
    c.gradient(0, bottom, mix(wall, WHITE, 0.15), mix(wall, (60, 50, 50), 0.08))
    return wall
