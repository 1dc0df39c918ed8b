"""Repainting artwork in a named color while keeping its outline, details and shading."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

# What the color words mean, as RGB of a normally lit surface.
COLORS = {
    "red": (219, 38, 38),
    "blue": (36, 104, 222),
    "green": (44, 158, 62),
    "yellow": (250, 206, 26),
    "white": (246, 246, 249),
    "brown": (136, 84, 44),
    "black": (50, 50, 58),
    "gray": (148, 151, 158),
    "orange": (242, 140, 36),
}


@dataclass(frozen=True, slots=True)
class _Region:
    """Which pixels of the artwork carry the color: hue ranges in degrees, and/or pale ones."""

    hues: tuple[tuple[int, int], ...] = ()
    pale: bool = False
    least_saturation: float = 0.2
    least_value: float = 0.25


# Kinds whose color does not simply sit on the artwork's most common hue.
_REGIONS = {
    "dog": _Region(((0, 60),), pale=True, least_saturation=0.05, least_value=0.34),
    "cow": _Region(pale=True),
    "sheep": _Region(pale=True),
    "goat": _Region(((0, 60),), pale=True, least_saturation=0.05, least_value=0.3),
    "rabbit": _Region(pale=True),
    "cat": _Region(((0, 60),), least_saturation=0.3),
    "camel": _Region(((15, 60),), least_saturation=0.25),
    "horse": _Region(((15, 50),), least_saturation=0.2),
    "bus": _Region(((185, 225),), pale=True, least_saturation=0.08, least_value=0.6),
    "truck": _Region(((0, 50), (340, 360)), least_saturation=0.45, least_value=0.4),
    "kite": _Region(((0, 60), (230, 360)), least_saturation=0.15),
    "helicopter": _Region(((30, 65),), least_saturation=0.3),
    "parrot": _Region(((60, 170),)),
    "sailboat": _Region(((0, 40), (340, 360)), least_saturation=0.3),
    "bicycle": _Region(((180, 230),), least_saturation=0.15),
}


def recolor(image: Image.Image, kind: str, color: str) -> Image.Image:
    """Returns the artwork with the kind's own color replaced by the named one.

    Args:
        image: RGBA artwork.
        kind: The kind's name: some carry their color in a special region.
        color: A key of `COLORS`.
    """
    pixels = np.asarray(image, dtype=np.float32)
    rgb, alpha = pixels[..., :3] / 255, pixels[..., 3:]
    mask = _mask(rgb, alpha[..., 0] > 40, _REGIONS.get(kind))
    light = rgb @ np.array((0.3, 0.59, 0.11), dtype=np.float32)
    usual = float(np.percentile(light[mask], 65)) if mask.any() else 1.0
    shade = np.clip(light / max(usual, 1e-3), 0.45, 1.35)
    painted = _shaded(np.array(COLORS[color], dtype=np.float32) / 255, shade)
    rgb = np.where(mask[..., None], painted, rgb)
    out = np.concatenate([rgb * 255, alpha], axis=-1)
    return Image.fromarray(np.clip(out + 0.5, 0, 255).astype(np.uint8), "RGBA")


def _shaded(color: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """Returns the color [3] under the relative light `shade` [H, W], as [H, W, 3].

    Darker is scaled (less so for near-white, whose shadows are pale, and black, which would lose
    its form); lighter is mixed with white.
    """
    strength = 0.5 if color.min() > 0.9 else 0.8
    dark = 1 - (1 - np.minimum(shade, 1.0)) * strength
    light = np.maximum(shade - 1.0, 0.0)[..., None] * 0.6
    base = color * dark[..., None]
    shaded: np.ndarray = base + (1 - base) * light
    return shaded


def _mask(rgb: np.ndarray, visible: np.ndarray, region: _Region | None) -> np.ndarray:
    """Returns which pixels [H, W] to repaint."""
    value, low = rgb.max(-1), rgb.min(-1)
    spread = value - low
    saturation = np.where(value > 0, spread / np.maximum(value, 1e-6), 0)
    hue = _hue(rgb, value, spread)
    if region is None:
        weight = (saturation * value * visible).ravel()
        histogram = np.bincount((hue.ravel() // 10).astype(int) % 36, weight, 36)
        center = int(np.argmax(histogram)) * 10 + 5
        distance = np.abs((hue - center + 180) % 360 - 180)
        return np.asarray(visible & (distance < 30) & (saturation > 0.25) & (value > 0.2))
    mask = np.zeros_like(visible)
    for start, stop in region.hues:
        mask |= (hue >= start) & (hue <= stop) & (saturation >= region.least_saturation)
    if region.pale:
        mask |= (saturation < 0.25) & (value > 0.55)
    return np.asarray(mask & visible & (value >= region.least_value))


def _hue(rgb: np.ndarray, value: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Returns the hue in degrees, [H, W]."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    safe = np.maximum(spread, 1e-6)
    hue = np.where(
        value == red,
        (green - blue) / safe,
        np.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    return np.where(spread > 0, hue * 60 % 360, 0.0)
