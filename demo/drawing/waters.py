"""Places with water or an open plain of concrete: beach, lake, harbor, airport, and the garden."""

from math import sin
from random import Random

from demo.drawing.canvas import HEIGHT, WIDTH, Canvas, Color, Point, jitter, mix
from demo.drawing.sky import paint_sky


def _paint_water(c: Canvas, rng: Random, top: float, bottom: float, *, deep: bool) -> None:
    far: Color
    near: Color
    far, near = ((48, 132, 190), (24, 96, 158)) if deep else ((134, 198, 222), (52, 138, 182))
    far, near = jitter(rng, far, 10), jitter(rng, near, 10)
    c.gradient(top, bottom, far, near)
    if c.time == "sunset":
        c.gradient(top, top + (bottom - top) * 0.4, (244, 160, 110), c.lit(mix(far, near, 0.4)),
                   glow=True)  # fmt: skip
    for _ in range(26):
        y = top + (bottom - top) * rng.random() ** 1.4
        length = 4 + 16 * (y - top) / (bottom - top)
        x = rng.uniform(-10, WIDTH)
        c.line((255, 255, 255, 70), 0.7, [(x, y), (x + length, y)])


def paint_beach(c: Canvas, rng: Random, horizon: float, *, surf: bool = False) -> None:
    """Sea and sand with a line of foam; `surf`: nearly all sea, with big waves."""
    paint_sky(c, rng, horizon)
    shore = HEIGHT - 8 if surf else horizon + rng.uniform(30, 36)
    _paint_water(c, rng, horizon, shore + 6, deep=False)
    if surf:
        for row, height in ((horizon + 12, 5), (horizon + 34, 9), (horizon + 62, 13)):
            water = mix((60, 160, 196), (24, 112, 168), (row - horizon) / 70)
            crest = c.ridge(rng, jitter(rng, water, 8), row, height, bottom=row + 2.2 * height)
            for alpha, thick in ((80, 0.75), (225, 0.32)):
                edge = [(x, y + height * thick) for x, y in reversed(crest)]
                c.polygon((255, 255, 255, alpha), [*crest, *edge])
    phase = rng.uniform(0, 6)
    edge = [(float(x), shore + 2.5 * sin(x / 17 + phase)) for x in range(0, WIDTH + 8, 8)]
    corners: list[Point] = [(WIDTH, HEIGHT), (0, HEIGHT)]
    c.polygon((255, 255, 255, 230), [(x, y - 4) for x, y in edge] + corners)
    c.polygon((214, 184, 130), edge + corners)
    sand = jitter(rng, (246, 222, 164), 8)
    c.polygon(sand, [(x, y + 7) for x, y in edge] + corners)
    if not surf:
        c.gradient(shore + 14, HEIGHT, sand, jitter(rng, (228, 192, 124), 6))
        c.specks(rng, (206, 168, 104), shore + 14, HEIGHT, 60)
        c.specks(rng, (255, 240, 200), shore + 14, HEIGHT, 30)


def paint_lake(c: Canvas, rng: Random, horizon: float) -> None:
    """Still water before wooded hills, with reeds in a corner."""
    paint_sky(c, rng, horizon)
    c.ridge(rng, jitter(rng, (128, 170, 150), 8), horizon - 12, 9)
    c.ridge(rng, jitter(rng, (92, 148, 100), 8), horizon - 3, 5)
    for x in range(0, WIDTH + 8, 9):
        h = rng.uniform(5, 11)
        c.oval(jitter(rng, (70, 126, 78), 10), x, horizon - h * 0.4, 6, h * 0.7)
    _paint_water(c, rng, horizon, HEIGHT, deep=False)
    c.gradient(horizon, horizon + 9, (84, 140, 116), (112, 174, 178))
    for x0 in rng.sample((-4, 192), rng.randint(1, 2)):
        c.oval((112, 150, 70), x0 + 18, HEIGHT + 4, 34, 12)
        for _ in range(9):
            reed, h = x0 + rng.uniform(0, 36), rng.uniform(18, 40)
            top = (reed + rng.uniform(-5, 5), HEIGHT - h)
            c.line(jitter(rng, (78, 128, 58), 10), 1.2, [(reed, HEIGHT), top])
            if rng.random() < 0.5:
                c.oval((122, 78, 44), top[0], top[1] + 3, 1.6, 4.5)


def paint_harbor(c: Canvas, rng: Random, horizon: float, *, side: int = 1) -> None:
    """The sea before a quay with warehouses and cranes, a lighthouse, and a pier on a side."""
    paint_sky(c, rng, horizon)
    quay_left = rng.random() < 0.5
    left = 0 if quay_left else 84
    c.box((150, 142, 136), left, horizon - 5, 140, 8)
    x: float = left + 4
    while x < left + 112:
        width, height = rng.uniform(18, 28), rng.uniform(12, 20)
        wall = jitter(rng, rng.choice(((196, 96, 78), (92, 130, 164), (220, 186, 120))), 8)
        c.box(wall, x, horizon - 4 - height, width, height)
        roof = [(x - 1, horizon - 4 - height), (x + width / 2, horizon - 10 - height),
                (x + width + 1, horizon - 4 - height)]  # fmt: skip
        c.polygon(mix(wall, (40, 40, 50), 0.4), roof)
        x += width + 3
    x = left + rng.uniform(30, 100)
    crane = jitter(rng, (224, 140, 50), 10)
    c.line(crane, 2, [(x, horizon - 4), (x, horizon - 46), (x + 30, horizon - 34)])
    c.line(crane, 1.2, [(x - 10, horizon - 40), (x, horizon - 46), (x + 30, horizon - 40)])
    c.line((70, 70, 80), 0.8, [(x + 26, horizon - 35), (x + 26, horizon - 20)])
    _lighthouse(c, 196 if quay_left else 24, horizon)
    _paint_water(c, rng, horizon + 2, HEIGHT, deep=True)
    _pier(c, rng, -8 if side < 0 else 178)


def _lighthouse(c: Canvas, x: float, horizon: float) -> None:
    c.oval((128, 124, 120), x, horizon + 3, 18, 5)
    for i, color in enumerate(((214, 58, 52), (246, 244, 240)) * 2):
        y, half = horizon - 8 - i * 9, 7 - i
        c.polygon(
            color, [(x - half, y + 9), (x + half, y + 9), (x + half - 1, y), (x - half + 1, y)]
        )
    c.box((255, 232, 140), x - 3, horizon - 41, 6, 6, glow=c.time != "day")
    c.polygon((190, 48, 44), [(x - 5, horizon - 41), (x, horizon - 47), (x + 5, horizon - 41)])
    if c.time != "day":
        ray = [(x, horizon - 38), (x + 90, horizon - 54), (x + 90, horizon - 30)]
        c.polygon((255, 244, 180, 46), ray, glow=True)


def _pier(c: Canvas, rng: Random, x: float) -> None:
    wood = jitter(rng, (166, 122, 78), 8)
    inner = x + 36 if x > 0 else x + 18
    c.polygon(wood, [(inner - 8, 112), (inner + 8, 112), (x + 56, HEIGHT), (x, HEIGHT)])
    for i in range(6):
        y = 114 + i * i * 1.7
        c.line((116, 80, 48), 0.8, [(x - 6, y), (x + 60, y)] if y > 150 else
               [(inner - 9 - i * 4, y), (inner + 9 + i * 4, y)])  # fmt: skip
    for px, py in ((inner - 10, 116), (inner + 10, 116), (x + 4, 146), (x + 52, 146)):
        c.box((104, 72, 46), px - 2.5, py - 10, 5, 20)
        c.oval((140, 102, 66), px, py - 10, 2.5, 1.2)


def paint_airport(c: Canvas, rng: Random, horizon: float) -> None:
    """A runway with its markings before a glass terminal."""
    paint_sky(c, rng, horizon)
    x = rng.uniform(0, 80)
    c.box((214, 220, 228), x, horizon - 20, 124, 20)
    lights = c.time != "day"
    c.box((255, 226, 150) if lights else (104, 152, 186), x + 3, horizon - 14, 118, 9, glow=lights)
    for i in range(1, 12):
        c.box((214, 220, 228), x + i * 10, horizon - 14, 1.2, 9)
    roof = [(x - 5, horizon - 20), (x + 62, horizon - 27), (x + 129, horizon - 20)]
    c.polygon((176, 186, 198), roof)
    c.box(jitter(rng, (146, 182, 104), 8), 0, horizon, WIDTH, 8)
    c.gradient(horizon + 8, HEIGHT, (164, 166, 172), jitter(rng, (132, 134, 142), 5))
    c.polygon((98, 100, 108), [(0, horizon + 20), (WIDTH, horizon + 20), (WIDTH, 142), (0, 142)])
    start = rng.uniform(-24, 0)
    for row in (horizon + 22, 139):
        c.box((244, 244, 240), 0, row, WIDTH, 1.4)
    for i in range(7):
        c.box((244, 244, 240), start + i * 40, (horizon + 162) / 2 - 3, 22, 3)
    for i in range(9):
        light = (255, 240, 160) if lights else (240, 190, 70)
        c.oval(light, 8 + i * 26, horizon + 18, 1.3, 1.3, glow=lights)
    pole = rng.choice((14, 206))
    c.box((200, 204, 208), pole, horizon - 18, 1.4, 26)
    c.polygon((240, 120, 40), [(pole + 1, horizon - 18), (pole + 15, horizon - 15),
                               (pole + 15, horizon - 12), (pole + 1, horizon - 10)])  # fmt: skip


_PETALS = ((236, 84, 110), (250, 206, 70), (186, 110, 214), (255, 150, 70), (250, 250, 250),
           (240, 120, 180))  # fmt: skip


def paint_garden(c: Canvas, rng: Random, horizon: float) -> None:
    """A lawn between flower beds, with a hedge and a white fence."""
    paint_sky(c, rng, horizon)
    for x in range(-4, WIDTH + 14, 13):
        r = rng.uniform(9, 13)
        c.oval(jitter(rng, (74, 140, 72), 10), x, horizon - 8, r, r * 1.2)
    c.gradient(horizon, HEIGHT, jitter(rng, (140, 204, 100), 8), jitter(rng, (98, 172, 72), 8))
    row = horizon + 2
    for x in range(rng.randint(-6, 0), WIDTH, 9):
        c.polygon((250, 250, 248), [(x, row + 14), (x, row - 10), (x + 3, row - 14),
                                    (x + 6, row - 10), (x + 6, row + 14)])  # fmt: skip
    for dy in (-5, 6):
        c.box((238, 238, 236), 0, row + dy, WIDTH, 3)
    c.gradient(row + 13, row + 22, (92, 150, 66), (106, 166, 76))
    for _ in range(44):
        _flower(c, rng, rng.uniform(0, WIDTH), row + rng.uniform(10, 22), rng.uniform(1.6, 2.4))
    for _ in range(22):
        left = rng.choice((rng.uniform(-4, 58), rng.uniform(166, 228)))
        _flower(c, rng, left, rng.uniform(142, 160), rng.uniform(2.6, 4))
    c.specks(rng, (76, 146, 58), row + 26, HEIGHT, 40, tall=3)


def _flower(c: Canvas, rng: Random, x: float, y: float, r: float) -> None:
    c.line((60, 124, 52), r * 0.4, [(x, y), (x, y + 3 * r)])
    petal = rng.choice(_PETALS)
    for dx, dy in ((-0.7, 0), (0.7, 0), (0, -0.7), (0, 0.7)):
        c.oval(petal, x + dx * r, y + dy * r, r * 0.65, r * 0.65)
    c.oval((250, 216, 80), x, y, r * 0.45, r * 0.45)
