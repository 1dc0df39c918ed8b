"""Indoor places seen over a table top: kitchen, restaurant and office."""

from itertools import pairwise
from random import Random

from demo.drawing.canvas import HEIGHT, WHITE, WIDTH, Canvas, Color, jitter, mix, paint_wall


def paint_kitchen(c: Canvas, rng: Random, edge: float) -> None:
    """A counter before a tiled wall with cupboards above."""
    tile = paint_wall(c, rng, ((222, 236, 232), (240, 230, 208), (206, 224, 236)), edge)
    size = rng.choice((13, 16))
    for x in range(rng.randint(-12, 0), WIDTH, size):
        c.line(mix(tile, (120, 130, 130), 0.22), 0.8, [(x, 30), (x, edge)])
    for y in range(30, int(edge), size):
        c.line(mix(tile, (120, 130, 130), 0.22), 0.8, [(0, y), (WIDTH, y)])
    cupboard = jitter(
        rng, rng.choice(((104, 150, 146), (196, 148, 96), (236, 238, 236), (120, 140, 176)))
    )
    c.box(cupboard, 0, 0, WIDTH, 30)
    for x in range(rng.randint(-30, -2), WIDTH, 46):
        c.box(mix(cupboard, (30, 30, 30), 0.25), x, 0, 1.2, 30)
        c.box(mix(cupboard, WHITE, 0.25), x + 5, -2, 36, 26)
        c.box(mix(cupboard, (30, 30, 30), 0.5), x + 36, 12, 2, 8)
    c.box(mix(cupboard, (30, 30, 30), 0.35), 0, 30, WIDTH, 2)
    rail = rng.uniform(10, 120)
    c.box((140, 144, 150), rail, 44, 84, 1.6)
    for i, part in enumerate(rng.sample(("pan", "spoon", "ladle", "pan", "spoon"), 4)):
        hook = rail + 12 + i * 20
        c.box((110, 114, 120), hook - 0.8, 45, 1.6, 14)
        r = {"pan": 7, "spoon": 3, "ladle": 4.5}[part]
        c.oval((92, 96, 104) if part == "pan" else (176, 180, 186), hook, 60 + r * 0.6, r, r)
    stone = jitter(rng, rng.choice(((216, 204, 188), (190, 196, 202), (206, 164, 116))), 8)
    c.gradient(edge, 150, mix(stone, (90, 80, 70), 0.12), mix(stone, WHITE, 0.2))
    c.specks(rng, mix(stone, (90, 80, 70), 0.35), edge + 2, 148, 40)
    c.box(mix(stone, (60, 50, 40), 0.35), 0, 150, WIDTH, 3)
    c.box(mix(cupboard, (20, 20, 20), 0.12), 0, 153, WIDTH, 7)


def paint_restaurant(c: Canvas, rng: Random, edge: float) -> None:
    """A table with a checkered cloth in a warm room with hanging lamps."""
    wall = paint_wall(c, rng, ((168, 84, 66), (120, 92, 76), (92, 116, 96), (150, 104, 60)), edge)
    c.box(mix(wall, (40, 24, 18), 0.45), 0, edge - 30, WIDTH, 30)
    for x in range(rng.randint(-20, 0), WIDTH, 22):
        c.box(mix(wall, (30, 18, 12), 0.62), x, edge - 28, 1.2, 28)
    c.box(mix(wall, (30, 18, 12), 0.6), 0, edge - 32, WIDTH, 3)
    for x in rng.sample((28, 84, 140, 196), 2):
        c.box((224, 190, 120), x - 12, 30, 24, 20)
        image = rng.choice(((150, 186, 190), (206, 150, 120), (170, 180, 120)))
        c.box(image, x - 10, 32, 20, 16)
    for lamp in (rng.uniform(30, 54), rng.uniform(100, 124), rng.uniform(170, 194)):
        y = rng.uniform(14, 22)
        c.line((50, 40, 36), 1, [(lamp, 0), (lamp, y)])
        for r, alpha in ((22, 30), (14, 50)):
            c.oval((255, 226, 150, alpha), lamp, y + 8, r, r)
        c.polygon(
            (60, 48, 44), [(lamp - 4, y), (lamp + 4, y), (lamp + 11, y + 9), (lamp - 11, y + 9)]
        )
        c.oval((255, 240, 190), lamp, y + 10, 5, 3)
    cloth = rng.choice(((206, 50, 48), (206, 50, 48), (46, 110, 170), (60, 140, 84)))
    _checks(c, rng, edge, jitter(rng, cloth, 10))


def _checks(c: Canvas, rng: Random, top: float, color: Color) -> None:
    """A checkered tablecloth in perspective, from row `top` down."""
    c.gradient(top, HEIGHT, (236, 232, 226), WHITE)
    rows = [top, *(top + (HEIGHT - top) * share for share in (0.09, 0.21, 0.37, 0.58, 0.86, 1.2))]
    shift = rng.uniform(-10, 10)

    def at(column: int, y: float) -> tuple[float, float]:
        return (112 + (column * 17 + shift) * (0.62 + 0.55 * (y - top) / (HEIGHT - top)), y)

    for i, (upper, lower) in enumerate(pairwise(rows)):
        for column in range(-11 + i % 2, 11, 2):
            c.polygon(color, [at(column, upper), at(column + 1, upper),
                               at(column + 1, lower), at(column, lower)])  # fmt: skip
    c.polygon((255, 255, 255, 40), [(0, top), (WIDTH, top), (WIDTH, HEIGHT), (0, HEIGHT)])


def paint_office(c: Canvas, rng: Random, edge: float) -> None:
    """A wooden desk before a wall with a whiteboard and shelves of binders."""
    paint_wall(c, rng, ((214, 222, 230), (226, 224, 216), (200, 214, 216)), edge)
    board, shelf = rng.choice(((10, 126), (118, 8)))
    _whiteboard(c, rng, board)
    _shelves(c, rng, shelf)
    wood = jitter(rng, rng.choice(((198, 150, 100), (170, 118, 76), (222, 186, 140))), 6)
    c.gradient(edge, 151, mix(wood, (80, 50, 30), 0.18), mix(wood, WHITE, 0.12))
    for _ in range(7):
        y = rng.uniform(edge + 4, 148)
        x = rng.uniform(-20, 180)
        c.line(
            (*mix(wood, (80, 48, 24), 0.4), 110), 0.7, [(x, y), (x + rng.uniform(30, 90), y + 0.6)]
        )
    c.box(mix(wood, (50, 30, 20), 0.45), 0, 151, WIDTH, 9)
    x = rng.choice((14, 158))
    for dx, dy in ((0, 0), (5, 3)):
        sheet = [
            (x + dx, 116 + dy),
            (x + 34 + dx, 114 + dy),
            (x + 42 + dx, 130 + dy),
            (x + 4 + dx, 133 + dy),
        ]
        c.polygon((250 - 10 * (dx == 0), 250, 252), sheet)
    for i in range(4):
        c.line((170, 176, 190), 0.8, [(x + 13 + i, 121 + i * 3), (x + 36 + i, 119.6 + i * 3)])


def _whiteboard(c: Canvas, rng: Random, board: float) -> None:
    c.box((150, 156, 164), board, 14, 96, 58)
    c.box((252, 253, 255), board + 3, 17, 90, 52)
    for i in range(5):  # a chart
        h = rng.uniform(8, 34)
        bar = rng.choice(((90, 150, 220), (240, 140, 90), (110, 190, 130)))
        c.box(bar, board + 12 + i * 10, 62 - h, 7, h)
    for i in range(4):
        c.line(
            (120, 130, 150),
            1,
            [(board + 66, 26 + i * 9), (board + 66 + rng.uniform(10, 22), 26 + i * 9)],
        )


def _shelves(c: Canvas, rng: Random, shelf: float) -> None:
    for y in (40, 78):
        x = shelf + 2.0
        while x < shelf + 82:
            w, h = rng.uniform(6, 9), rng.uniform(20, 27)
            binder = rng.choice(
                ((70, 110, 170), (190, 70, 66), (80, 150, 110), (230, 190, 90), (90, 96, 110))
            )
            c.box(jitter(rng, binder, 10), x, y - h, w, h)
            c.box(WHITE, x + 1.5, y - h + 5, w - 3, 6)
            x += w + 0.6
        c.box((150, 112, 78), shelf - 3, y, 92, 3.5)
