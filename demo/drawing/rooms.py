"""Indoor places seen down to the floor: living room and bedroom."""

from random import Random

from demo.drawing.canvas import HEIGHT, WHITE, WIDTH, Canvas, Color, jitter, mix, paint_wall


def paint_living_room(c: Canvas, rng: Random, edge: float) -> None:
    """Wooden floor with an oval rug, images, and a fireplace or a curtained window."""
    paint_wall(c, rng, ((236, 222, 192), (196, 212, 190), (226, 202, 186), (190, 206, 216)), edge)
    spots = [30, 186]
    rng.shuffle(spots)
    (_fireplace if rng.random() < 0.5 else _curtains)(c, rng, spots[0], edge)
    _frames(c, rng, spots[1])
    c.box(WHITE, 0, edge - 5, WIDTH, 5)
    _boards(
        c, rng, edge, jitter(rng, rng.choice(((196, 142, 92), (172, 118, 74), (214, 170, 118))), 6)
    )
    rug = rng.choice(((184, 66, 62), (70, 104, 150), (210, 150, 80), (96, 140, 120)))
    for rx, ry, color in ((104, 25, mix(rug, (30, 20, 20), 0.2)), (98, 22.5, (240, 226, 196)),
                           (90, 20, rug), (60, 13, mix(rug, (250, 236, 206), 0.45)),
                           (52, 11, rug)):  # fmt: skip
        c.oval(color, 112, 135, rx, ry)


def _boards(c: Canvas, rng: Random, top: float, wood: Color) -> None:
    """A wooden floor in perspective."""
    c.gradient(top, HEIGHT, mix(wood, (70, 44, 24), 0.2), wood)
    shift = rng.uniform(0, 24)
    for i in range(-16, 20):
        x = 112 + i * 24 + shift
        c.line(
            (*mix(wood, (60, 36, 20), 0.45), 150),
            0.8,
            [(112 + (x - 112) * 0.6, top), (x * 1.6 - 67, HEIGHT)],
        )


def _fireplace(c: Canvas, rng: Random, x: float, edge: float) -> None:
    brick = jitter(rng, (176, 102, 84), 8)
    c.box(brick, x - 28, edge - 52, 56, 52)
    for i in range(5):
        c.line(
            mix(brick, WHITE, 0.35),
            0.6,
            [(x - 28, edge - 44 + i * 10), (x + 28, edge - 44 + i * 10)],
        )
    c.box((126, 84, 54), x - 32, edge - 56, 64, 6)
    c.box((44, 34, 32), x - 16, edge - 34, 32, 34)
    for dx, h, color in (
        (-6, 18, (244, 120, 40)),
        (5, 22, (250, 150, 50)),
        (0, 14, (255, 220, 110)),
    ):
        c.polygon(color, [(x + dx - 7, edge - 3), (x + dx, edge - 3 - h), (x + dx + 7, edge - 3)])
    c.box((100, 66, 42), x - 13, edge - 5, 26, 4)


def _curtains(c: Canvas, rng: Random, x: float, edge: float) -> None:
    c.box(WHITE, x - 25, 14, 50, 54)
    c.box((168, 212, 240), x - 22, 17, 44, 48)
    c.oval((150, 200, 130), x - 4, 66, 24, 10)
    c.box((150, 200, 130), x - 22, 60, 44, 5)
    c.box(WHITE, x - 1, 14, 2, 54)
    c.box(WHITE, x - 25, 40, 50, 2)
    cloth = jitter(rng, rng.choice(((196, 90, 80), (96, 130, 168), (206, 168, 96))), 8)
    for side in (-1, 1):
        inner, outer = x + side * 15, x + side * 34
        c.polygon(
            cloth, [(inner, 10), (outer, 10), (outer, edge - 8), (inner + side * 9, edge - 8)]
        )
        c.line(mix(cloth, (20, 20, 20), 0.2), 0.8, [(x + side * 25, 12), (x + side * 28, edge - 8)])
    c.box((120, 84, 56), x - 38, 8, 76, 3)


def _frames(c: Canvas, rng: Random, x: float) -> None:
    for dx, dy, w, h in ((-26, 16, 24, 30), (4, 22, 28, 20)):
        c.box((120, 88, 60), x + dx, dy, w, h)
        c.box(jitter(rng, rng.choice(((240, 214, 170), (170, 204, 214), (226, 170, 150))), 10),
              x + dx + 3, dy + 3, w - 6, h - 6)  # fmt: skip
        c.oval(jitter(rng, (120, 150, 110), 30), x + dx + w / 2, dy + h * 0.6, w * 0.22, h * 0.18)


def paint_bedroom(c: Canvas, rng: Random, edge: float, *, bed: bool = True) -> None:
    """Patterned wallpaper, a carpet, and a bed (or, without `bed`, a wardrobe) by the wall."""
    wall = paint_wall(
        c, rng, ((206, 196, 232), (244, 208, 214), (196, 218, 238), (208, 228, 210)), edge
    )
    dot = mix(wall, WHITE, 0.55)
    for j, y in enumerate(range(8, int(edge) - 10, 15)):
        for x in range(6 + 9 * (j % 2), WIDTH, 18):
            c.oval(dot, x, y, 1.8, 1.8)
    c.box(WHITE, 0, edge - 5, WIDTH, 5)
    carpet = jitter(rng, rng.choice(((214, 196, 204), (188, 198, 218), (226, 212, 190))), 8)
    c.gradient(edge, HEIGHT, mix(carpet, (90, 80, 100), 0.15), carpet)
    c.specks(rng, mix(carpet, (110, 96, 110), 0.3), edge + 2, HEIGHT, 60)
    if bed:
        _bed(c, rng, rng.choice((-6, 106)), edge)
    else:
        _wardrobe(c, rng, rng.choice((6, 168)), edge)
    mat = jitter(rng, mix(wall, (255, 255, 255), 0.3), 6)
    c.oval(mix(mat, (120, 110, 130), 0.3), 112, 138, 78, 15)
    c.oval(mat, 112, 137.5, 74, 13.5)


def _bed(c: Canvas, rng: Random, x: float, edge: float) -> None:
    wood = jitter(rng, rng.choice(((150, 104, 68), (226, 214, 200), (112, 82, 66))), 8)
    quilt = jitter(
        rng, rng.choice(((96, 130, 196), (214, 110, 124), (120, 170, 140), (180, 140, 200))), 8
    )
    c.box(wood, x, edge - 46, 124, 46)
    c.box(mix(wood, WHITE, 0.2), x + 5, edge - 41, 114, 30)
    for dx in (14, 66):
        c.oval((236, 236, 244), x + dx + 22, edge - 17, 22, 9)
        c.oval((252, 252, 255), x + dx + 22, edge - 19, 20, 7.5)
    c.box(quilt, x - 3, edge - 13, 130, 24)
    c.box(mix(quilt, WHITE, 0.7), x - 3, edge - 14, 130, 6)
    for dx in range(4, 126, 14):
        c.line(mix(quilt, WHITE, 0.3), 1, [(x + dx, edge - 8), (x + dx, edge + 10)])
    for dx in (0, 116):
        c.box(mix(wood, (30, 20, 20), 0.2), x + dx, edge + 11, 6, 6)


def _wardrobe(c: Canvas, rng: Random, x: float, edge: float) -> None:
    wood = jitter(rng, rng.choice(((176, 128, 86), (230, 222, 210))), 8)
    c.box(wood, x, 14, 52, edge - 8)
    for dx in (3, 27):
        c.box(mix(wood, WHITE, 0.25), x + dx, 19, 22, edge - 22)
    for dx in (22, 28):
        c.box((110, 90, 70), x + dx, 52, 2, 9)
