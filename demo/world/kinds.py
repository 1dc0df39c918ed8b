"""The kinds of things in the demo: their words, their artwork, and where they belong.

`homes` says in which places a kind can be the main thing of a scene and what it can be doing
there. A kind without homes only stands about as a prop.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of thing.

    Attributes:
        name: The key and the plainest word for it ("fire truck").
        family: person, animal, vehicle, food or thing: decides the verbs.
        glyph: The emoji drawn for it. A person's glyph depends on the pose (`sprites.py`).
        homes: Place name -> poses it may take there.
        words: (singular, plural) pairs, synonyms; the first is the plainest.
        colors: Colors it can be drawn in and described with; () keeps the glyph's own.
        height: Height in the image relative to a dog's, for a main thing.
        herd: Whether it also comes in twos and threes.
        supercategory: COCO's coarse grouping, for the instances file.
    """

    name: str
    family: str
    glyph: str
    homes: dict[str, tuple[str, ...]]
    words: tuple[tuple[str, str], ...]
    colors: tuple[str, ...]
    height: float
    herd: bool
    supercategory: str


def _plural(word: str) -> str:
    head, *rest = word.split(" of ")
    if head.endswith(("s", "x", "ch", "sh")):
        head += "es"
    elif head.endswith("y") and head[-2] not in "aeiou":
        head = head[:-1] + "ies"
    else:
        head += "s"
    return " of ".join([head, *rest])


def _words(spec: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for word in spec.split("|"):
        singular, _, plural = word.partition("/")
        pairs.append((singular, plural or _plural(singular)))
    return tuple(pairs)


def _homes(spec: str) -> dict[str, tuple[str, ...]]:
    homes = {}
    for entry in filter(None, spec.split(";")):
        place, _, poses = entry.partition(":")
        homes[place.strip()] = tuple(poses.split())
    return homes


def _kind(
    words: str,
    family: str,
    glyph: str,
    homes: str = "",
    colors: str = "",
    *,
    height: float = 1.0,
    herd: bool = False,
) -> Kind:
    pairs = _words(words)
    return Kind(
        name=pairs[0][0],
        family=family,
        glyph=glyph,
        homes=_homes(homes),
        words=pairs,
        colors=tuple(colors.split()),
        height=height,
        herd=herd,
        supercategory=_SUPERCATEGORIES[family],
    )


_SUPERCATEGORIES = {
    "person": "person",
    "animal": "animal",
    "vehicle": "vehicle",
    "food": "food",
    "thing": "object",
}

_FUR = "brown white black gray"
_PAINT = "red blue green yellow white"

_PEOPLE = (
    _kind(
        "man/men|guy",
        "person",
        "🧍‍♂️",
        "beach:surf walk; street:walk bike; park:run yoga; snowy mountain:ski; lake:row;"
        "farm:ride; living room:dance",
        height=1.25,
    ),
    _kind(
        "woman/women|lady",
        "person",
        "🧍‍♀️",
        "beach:surf walk; street:walk bike; park:run yoga; snowy mountain:snowboard; lake:swim;"
        "living room:dance yoga",
        height=1.25,
    ),
)

_ANIMALS = (
    _kind("dog|puppy", "animal", "🐕", "park:run play sleep; beach:run play; living room:sleep stand", _FUR, herd=True),
    _kind("cat|kitten", "animal", "🐈", "living room:sleep play; bedroom:sleep stand; garden:stand run", "orange gray black white", herd=True),
    _kind("horse", "animal", "🐎", "farm:run eat stand", "brown black white", height=1.3, herd=True),
    _kind("cow", "animal", "🐄", "farm:eat stand sleep", "white brown black", height=1.25, herd=True),
    _kind("sheep/sheep|lamb", "animal", "🐑", "farm:eat stand; snowy mountain:stand", "white black", herd=True),
    _kind("pig", "animal", "🐖", "farm:sleep eat stand", height=1.0, herd=True),
    _kind("rooster|chicken", "animal", "🐓", "farm:stand run", height=0.85, herd=True),
    _kind("goat", "animal", "🐐", "snowy mountain:stand jump; farm:eat", "white brown", herd=True),
    _kind("duck", "animal", "🦆", "lake:swim fly; park:stand", height=0.8, herd=True),
    _kind("swan", "animal", "🦢", "lake:swim sleep", height=0.95, herd=True),
    _kind("bird", "animal", "🐦", "garden:fly stand; harbor:fly", "blue red yellow", height=0.75, herd=True),
    _kind("owl", "animal", "🦉", "forest:stand fly", height=0.85),
    _kind("parrot", "animal", "🦜", "forest:fly stand", "green red blue", height=0.85, herd=True),
    _kind("elephant", "animal", "🐘", "savanna:stand eat run", height=1.5, herd=True),
    _kind("giraffe", "animal", "🦒", "savanna:stand eat run", height=1.6, herd=True),
    _kind("zebra", "animal", "🦓", "savanna:run eat stand", height=1.2, herd=True),
    _kind("rhino", "animal", "🦏", "savanna:stand run sleep", height=1.25, herd=True),
    _kind("leopard", "animal", "🐆", "savanna:run sleep; forest:jump", height=1.0),
    _kind("camel", "animal", "🐫", "desert:stand run sleep", "brown white", height=1.35, herd=True),
    _kind("kangaroo", "animal", "🦘", "desert:jump stand", height=1.2, herd=True),
    _kind("monkey", "animal", "🐒", "forest:eat jump stand", height=0.95, herd=True),
    _kind("deer/deer", "animal", "🦌", "forest:stand run eat; snowy mountain:stand", height=1.25, herd=True),
    _kind("rabbit|bunny", "animal", "🐇", "garden:jump eat; forest:stand", "white brown gray", height=0.8, herd=True),
    _kind("turtle", "animal", "🐢", "beach:stand sleep; lake:swim", height=0.75, herd=True),
    _kind("crab", "animal", "🦀", "beach:stand run", height=0.7, herd=True),
    _kind("penguin", "animal", "🐧", "snowy mountain:stand jump", height=0.9, herd=True),
    _kind("butterfly", "animal", "🦋", "garden:fly stand", "blue orange yellow", height=0.75, herd=True),
    _kind("dolphin", "animal", "🐬", "harbor:jump swim", height=1.1, herd=True),
)  # fmt: skip

_VEHICLES = (
    _kind("car|automobile", "vehicle", "🚗", "street:drive park; desert:drive", _PAINT, height=0.95, herd=True),
    _kind("bus", "vehicle", "🚌", "street:drive park", "yellow red blue green white", height=1.25),
    _kind("truck|lorry", "vehicle", "🚚", "street:drive park", _PAINT, height=1.2),
    _kind("fire truck|fire engine", "vehicle", "🚒", "street:drive park", height=1.2),
    _kind("motorcycle|motorbike", "vehicle", "🏍", "street:park drive; desert:drive", "red blue green", height=1.0),
    _kind("bicycle|bike", "vehicle", "🚲", "park:park; street:park", "red blue green", height=1.05, herd=True),
    _kind("airplane|plane", "vehicle", "🛩", "airport:park takeoff fly", "white red blue", height=1.15, herd=True),
    _kind("helicopter", "vehicle", "🚁", "airport:park fly; harbor:fly", "red blue yellow", height=1.15),
    _kind("sailboat|sailing boat", "vehicle", "⛵", "harbor:sail; lake:sail", "red blue white", height=1.2, herd=True),
    _kind("ship", "vehicle", "🚢", "harbor:sail dock", height=1.35),
    _kind("canoe|boat", "vehicle", "🛶", "lake:float", "brown red blue", height=0.85),
    _kind("tractor", "vehicle", "🚜", "farm:drive park", "green red blue", height=1.2),
)  # fmt: skip

_FOOD = (
    _kind("pizza", "food", "🍕", "restaurant:plate board; kitchen:board", height=1.1),
    _kind("hamburger|burger", "food", "🍔", "restaurant:plate board", height=1.0, herd=True),
    _kind("hot dog/hot dogs", "food", "🌭", "restaurant:plate", height=0.95, herd=True),
    _kind("sandwich", "food", "🥪", "kitchen:plate board; office:plate", height=0.95, herd=True),
    _kind("cake", "food", "🎂", "kitchen:plate board; restaurant:plate", height=1.1),
    _kind("donut|doughnut", "food", "🍩", "office:plate; restaurant:plate", height=0.9, herd=True),
    _kind("banana", "food", "🍌", "kitchen:plate board", height=0.95, herd=True),
    _kind("apple", "food", "🍎", "kitchen:plate board; office:sit", "red green yellow", height=0.85, herd=True),
    _kind("bowl of noodles|bowl of soup", "food", "🍜", "restaurant:sit; kitchen:sit", height=1.0, herd=True),
    _kind("salad", "food", "🥗", "restaurant:sit; kitchen:sit", height=1.0),
)  # fmt: skip

_THINGS = (
    _kind("laptop|computer", "thing", "💻", "office:sit; bedroom:sit", height=1.1, herd=True),
    _kind("book", "thing", "📕", "office:sit; bedroom:sit", "red blue green", height=0.9, herd=True),
    _kind("clock|alarm clock", "thing", "⏰", "bedroom:sit; office:sit", "red blue green", height=0.95),
    _kind("teddy bear|stuffed bear", "thing", "🧸", "bedroom:sit; living room:sit", height=1.0, herd=True),
    _kind("television|TV", "thing", "📺", "living room:sit", height=1.15),
    _kind("guitar", "thing", "🎸", "living room:sit; bedroom:sit", "red blue brown", height=1.15),
    _kind("potted plant|house plant", "thing", "🪴", "living room:sit; office:sit", height=1.1, herd=True),
    _kind("suitcase|travel bag", "thing", "🧳", "airport:sit; bedroom:sit", "brown red blue", height=0.95, herd=True),
    _kind("kite", "thing", "🪁", "beach:fly; park:fly", "red blue green", height=0.95, herd=True),
    _kind("umbrella|parasol", "thing", "☂", "garden:sit; street:sit", "red blue green", height=1.1),
)  # fmt: skip

_PROPS = tuple(
    _kind(words, "thing", glyph, height=height)
    for words, glyph, height in (
        ("palm tree", "🌴", 1.7),
        ("beach umbrella", "⛱", 1.1),
        ("ball", "⚽", 0.45),
        ("shell", "🐚", 0.45),
        ("tree", "🌳", 1.6),
        ("bench/benches", "🪑", 0.8),
        ("flower", "🌻", 0.8),
        ("rose", "🌹", 0.65),
        ("traffic light", "🚦", 1.2),
        ("building", "🏢", 2.0),
        ("stop sign", "🛑", 0.8),
        ("barn", "🏚", 1.5),
        ("corn/corn", "🌽", 0.7),
        ("rock", "🪨", 0.7),
        ("pine tree", "🌲", 1.6),
        ("snowman/snowmen", "⛄", 0.95),
        ("cabin", "🛖", 1.3),
        ("lily", "🪷", 0.5),
        ("mushroom", "🍄", 0.55),
        ("tent", "⛺", 1.1),
        ("cactus", "🌵", 1.3),
        ("anchor", "⚓", 0.7),
        ("control tower", "🗼", 1.9),
        ("house", "🏠", 1.6),
        ("cup|mug", "☕", 0.65),
        ("kettle|teapot", "🫖", 0.75),
        ("knife/knives", "🔪", 0.6),
        ("bread/bread", "🍞", 0.7),
        ("glass of wine", "🍷", 0.8),
        ("fork", "🍴", 0.65),
        ("candle", "🕯", 0.75),
        ("couch|sofa", "🛋", 1.3),
        ("lamp", "💡", 0.7),
        ("bed", "🛏", 1.35),
        ("window", "🪟", 1.1),
        ("pencil", "✏", 0.6),
    )
)

KINDS = {kind.name: kind for kind in _PEOPLE + _ANIMALS + _VEHICLES + _FOOD + _THINGS + _PROPS}
MAIN_KINDS = tuple(kind for kind in KINDS.values() if kind.homes)
