"""Skies by day, at sunset and by night."""

from random import Random

from demo.drawing.canvas import WIDTH, Canvas, Color, jitter, mix

_SKIES: dict[str, tuple[Color, Color]] = {
    "day": ((92, 166, 236), (208, 234, 250)),
    "sunset": ((96, 78, 150), (255, 176, 96)),
    "night": ((12, 18, 48), (52, 68, 118)),
}
# The sky reaches a little below the horizon, where rolling hills may dip.
_BELOW = 16


def paint_sky(
    canvas: Canvas, rng: Random, horizon: float, *, clouds: bool = True, haze: Color | None = None
) -> None:
    """Paints the sky down to row `horizon`.

    Args:
        canvas: Where to paint; it knows the time of day.
        rng: Varies clouds, stars and hues.
        horizon: The row where the sky ends.
        clouds: Whether there may be clouds by day.
        haze: By day, the sky's color at the horizon instead of pale blue.
    """
    upper, lower = _SKIES[canvas.time]
    if haze and canvas.time == "day":
        lower = haze
    upper, lower = jitter(rng, upper, 10), jitter(rng, lower, 8)
    if canvas.time == "sunset":
        middle = jitter(rng, (236, 116, 104), 10)
        canvas.gradient(0, horizon * 0.55, upper, middle, glow=True)
        canvas.gradient(horizon * 0.55, horizon + _BELOW, middle, lower, glow=True)
        _setting_sun(canvas, rng, horizon)
        return
    canvas.gradient(0, horizon + _BELOW, upper, lower, glow=True)
    if canvas.time == "night":
        _moon_and_stars(canvas, rng, horizon)
        return
    if rng.random() < 0.5:
        _sun(canvas, rng)
    if clouds:
        for _ in range(rng.randint(1, 3)):
            _cloud(canvas, rng, rng.uniform(0, WIDTH), rng.uniform(8, max(14, horizon - 26)))


def _sun(canvas: Canvas, rng: Random) -> None:
    x, y = rng.choice((rng.uniform(12, 50), rng.uniform(174, 212))), rng.uniform(12, 22)
    for radius, alpha in ((20, 40), (15, 70)):
        canvas.oval((255, 244, 190, alpha), x, y, radius, radius, glow=True)
    canvas.oval((255, 238, 140), x, y, 9, 9, glow=True)


def _setting_sun(canvas: Canvas, rng: Random, horizon: float) -> None:
    x, y = rng.uniform(20, WIDTH - 20), horizon - rng.uniform(2, 10)
    for radius, alpha in ((44, 26), (31, 40), (21, 70)):
        canvas.oval((255, 210, 120, alpha), x, y, radius, radius, glow=True)
    canvas.oval((255, 236, 160), x, y, 12, 12, glow=True)
    for _ in range(rng.randint(2, 4)):
        left, row = rng.uniform(-20, 180), rng.uniform(8, horizon * 0.7)
        length = rng.uniform(30, 80)
        canvas.oval((120, 70, 120, 70), left + length / 2, row, length / 2, 2.2, glow=True)
        canvas.oval((255, 170, 130, 110), left + length / 2, row + 2, length / 2.4, 1.2, glow=True)


def _moon_and_stars(canvas: Canvas, rng: Random, horizon: float) -> None:
    for _ in range(34):
        x, y, r = rng.uniform(0, WIDTH), rng.uniform(0, horizon), rng.choice((0.5, 0.5, 0.8))
        canvas.oval((255, 250, 226, rng.randint(150, 255)), x, y, r, r, glow=True)
    x, y = rng.choice((rng.uniform(16, 60), rng.uniform(164, 208))), rng.uniform(14, 26)
    for radius, alpha in ((18, 26), (13, 44)):
        canvas.oval((220, 226, 255, alpha), x, y, radius, radius, glow=True)
    canvas.oval((248, 244, 220), x, y, 9, 9, glow=True)
    if rng.random() < 0.5:  # a crescent
        upper, lower = _SKIES["night"]
        shadow = mix(upper, lower, y / max(horizon, 1))
        canvas.oval(mix(shadow, (220, 226, 255), 0.14), x + 4, y - 2, 8, 8, glow=True)
    else:
        for dx, dy, r in ((-3, -2, 1.8), (2, 3, 1.4), (3, -3, 1.0)):
            canvas.oval((226, 220, 192), x + dx, y + dy, r, r, glow=True)


def _cloud(canvas: Canvas, rng: Random, x: float, y: float) -> None:
    size = rng.uniform(0.7, 1.25)
    canvas.oval((214, 228, 242, 200), x, y + 3 * size, 22 * size, 5 * size, glow=True)
    for dx, dy, rx, ry in ((-13, 0, 9, 6), (13, 0, 9, 5), (-3, -4, 11, 9), (6, -2, 9, 7)):
        shift = rng.uniform(-2, 2)
        canvas.oval(
            (252, 254, 255, 235), x + (dx + shift) * size, y + dy * size, rx * size, ry * size,
            glow=True,
        )  # fmt: skip
