"""The places of the demo, with the words for them and what may stand about in each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A place where scenes happen.

    Attributes:
        name: The key used everywhere, and the plain noun ("living room").
        phrases: Ways of saying where, ready to follow a verb; the first is the plainest.
        props: Kinds (see `kinds.py`) that stand about here beside the main thing.
        indoors: Indoor places have no weather and no time of day.
    """

    name: str
    phrases: tuple[str, ...]
    props: tuple[str, ...]
    indoors: bool = False


_PLACES = (
    Place(
        "beach",
        ("on the beach", "on a sandy beach", "by the sea", "at the seaside", "on the sand"),
        ("palm tree", "beach umbrella", "ball", "sailboat", "shell"),
    ),
    Place(
        "park",
        ("in the park", "in a green park", "on the grass in a park", "in a city park"),
        ("tree", "ball", "bench", "flower", "bird"),
    ),
    Place(
        "street",
        ("on the street", "on a city street", "on a busy road", "in the city", "downtown"),
        ("traffic light", "building", "car", "stop sign", "bicycle"),
    ),
    Place(
        "farm",
        ("on the farm", "in a farm field", "in a grassy pasture", "at a farm"),
        ("barn", "tree", "corn", "tractor", "rooster"),
    ),
    Place(
        "savanna",
        ("on the savanna", "in the dry grass", "on an African plain", "in the wild grassland"),
        ("tree", "rock", "zebra", "elephant"),
    ),
    Place(
        "snowy mountain",
        ("in the snow", "on a snowy mountain", "on a snowy slope", "on a white hillside"),
        ("pine tree", "snowman", "cabin", "rock"),
    ),
    Place(
        "lake",
        ("on the lake", "on a calm lake", "in the still water", "in a quiet pond"),
        ("sailboat", "duck", "lily", "canoe"),
    ),
    Place(
        "forest",
        ("in the forest", "in the woods", "among the trees", "in a deep green forest"),
        ("pine tree", "tree", "mushroom", "tent"),
    ),
    Place(
        "desert",
        ("in the desert", "in a sandy desert", "among the dunes", "on the dry sand"),
        ("cactus", "rock", "camel", "tent"),
    ),
    Place(
        "harbor",
        ("in the harbor", "in a busy harbor", "near the docks", "on the sea"),
        ("sailboat", "ship", "bird", "anchor"),
    ),
    Place(
        "airport",
        ("at the airport", "on the runway", "on an airport runway", "on the tarmac"),
        ("control tower", "truck", "suitcase", "airplane"),
    ),
    Place(
        "garden",
        ("in the garden", "in a flower garden", "among the flowers", "in a pretty backyard"),
        ("flower", "rose", "tree", "house", "butterfly"),
    ),
    Place(
        "kitchen",
        ("in the kitchen", "on a kitchen counter", "on the counter", "in a small kitchen"),
        ("cup", "apple", "kettle", "knife", "bread"),
        indoors=True,
    ),
    Place(
        "restaurant",
        ("in a restaurant", "on a restaurant table", "at a cafe", "on a checkered tablecloth"),
        ("glass of wine", "fork", "cup", "candle"),
        indoors=True,
    ),
    Place(
        "living room",
        ("in the living room", "on the living room rug", "in a cozy living room", "in the lounge"),
        ("couch", "potted plant", "television", "lamp"),
        indoors=True,
    ),
    Place(
        "bedroom",
        ("in the bedroom", "in a tidy bedroom", "on the bedroom floor", "in a small bedroom"),
        ("bed", "teddy bear", "lamp", "window"),
        indoors=True,
    ),
    Place(
        "office",
        ("in the office", "on an office desk", "on a wooden desk", "at a workplace"),
        ("cup", "pencil", "lamp", "book"),
        indoors=True,
    ),
)

PLACES = {place.name: place for place in _PLACES}
