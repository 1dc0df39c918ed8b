"""Sprites: the artwork of each kind in a given color, pose, size and light, ready to paste.

Most artwork comes from the color emoji font Noto Color Emoji (see NOTICE), which is read at
build time and never committed; the few things it lacks are drawn in `drawn.py`.
"""

from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont, features

from demo.drawing import drawn
from demo.drawing.paint import recolor
from demo.world.kinds import KINDS
from igrag.errors import IgragError

FONT_PATHS = (
    Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"),
    Path("/usr/share/fonts/noto/NotoColorEmoji.ttf"),
    Path("/usr/share/fonts/google-noto-color-emoji-fonts/NotoColorEmoji.ttf"),
)
# The one size at which the font's bitmaps (136 x 128) exist.
_FONT_SIZE = 109
_SKIN_TONES = ("🏻", "🏼", "🏽", "🏾", "🏿")
SKIN_TONE_COUNT = len(_SKIN_TONES)
# What a person does is a glyph of its own; {} takes the skin tone.
_PERSON_GLYPHS = {
    "man": {
        "surf": "🏄{}\u200d♂️",
        "walk": "🚶{}\u200d♂️",
        "bike": "🚴{}\u200d♂️",
        "run": "🏃{}\u200d♂️",
        "yoga": "🧘{}\u200d♂️",
        "ski": "⛷",
        "row": "🚣{}\u200d♂️",
        "ride": "🏇{}",
        "swim": "🏊{}\u200d♂️",
        "dance": "🕺{}",
        "snowboard": "🏂{}",
        "stand": "🧍{}\u200d♂️",
    },
    "woman": {
        "surf": "🏄{}\u200d♀️",
        "walk": "🚶{}\u200d♀️",
        "bike": "🚴{}\u200d♀️",
        "run": "🏃{}\u200d♀️",
        "yoga": "🧘{}\u200d♀️",
        "snowboard": "🏂{}",
        "swim": "🏊{}\u200d♀️",
        "dance": "💃{}",
        "row": "🚣{}\u200d♀️",
        "stand": "🧍{}\u200d♀️",
    },
}
# These glyphs bring a square of sea or snow along: it is cut out, the image has its own.
# Letters and clock faces read wrongly in a mirror.
_WRITTEN_ON = frozenset({"stop sign", "clock"})
_WET_GLYPHS = ("🏄", "🏊", "🚣")
_SNOWY_GLYPHS = ("🏂", "⛷")
# The light on the sprites by time of day, as factors of red, green and blue.
_LIGHT = {"sunset": (1.0, 0.9, 0.84), "night": (0.74, 0.79, 0.95)}


class FontMissingError(IgragError):
    """The emoji font, or Pillow's layout engine for joined emoji, is not installed."""


def find_font() -> Path:
    """Returns the path of the emoji font.

    Raises:
        FontMissingError: If the font or the Raqm layout engine is missing; says how to install it.
    """
    path = next((path for path in FONT_PATHS if path.is_file()), None)
    if path is None:
        raise FontMissingError(
            "the font NotoColorEmoji.ttf is missing: apt-get install fonts-noto-color-emoji"
        )
    if not features.check("raqm"):
        raise FontMissingError(
            "Pillow cannot lay out joined emoji: apt-get install libraqm0 libfribidi0"
        )
    return path


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(find_font()), _FONT_SIZE, layout_engine=ImageFont.Layout.RAQM)


@lru_cache(maxsize=512)
def glyph_artwork(glyph: str) -> Image.Image:
    """Returns the emoji as RGBA, cropped to what is visible, about 128 pixels wide."""
    image = Image.new("RGBA", (300, 160))
    ImageDraw.Draw(image).text((10, 10), glyph, font=_font(), embedded_color=True)
    if glyph.startswith(_WET_GLYPHS):
        image = drawn.without_water(image)
    if glyph.startswith(_SNOWY_GLYPHS):
        image = drawn.without_snow(image)
    return image.crop(image.getbbox())


@lru_cache(maxsize=1024)
def artwork(name: str, pose: str, color: str | None, tone: int) -> Image.Image:
    """Returns the full-size RGBA artwork of a kind.

    Args:
        name: A kind's name, or an emoji.
        pose: Chooses a person's glyph; other kinds look the same in every pose.
        color: One of the kind's colors, or None for the artwork's own.
        tone: Skin tone of people, 0 (light) to 4 (dark).
    """
    if name in _PERSON_GLYPHS:
        glyph = _PERSON_GLYPHS[name].get(pose, _PERSON_GLYPHS[name]["stand"])
        return glyph_artwork(glyph.format(_SKIN_TONES[tone]))
    if name in drawn.DRAWINGS:
        return drawn.DRAWINGS[name](color)
    if name == "zebra":
        return drawn.striped(recolor(glyph_artwork(KINDS["horse"].glyph), "horse", "white"))
    image = glyph_artwork(KINDS[name].glyph if name in KINDS else name)
    return recolor(image, name, color) if color else image


@lru_cache(maxsize=2048)
def sprite(
    name: str,
    height: int,
    *,
    pose: str = "stand",
    color: str | None = None,
    tone: int = 2,
    flip: bool = False,
    angle: int = 0,
    squash: float = 1.0,
    max_width: int = 400,
    time: str = "day",
) -> Image.Image:
    """Returns a kind's RGBA sprite, scaled, turned and lit; cached, so do not change it.

    Args:
        name: A kind's name, or an emoji.
        height: Height in pixels before squashing and turning.
        pose: See `artwork`.
        color: See `artwork`.
        tone: See `artwork`.
        flip: Whether to mirror it; what bears writing never is.
        angle: Degrees to turn it, counter-clockwise, after mirroring.
        squash: Factor on the height alone: below 1 it looks low and flat.
        max_width: A wider sprite is scaled down to this width in pixels.
        time: day, sunset or night: the light.
    """
    image = artwork(name, pose, color, tone)
    scale = min(height / image.height, max_width / image.width)
    size = (max(2, round(image.width * scale)), max(2, round(image.height * scale * squash)))
    image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    if flip and name not in _WRITTEN_ON:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if angle:
        image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        image = image.crop(image.getbbox())
    return _lit(image, time) if time in _LIGHT else image


def _lit(image: Image.Image, time: str) -> Image.Image:
    *colors, alpha = image.split()
    bands = zip(colors, _LIGHT[time], strict=True)
    lit = [band.point([round(v * factor) for v in range(256)]) for band, factor in bands]
    image = Image.merge("RGBA", (*lit, alpha))
    return _moonlit(image) if time == "night" else image


def _moonlit(image: Image.Image) -> Image.Image:
    """Returns the art with a faint bright rim, without which dark things would drown in night."""
    padded = Image.new("RGBA", (image.width + 2, image.height + 2))
    padded.paste(image, (1, 1))
    halo = Image.new("RGBA", padded.size, (176, 196, 255, 0))
    around = padded.getchannel("A").filter(ImageFilter.MaxFilter(3))
    halo.putalpha(around.point([round(v * 0.55) for v in range(256)]))
    return Image.alpha_composite(halo, padded)
