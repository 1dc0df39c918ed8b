"""Outdoor places on land: beach, park, street, farm, savanna, snow, forest, desert, ..."""

from random import Random

from demo.drawing.canvas import HEIGHT, WIDTH, Canvas, jitter, mix
from demo.drawing.sky import paint_sky


def paint_park(c: Canvas, rng: Random, horizon: float) -> None:
    """A mown lawn with a path, and a row of round trees behind it."""
    paint_sky(c, rng, horizon)
    for x in range(-6, WIDTH + 20, 17):
        r = rng.uniform(11, 18)
        c.oval(jitter(rng, (104, 166, 96), 14), x + rng.uniform(-4, 4), horizon - r * 0.5, r, r)
    lawn = jitter(rng, (134, 200, 92), 10)
    c.gradient(horizon, HEIGHT, lawn, jitter(rng, (84, 160, 62), 8))
    vanish = rng.uniform(60, 164)
    for i in range(-6, 8, 2):  # stripes of the mower run towards one point
        left, right = 112 + i * 44, 112 + (i + 1) * 44
        top = [(vanish + (x - vanish) * 0.12, horizon) for x in (left, right)]
        c.polygon((255, 255, 200, 26), [top[0], top[1], (right, HEIGHT), (left, HEIGHT)])
    side = rng.choice((-1, 1))
    path = [(112 + side * dx, horizon + dy) for dx, dy in ((20, 0), (26, 0), (58, 22), (40, 22))]
    c.polygon((228, 212, 178), path)
    end = HEIGHT - horizon
    bend = [(40, 22), (58, 22), (140, end), (84, end)]
    c.polygon((228, 212, 178), [(112 + side * dx, horizon + dy) for dx, dy in bend])
    c.specks(rng, (66, 140, 52), horizon + 12, HEIGHT, 50, tall=3)
    c.specks(rng, (250, 246, 214), horizon + 14, HEIGHT, 10)


def paint_street(c: Canvas, rng: Random, horizon: float) -> None:
    """House fronts with windows, a pavement and a road with a dashed line."""
    paint_sky(c, rng, horizon)
    x = -rng.uniform(0, 18)
    while x < WIDTH:
        width = rng.uniform(30, 52)
        _house_front(c, rng, x, width, rng.uniform(8, 40), horizon)
        x += width
    c.box((190, 188, 190), 0, horizon, WIDTH, 10)
    c.box((150, 148, 152), 0, horizon + 10, WIDTH, 3)
    c.gradient(horizon + 13, HEIGHT, (108, 110, 118), jitter(rng, (84, 86, 94), 5))
    row, start = horizon + 28, rng.uniform(-20, 0)
    for i in range(8):
        left = start + i * 34
        c.polygon((240, 238, 226), [(left, row), (left + 17, row), (left + 15, row + 3),
                                    (left - 3, row + 3)])  # fmt: skip
    if rng.random() < 0.4:
        left = rng.choice((6, 150))
        for i in range(5):
            x = left + i * 14
            c.polygon((226, 226, 222, 190), [(x, horizon + 14), (x + 7, horizon + 14),
                                             (x + 3, HEIGHT), (x - 8, HEIGHT)])  # fmt: skip


_FRONTS = ((206, 130, 104), (222, 190, 146), (150, 168, 190), (196, 160, 170), (172, 190, 160),
           (226, 210, 182), (160, 132, 124))  # fmt: skip
_AWNINGS = ((206, 64, 58), (52, 120, 160), (60, 140, 90), (224, 160, 50))


def _house_front(c: Canvas, rng: Random, x: float, width: float, top: float, bottom: float) -> None:
    wall = jitter(rng, rng.choice(_FRONTS), 10)
    c.box(wall, x, top, width, bottom - top)
    c.box(mix(wall, (40, 36, 40), 0.25), x, top, width, 3)
    c.box(mix(wall, (40, 36, 40), 0.18), x, top, 1, bottom - top)
    columns = max(2, int(width // 13))
    step = width / columns
    y = top + 8
    while y < bottom - 24:
        for i in range(columns):
            lit = c.time == "night" and rng.random() < 0.55
            glass = (255, 222, 130) if lit else (128, 164, 190)
            c.box(glass, x + step * (i + 0.25), y, step * 0.5, 8, glow=lit)
        y += 14
    shop_lit = c.time == "night"
    c.box((255, 226, 150) if shop_lit else (96, 120, 138), x + 4, bottom - 14, width - 8, 14,
          glow=shop_lit)  # fmt: skip
    c.box(rng.choice(_AWNINGS), x + 2, bottom - 18, width - 4, 5)


def paint_farm(c: Canvas, rng: Random, horizon: float) -> None:
    """Rolling fields in rows, hay bales, a wooden fence and a silo far away."""
    paint_sky(c, rng, horizon)
    c.ridge(rng, jitter(rng, (150, 196, 112), 8), horizon - 4, 7)
    x, side = rng.choice(((26, 1), (196, -1)))
    c.box((196, 204, 210), x, horizon - 30, 9, 28)  # the silo and its shed
    c.oval((150, 160, 170), x + 4.5, horizon - 30, 4.5, 4)
    c.box((176, 72, 60), x + 11 * side, horizon - 14, 16, 12)
    c.ridge(rng, jitter(rng, (206, 196, 104), 10), horizon + 3, 3)
    vanish = rng.uniform(40, 184)
    for i in range(-14, 16):  # furrows
        c.line((160, 150, 66), 0.7, [(vanish + i * 9, horizon + 3), (112 + i * 34, horizon + 32)])
    c.gradient(horizon + 24, HEIGHT, jitter(rng, (136, 186, 78), 8), jitter(rng, (100, 152, 58), 8))
    for _ in range(rng.randint(1, 2)):
        bale, row = rng.uniform(10, 214), horizon + rng.uniform(10, 16)
        c.oval((222, 186, 84), bale, row, 9, 8)
        c.oval((190, 150, 58), bale, row, 5, 4.5)
    wood, row = jitter(rng, (158, 112, 66), 8), horizon + 22
    for post in range(rng.randint(-10, 0), WIDTH, 22):
        c.box(wood, post, row - 6, 4, 18)
    for dy in (-2, 5):
        c.box(mix(wood, (255, 255, 255), 0.12), 0, row + dy, WIDTH, 2.5)
    c.specks(rng, (78, 130, 44), horizon + 36, HEIGHT, 50, tall=4)


def paint_savanna(c: Canvas, rng: Random, horizon: float) -> None:
    """Golden grass under a hazy sky, with flat-topped acacias."""
    paint_sky(c, rng, horizon, clouds=False, haze=(252, 228, 176))
    c.ridge(rng, jitter(rng, (188, 168, 140), 6), horizon - 4, 6)
    c.gradient(horizon, HEIGHT, jitter(rng, (230, 196, 110), 8), jitter(rng, (196, 148, 62), 8))
    for _ in range(rng.randint(2, 3)):
        x, size = rng.choice((rng.uniform(8, 66), rng.uniform(158, 216))), rng.uniform(0.7, 1.3)
        row = horizon + 8 * size
        c.line((96, 72, 48), 2 * size, [(x, row), (x + 2, row - 20 * size)])
        c.line(
            (96, 72, 48), 1.4 * size, [(x + 1, row - 12 * size), (x + 12 * size, row - 24 * size)]
        )
        for dx, dy, rx in ((0, -24, 20), (6, -29, 15), (-6, -21, 12)):
            leaf = jitter(rng, (112, 128, 58), 8)
            c.oval(leaf, x + dx * size, row + dy * size, rx * size, 4.6 * size)
    c.specks(rng, (166, 120, 44), horizon + 4, HEIGHT, 110, tall=6)
    c.specks(rng, (246, 218, 140), horizon + 10, HEIGHT, 50, tall=5)


def paint_snowy_mountain(c: Canvas, rng: Random, horizon: float) -> None:
    """White peaks, a snow slope and dark firs in the distance."""
    paint_sky(c, rng, horizon, clouds=rng.random() < 0.5)
    x = -rng.uniform(10, 40)
    while x < WIDTH:
        width, peak = rng.uniform(70, 110), horizon - rng.uniform(34, 58)
        top = x + width * rng.uniform(0.4, 0.6)
        rock = jitter(rng, (124, 140, 168), 8)
        c.polygon(rock, [(x, horizon + 6), (top, peak), (x + width, horizon + 6)])
        drop = (horizon - peak) * 0.45
        cap = [(top - drop * 0.75, peak + drop), (top, peak), (top + drop * 0.75, peak + drop),
               (top + drop * 0.3, peak + drop * 0.8), (top, peak + drop * 1.15),
               (top - drop * 0.35, peak + drop * 0.75)]  # fmt: skip
        c.polygon((246, 250, 255), cap)
        x += width * 0.62
    c.ridge(rng, (226, 236, 248), horizon + 2, 4)
    for x in range(rng.randint(-8, 4), WIDTH, rng.randint(13, 20)):
        row, h = horizon + rng.uniform(4, 9), rng.uniform(9, 17)
        fir = jitter(rng, (62, 104, 92), 8)
        c.polygon(fir, [(x - h * 0.32, row), (x, row - h), (x + h * 0.32, row)])
    c.gradient(horizon + 16, HEIGHT, (244, 248, 255), jitter(rng, (214, 226, 244), 5))
    c.ridge(rng, (244, 248, 255), horizon + 16, 4, bottom=horizon + 30)
    for _ in range(3):
        row = rng.uniform(horizon + 34, HEIGHT - 6)
        c.oval((196, 212, 236, 110), rng.uniform(0, WIDTH), row, rng.uniform(30, 60), 3)
    if rng.random() < 0.6:
        for _ in range(40):
            r = rng.uniform(0.6, 1.4)
            c.oval((255, 255, 255, 230), rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), r, r,
                   glow=True)  # fmt: skip


def paint_forest(c: Canvas, rng: Random, horizon: float) -> None:
    """Trunks behind trunks under a dark green roof of leaves."""
    c.gradient(0, horizon, jitter(rng, (96, 150, 88), 8), jitter(rng, (190, 216, 140), 10))
    for x in range(rng.randint(-10, 0), WIDTH, 11):
        bark = jitter(rng, (132, 150, 104), 10)
        c.box(bark, x + rng.uniform(-3, 3), 0, rng.uniform(2, 4), horizon)
    for x in range(rng.randint(-20, 0), WIDTH + 10, 24):
        h, leaf = rng.uniform(46, 74), jitter(rng, (66, 120, 74), 10)
        for part in (0.0, 0.3, 0.6):
            half, top = h * (0.2 + 0.14 * part), horizon - h * (1 - part)
            c.polygon(leaf, [(x - half, top + h * 0.42), (x, top), (x + half, top + h * 0.42)])
    c.gradient(horizon, HEIGHT, jitter(rng, (112, 132, 66), 8), jitter(rng, (74, 88, 44), 6))
    for trunk in (
        rng.uniform(-4, 22),
        rng.uniform(40, 70),
        rng.uniform(150, 180),
        rng.uniform(196, 216),
    ):
        width, row = rng.uniform(9, 16), horizon + rng.uniform(4, 14)
        bark = jitter(rng, (96, 68, 46), 8)
        right = trunk + width
        c.polygon(bark, [(trunk, 0), (right, 0), (right + 3, row), (trunk - 3, row)])
        c.box(mix(bark, (30, 20, 14), 0.3), trunk + width * 0.65, 0, width * 0.35, row - 2)
    for x in range(-8, WIDTH + 20, 20):
        leaf = jitter(rng, (44, 98, 52), 12)
        c.oval(leaf, x + rng.uniform(-5, 5), rng.uniform(-4, 6), 18, rng.uniform(10, 18))
    if c.time == "day":
        left = rng.uniform(60, 130)
        for dx in (0, 34, 62):
            top = left + dx
            beam = [(top, 0), (top + 12, 0), (top - 22, HEIGHT), (top - 48, HEIGHT)]
            c.polygon((255, 252, 200, 26), beam)
    c.specks(rng, (176, 130, 60), horizon + 8, HEIGHT, 40)
    c.specks(rng, (86, 140, 60), horizon + 6, HEIGHT, 70, tall=5)


def paint_desert(c: Canvas, rng: Random, horizon: float) -> None:
    """Dune behind dune, with a table mountain far away."""
    paint_sky(c, rng, horizon, clouds=False, haze=(253, 236, 202))
    x = rng.uniform(0, 150)
    mesa = [(x, horizon + 8), (x + 10, horizon - 16), (x + 46, horizon - 16), (x + 58, horizon + 8)]
    c.polygon(jitter(rng, (206, 130, 92), 8), mesa)
    for row, swing, tone in ((0, 6, (244, 202, 128)), (18, 8, (234, 184, 106)),
                             (44, 9, (224, 168, 88))):  # fmt: skip
        sand = jitter(rng, tone, 8)
        crest = c.ridge(rng, sand, horizon + row, swing)
        cut = rng.randint(4, 18)
        part = crest[cut : cut + 10]
        if len(part) > 2:  # the side of the dune that lies in the shade
            foot = [(part[-1][0] + 4, part[-1][1] + 9), (part[0][0] + 34, part[-1][1] + 17)]
            c.polygon((*mix(sand, (150, 84, 40), 0.35), 120), [*part, *foot])
    for i in range(6):
        y = horizon + 52 + i * 9
        ripple = [(x, y + 2 * ((x // 16) % 2)) for x in range(rng.randint(-16, 30), WIDTH, 16)]
        c.line((196, 138, 66, 120), 0.8, ripple)
