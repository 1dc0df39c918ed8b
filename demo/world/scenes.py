"""Scenes: what an image shows and what a caption can say, sampled from the places and kinds."""

from dataclasses import dataclass, replace
from random import Random

from demo.world.kinds import KINDS, MAIN_KINDS, Kind
from demo.world.places import PLACES

TIMES = ("day", "sunset", "night")
RELATIONS = ("next to", "in front of", "behind")
# In the air or afloat nothing stands in front or behind: only beside.
_LOOSE_POSES = frozenset({"fly", "takeoff", "swim", "jump", "surf", "row", "sail", "float", "dock"})
_TIME_WEIGHTS = (70, 18, 12)
_COUNT_WEIGHTS = (72, 18, 10)
_COMPANION_CHANCE = 0.7
_PEOPLE_WEIGHT = 2.0


@dataclass(frozen=True, slots=True)
class Thing:
    """One kind of thing in a scene, `count` times, all in the same color (None: the artwork's)."""

    kind: Kind
    count: int = 1
    color: str | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """A main thing doing something (`pose`) in a place, perhaps with a companion `relation` it.

    `relation` reads main-first: the main thing is `relation` the companion.
    """

    place: str
    time: str
    main: Thing
    pose: str
    companion: Thing | None = None
    relation: str = "next to"


def _sample_thing(rng: Random, kind: Kind, *, may_be_many: bool = True) -> Thing:
    many = kind.herd and may_be_many
    count = rng.choices((1, 2, 3), _COUNT_WEIGHTS)[0] if many else 1
    return Thing(kind, count, rng.choice(kind.colors) if kind.colors else None)


def _sample_companion(rng: Random, place: str, main: Kind, pose: str) -> Thing | None:
    if rng.random() > _COMPANION_CHANCE:
        return None
    names = [name for name in PLACES[place].props if name != main.name]
    name = rng.choice(names)
    if pose == "play" and name == "ball":  # It has the ball that it plays with.
        name = names[0]
    return _sample_thing(rng, KINDS[name], may_be_many=False)


def _sample_time(rng: Random, place: str) -> str:
    return "day" if PLACES[place].indoors else rng.choices(TIMES, _TIME_WEIGHTS)[0]


def _sample_relation(rng: Random, pose: str) -> str:
    return "next to" if pose in _LOOSE_POSES else rng.choice(RELATIONS)


def sample_scene(rng: Random) -> Scene:
    """Draws a scene: every (kind, place) pair is about equally likely, people twice as much."""
    homes = [(kind, place) for kind in MAIN_KINDS for place in kind.homes]
    weights = [_PEOPLE_WEIGHT if kind.family == "person" else 1.0 for kind, _ in homes]
    kind, place = rng.choices(homes, weights)[0]
    pose = rng.choice(kind.homes[place])
    return Scene(
        place=place,
        time=_sample_time(rng, place),
        main=_sample_thing(rng, kind),
        pose=pose,
        companion=_sample_companion(rng, place, kind, pose),
        relation=_sample_relation(rng, pose),
    )


def sample_similar(rng: Random, scene: Scene, *, likeness: float = 0.65) -> Scene:
    """Draws a scene such as retrieval would bring for `scene`.

    The place and the main kind mostly stay; each further property stays with chance `likeness`.
    """
    if rng.random() < 0.12:  # A poor match: something else in the same place, or anything.
        other = sample_scene(rng)
        return other if rng.random() < 0.5 else _same_place(rng, scene)
    kind = scene.main.kind
    fresh = _sample_thing(rng, kind)

    def keep() -> bool:
        return rng.random() < likeness

    pose = scene.pose if keep() else rng.choice(kind.homes[scene.place])
    return replace(
        scene,
        time=scene.time if keep() else _sample_time(rng, scene.place),
        main=Thing(
            kind,
            scene.main.count if keep() else fresh.count,
            scene.main.color if keep() else fresh.color,
        ),
        pose=pose,
        companion=scene.companion if keep() else _sample_companion(rng, scene.place, kind, pose),
        relation=scene.relation if pose == scene.pose else _sample_relation(rng, pose),
    )


def _same_place(rng: Random, scene: Scene) -> Scene:
    kinds = [kind for kind in MAIN_KINDS if scene.place in kind.homes]
    kind = rng.choice(kinds)
    pose = rng.choice(kind.homes[scene.place])
    return replace(
        scene, main=_sample_thing(rng, kind), pose=pose, relation=_sample_relation(rng, pose)
    )
