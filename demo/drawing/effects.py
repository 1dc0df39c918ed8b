"""Small drawn things around the sprites: shadows, ripples, plates, boards, motion lines."""

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFilter

_SCALE = 3


def _blank(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGBA", (width * _SCALE, height * _SCALE))
    return image, ImageDraw.Draw(image)


def _oval(
    draw: ImageDraw.ImageDraw, color: tuple[int, ...], box: tuple[float, float, float, float]
) -> None:
    draw.ellipse([n * _SCALE for n in box], fill=color)


@lru_cache(maxsize=256)
def shadow(width: int, height: int) -> Image.Image:
    """Returns a soft dark ellipse of about this size."""
    pad = 3
    mask = Image.new("L", (width + 2 * pad, height + 2 * pad))
    ImageDraw.Draw(mask).ellipse((pad, pad, width + pad, height + pad), fill=105)
    image = Image.new("RGBA", mask.size, (16, 18, 34, 0))
    image.putalpha(mask.filter(ImageFilter.GaussianBlur(2)))
    return image


@lru_cache(maxsize=256)
def ripple(width: int, time: str) -> Image.Image:
    """Returns the rings of water around something afloat; its middle row is the waterline."""
    height = 12
    white = {"day": 210, "sunset": 190, "night": 110}[time]
    image, draw = _blank(width, height)
    for inset, alpha, thick in ((0, 0.45, 2), (width * 0.08, 0.8, 3), (width * 0.2, 0.5, 2)):
        flat = inset / width * height
        box = [n * _SCALE for n in (inset + 1, flat + 1, width - inset - 1, height - flat - 1)]
        draw.arc(box, 5, 175, fill=(255, 255, 255, round(white * alpha)), width=thick)
        draw.arc(box, 190, 350, fill=(255, 255, 255, round(white * alpha * 0.4)), width=thick)
    return image.resize((width, height), Image.Resampling.BOX)


@lru_cache(maxsize=256)
def splash(width: int) -> Image.Image:
    """Returns drops of water flung up, for a jump out of the sea."""
    height = max(12, width // 3)
    image, draw = _blank(width, height)
    white = (236, 248, 255, 235)
    for share, rise, r in ((0.1, 0.6, 1.6), (0.2, 0.25, 2.2), (0.33, 0.6, 1.8), (0.5, 0.4, 2.4),
                           (0.64, 0.1, 1.6), (0.76, 0.4, 2.2), (0.9, 0.66, 1.7)):  # fmt: skip
        x, y = share * width, rise * (height - 8) + 2
        _oval(draw, white, (x - r, y - r, x + r, y + r))
    _oval(draw, (255, 255, 255, 150), (1, height - 8, width - 1, height - 1))
    _oval(draw, white, (width * 0.25, height - 7, width * 0.75, height - 2))
    return image.resize((width, height), Image.Resampling.BOX)


@lru_cache(maxsize=256)
def plate(width: int) -> Image.Image:
    """Returns a white plate seen from the front and above, a third as high as wide."""
    height = round(width * 0.34)
    image, draw = _blank(width, height)
    w, h = float(width), float(height)
    _oval(draw, (150, 152, 164, 255), (0, h * 0.08, w, h))
    _oval(draw, (250, 251, 253, 255), (0, 0, w, h * 0.93))
    _oval(draw, (206, 212, 224, 255), (w * 0.14, h * 0.13, w * 0.86, h * 0.78))
    _oval(draw, (240, 243, 248, 255), (w * 0.16, h * 0.19, w * 0.84, h * 0.79))
    return image.resize((width, height), Image.Resampling.BOX)


@lru_cache(maxsize=256)
def board(width: int) -> Image.Image:
    """Returns a wooden cutting board with a handle, a third as high as wide."""
    height = round(width * 0.32)
    image, draw = _blank(width, height)
    w, h = width * _SCALE, height * _SCALE
    thick = round(h * 0.14)
    for drop, wood in ((thick, (122, 74, 38)), (0, (190, 126, 70))):
        body = (w * 0.02, drop, w * 0.84, h - thick + drop - 1)
        draw.rounded_rectangle(body, h * 0.18, fill=wood)
        handle = (w * 0.8, h * 0.28 + drop, w - 1, h * 0.58 + drop)
        draw.rounded_rectangle(handle, h * 0.14, fill=wood)
    for share in (0.2, 0.42, 0.64):
        y = h * share
        draw.line((w * 0.06, y, w * 0.78, y + 2), fill=(166, 104, 54), width=_SCALE)
    draw.ellipse((w * 0.9, h * 0.37, w * 0.96, h * 0.49), fill=(122, 74, 38))
    return image.resize((width, height), Image.Resampling.BOX)


@lru_cache(maxsize=128)
def speed_lines(length: int, height: int, time: str) -> Image.Image:
    """Returns lines of motion that fade to the right; mirror them for things going right."""
    image, draw = _blank(length, height)
    tone = {"day": (255, 255, 255), "sunset": (255, 236, 214), "night": (190, 204, 240)}[time]
    for share, start, stop in ((0.12, 0.1, 0.8), (0.45, 0.0, 1.0), (0.8, 0.15, 0.7)):
        y = round(share * height * _SCALE)
        for part in range(8):
            left = (start + (stop - start) * part / 8) * length * _SCALE
            right = (start + (stop - start) * (part + 1) / 8) * length * _SCALE
            draw.line((left, y, right, y), fill=(*tone, 230 - 26 * part), width=4)
    return image.resize((length, height), Image.Resampling.BOX)
