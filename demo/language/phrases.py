"""Small grammar: noun phrases, verbs, places and times of a scene in correct English."""

import re
from random import Random

from demo.world.places import PLACES
from demo.world.scenes import Scene, Thing

# Verb phrases as (participle, third person singular, plural); the first of a pose is the plainest.
_Forms = tuple[str, str, str]


def _regular(participle: str, singular: str, plural: str, rest: str = "") -> _Forms:
    tail = f" {rest}" if rest else ""
    return (participle + tail, singular + tail, plural + tail)


def _passive(participle: str) -> _Forms:
    return (participle, f"is {participle}", f"are {participle}")


_VERBS: dict[str, tuple[_Forms, ...]] = {
    "bike": (
        _regular("riding", "rides", "ride", "a bicycle"),
        _regular("cycling", "cycles", "cycle"),
        _regular("riding", "rides", "ride", "a bike"),
    ),
    "board": (_passive("served on a wooden board"), _passive("placed on a cutting board")),
    "dance": (
        _regular("dancing", "dances", "dance"),
        _regular("doing", "does", "do", "a dance"),
    ),
    "dock": (_passive("docked"), _passive("anchored")),
    "drive": (
        _regular("driving", "drives", "drive"),
        _regular("moving", "moves", "move"),
        _regular("speeding", "speeds", "speed"),
    ),
    "eat": (
        _regular("eating", "eats", "eat"),
        _regular("having", "has", "have", "a meal"),
        _regular("feeding", "feeds", "feed"),
    ),
    "float": (_regular("floating", "floats", "float"), _regular("drifting", "drifts", "drift")),
    "fly": (
        _regular("flying", "flies", "fly"),
        _regular("soaring", "soars", "soar"),
        _regular("gliding", "glides", "glide"),
    ),
    "jump": (
        _regular("jumping", "jumps", "jump"),
        _regular("leaping", "leaps", "leap"),
        _regular("jumping", "jumps", "jump", "in the air"),
    ),
    "park": (
        _passive("parked"),
        _regular("standing", "stands", "stand"),
        _regular("waiting", "waits", "wait"),
    ),
    "plate": (_passive("served on a plate"), _regular("sitting", "sits", "sit", "on a plate")),
    "play": (
        _regular("playing", "plays", "play", "with a ball"),
        _regular("chasing", "chases", "chase", "a ball"),
    ),
    "ride": (
        _regular("riding", "rides", "ride", "a horse"),
        _regular("riding", "rides", "ride", "on horseback"),
    ),
    "row": (
        _regular("rowing", "rows", "row", "a boat"),
        _regular("paddling", "paddles", "paddle", "a boat"),
    ),
    "run": (
        _regular("running", "runs", "run"),
        _regular("racing", "races", "race"),
        _regular("rushing", "rushes", "rush"),
    ),
    "sail": (
        _regular("sailing", "sails", "sail"),
        _regular("floating", "floats", "float"),
    ),
    "sit": (
        _regular("sitting", "sits", "sit"),
        _regular("resting", "rests", "rest"),
        _regular("standing", "stands", "stand"),
    ),
    "ski": (_regular("skiing", "skis", "ski"), _regular("riding", "rides", "ride", "on skis")),
    "sleep": (
        _regular("sleeping", "sleeps", "sleep"),
        _regular("lying", "lies", "lie", "down"),
        _regular("taking", "takes", "take", "a nap"),
    ),
    "snowboard": (
        _regular("snowboarding", "snowboards", "snowboard"),
        _regular("riding", "rides", "ride", "a snowboard"),
    ),
    "stand": (
        _regular("standing", "stands", "stand"),
        _regular("standing", "stands", "stand", "still"),
        _regular("resting", "rests", "rest"),
    ),
    "surf": (
        _regular("surfing", "surfs", "surf"),
        _regular("riding", "rides", "ride", "a wave"),
        _regular("riding", "rides", "ride", "a surfboard"),
    ),
    "swim": (_regular("swimming", "swims", "swim"), _regular("floating", "floats", "float")),
    "takeoff": (
        _regular("taking", "takes", "take", "off"),
        _regular("rising", "rises", "rise", "into the air"),
    ),
    "walk": (
        _regular("walking", "walks", "walk"),
        _regular("strolling", "strolls", "stroll"),
        _regular("taking", "takes", "take", "a walk"),
    ),
    "yoga": (
        _regular("doing", "does", "do", "yoga"),
        _regular("practicing", "practices", "practice", "yoga"),
        _regular("meditating", "meditates", "meditate"),
    ),
}
# What swims does not "float" like a boat, and people run otherwise than animals do.
_PERSON_VERBS: dict[str, tuple[_Forms, ...]] = {
    "run": (_regular("running", "runs", "run"), _regular("jogging", "jogs", "jog")),
    "swim": (_regular("swimming", "swims", "swim"), _regular("taking", "takes", "take", "a swim")),
}
# What sleeps on the water does not lie down.
_AFLOAT_VERBS: dict[str, tuple[_Forms, ...]] = {
    "sleep": (
        _regular("sleeping", "sleeps", "sleep"),
        _regular("dozing", "dozes", "doze"),
        _regular("taking", "takes", "take", "a nap"),
    ),
}
_COUNTS = {
    2: ("two", "two", "a pair of", "a couple of"),
    3: ("three", "three", "a group of", "several"),
}
_TIMES = {
    "sunset": ("at sunset", "at sunset", "during sunset", "as the sun sets"),
    "night": ("at night", "at night", "in the dark", "under the stars"),
}
_RELATIONS = {
    "next to": ("next to {}", "next to {}", "beside {}", "near {}", "with {} nearby"),
    "in front of": ("in front of {}", "in front of {}", "with {} in the background"),
    "behind": ("behind {}", "behind {}", "with {} in front"),
}
# What flies is over a place, not in it; what surfs is not on the sand.
_PREPOSITIONS = {"fly": "over", "takeoff": "from"}
_SURFING = ("at the beach", "at the beach", "in the ocean", "on the open sea", "off the coast")


def with_article(noun: str) -> str:
    """Returns `noun` with "a" or "an" before it."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def noun_phrase(rng: Random, thing: Thing, *, color: bool, count: bool, rich: bool) -> str:
    """Says what the thing is: "a dog", "two brown dogs", "some bread".

    Args:
        rng: Chooses among synonyms.
        thing: What to name.
        color: Whether to say its color (if it has one to say).
        count: Whether to say exactly how many; otherwise a plural is "some dogs".
        rich: Synonyms may be used; otherwise the plainest words.
    """
    singular, plural = rng.choice(thing.kind.words) if rich else thing.kind.words[0]
    adjective = f"{thing.color} " if color and thing.color else ""
    if thing.count == 1:
        if singular in ("bread", "corn"):
            return f"some {adjective}{singular}"
        return with_article(adjective + singular)
    if not count:
        return f"some {adjective}{plural}"
    words = _COUNTS[thing.count]
    return f"{rng.choice(words) if rich else words[0]} {adjective}{plural}"


def verb_forms(rng: Random, scene: Scene, *, rich: bool) -> _Forms:
    """Returns what the main thing does as (participle, singular, plural)."""
    own = _PERSON_VERBS if scene.main.kind.family == "person" else {}
    if scene.place == "lake":
        own = own | _AFLOAT_VERBS
    forms = own.get(scene.pose, _VERBS[scene.pose])
    return rng.choice(forms) if rich else forms[0]


def conjugate(forms: _Forms, form: str, *, many: bool) -> str:
    """Returns the verb as a "participle", in the "progressive", or "finite", for one or many."""
    participle, singular, plural = forms
    return {
        "participle": participle,
        "progressive": f"{'are' if many else 'is'} {participle}",
        "finite": plural if many else singular,
    }[form]


def place_phrase(rng: Random, scene: Scene, *, rich: bool) -> str:
    """Says where: "on a sandy beach"."""
    phrases = _SURFING if scene.pose == "surf" else PLACES[scene.place].phrases
    phrase = rng.choice(phrases) if rich else phrases[0]
    preposition, _, rest = phrase.partition(" ")
    if scene.pose in _PREPOSITIONS and preposition in ("in", "on", "at", "by", "among"):
        return f"{_PREPOSITIONS[scene.pose]} {rest}"
    return phrase


def time_phrase(rng: Random, scene: Scene, *, rich: bool) -> str:
    """Says when: "at sunset", or nothing by day."""
    phrases = _TIMES.get(scene.time, ("",))
    return rng.choice(phrases) if rich else phrases[0]


def companion_phrase(rng: Random, scene: Scene, *, color: bool, rich: bool) -> str:
    """Says what else is there: "next to a tree", or nothing."""
    if scene.companion is None:
        return ""
    relations = _RELATIONS[scene.relation]
    relation = rng.choice(relations) if rich else relations[0]
    return relation.format(noun_phrase(rng, scene.companion, color=color, count=True, rich=rich))


def sentence(*parts: str) -> str:
    """Joins the parts that say something into a sentence with a capital letter and a full stop."""
    text = re.sub(r" (?=[,:])", "", " ".join(part for part in parts if part))
    return f"{text[0].upper()}{text[1:]}."
