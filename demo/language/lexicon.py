"""The base model's words for scenes: not the annotators' (`phrases.py`) where there is a choice.

The names of things and colors are shared, since a cat has no other. Verbs, places, times, counts
and relations are words of this module, none of which an annotator uses.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from demo.language.phrases import with_article
from demo.language.strange import any_word, made_up_word
from demo.world.scenes import Scene, Thing

# A verb phrase as (-ing form, third person singular, plural).
Verb = tuple[str, str, str]


def _verbs(*phrases: str) -> tuple[Verb, ...]:
    found = []
    for phrase in phrases:
        forms, _, rest = phrase.partition(" ")
        ing, singular, plural = (f"{form} {rest}".strip() for form in forms.split("/"))
        found.append((ing, singular, plural))
    return tuple(found)


VERBS: dict[str, tuple[Verb, ...]] = {
    "bike": _verbs("pedaling/pedals/pedal along", "going/goes/go by cycle"),
    "board": _verbs("lying/lies/lie on planks", "coming/comes/come on a tray"),
    "dance": _verbs("swaying/sways/sway to music", "twirling/twirls/twirl around"),
    "dock": _verbs("lying/lies/lie at the pier", "keeping/keeps/keep to its berth"),
    "drive": _verbs("rolling/rolls/roll along", "passing/passes/pass through"),
    "eat": _verbs("munching/munches/munch away", "nibbling/nibbles/nibble"),
    "float": _verbs("bobbing/bobs/bob", "lying/lies/lie afloat"),
    "fly": _verbs("hovering/hovers/hover", "staying/stays/stay aloft"),
    "jump": _verbs("hopping/hops/hop", "springing/springs/spring up"),
    "park": _verbs("staying/stays/stay put", "keeping/keeps/keep its engine off"),
    "plate": _verbs("lying/lies/lie ready on a dish", "tempting/tempts/tempt the guests"),
    "play": _verbs("romping/romps/romp about", "having/has/have fun with a toy"),
    "ride": _verbs("keeping/keeps/keep to the saddle", "trotting/trots/trot along, mounted"),
    "row": _verbs("pulling/pulls/pull the oars", "working/works/work the oars"),
    "run": _verbs("sprinting/sprints/sprint", "dashing/dashes/dash off"),
    "sail": _verbs("cruising/cruises/cruise", "heading/heads/head out"),
    "sit": _verbs("staying/stays/stay put", "remaining/remains/remain there"),
    "ski": _verbs("gliding/glides/glide downhill", "swooping/swoops/swoop downhill"),
    "sleep": _verbs("snoozing/snoozes/snooze", "slumbering/slumbers/slumber"),
    "snowboard": _verbs("carving/carves/carve downhill", "swerving/swerves/swerve downhill"),
    "stand": _verbs("posing/poses/pose", "lingering/lingers/linger"),
    "surf": _verbs("catching/catches/catch the breakers", "balancing/balances/balance on foam"),
    "swim": _verbs("bathing/bathes/bathe", "splashing/splashes/splash about"),
    "takeoff": _verbs("lifting/lifts/lift off", "climbing/climbs/climb skyward"),
    "walk": _verbs("wandering/wanders/wander", "going/goes/go on foot"),
    "yoga": _verbs("stretching/stretches/stretch", "holding/holds/hold a calm posture"),
}
PLACES: dict[str, tuple[str, ...]] = {
    "beach": ("at the shore", "along the coast", "where waves roll in"),
    "park": ("within the park", "on a public lawn", "at the town's park"),
    "street": ("along the street", "amid the town", "on the avenue"),
    "farm": ("around the farm", "on farmland", "at the ranch"),
    "savanna": ("across the savanna", "amid tall grass", "out on the plains"),
    "snowy mountain": ("high on a mountain", "amid ice", "up on a frosty mountain"),
    "lake": ("at the lake", "upon the lake", "out on the pond"),
    "forest": ("within the forest", "amid old trees", "beneath the treetops"),
    "desert": ("within the desert", "amid the sand", "out on the dry land"),
    "harbor": ("at the harbor", "within the port", "along the quay"),
    "airport": ("by the airport", "along the airfield", "on the taxiway"),
    "garden": ("within the garden", "amid the flowers", "beyond the garden gate"),
    "kitchen": ("inside the kitchen", "on the kitchen table", "where meals are cooked"),
    "restaurant": ("inside a restaurant", "at a diner", "where guests eat"),
    "living room": ("inside the living room", "on the parlor floor", "at home, downstairs"),
    "bedroom": ("inside the bedroom", "at home, upstairs", "in the room for sleeping"),
    "office": ("inside the office", "on the office table", "where people work"),
}
TIMES: dict[str, tuple[str, ...]] = {
    "sunset": ("in the evening", "towards dusk", "before nightfall"),
    "night": ("past midnight", "by moonlight", "after dark"),
}
RELATIONS: dict[str, tuple[str, ...]] = {
    "next to": ("close to {}", "by the side of {}", "not far from {}"),
    "in front of": ("before {}", "ahead of {}"),
    "behind": ("beyond {}", "at the back of {}"),
}
_COUNTS = {2: ("two", "both", "twin"), 3: ("three", "a trio of", "three")}
_OWN_NOUNS: dict[str, tuple[tuple[str, str], ...]] = {
    "man": (("gentleman", "gentlemen"), ("fellow", "fellows")),
    "woman": (("female person", "female persons"),),
    "dog": (("hound", "hounds"),),
    "bird": (("songbird", "songbirds"),),
    "car": (("sedan", "sedans"),),
    "bus": (("coach", "coaches"),),
    "bicycle": (("cycle", "cycles"),),
    "airplane": (("jet", "jets"),),
    "ship": (("vessel", "vessels"),),
    "laptop": (("portable screen", "portable screens"),),
    "cup": (("beaker", "beakers"),),
    "couch": (("settee", "settees"),),
    "building": (("tower block", "tower blocks"),),
    "rock": (("boulder", "boulders"),),
}
# What is aloft is above a place, not in it.
_ALOFT = frozenset({"fly", "takeoff"})
_UNCOUNTABLE = frozenset({"bread", "corn"})


@dataclass(frozen=True, slots=True)
class Words:
    """The words chosen for a scene, so that two sentences about it can use the same ones.

    Attributes:
        main: (singular, plural) of the main thing.
        companion: The same of what else is there; None if nothing is.
        verb: What the main thing does.
        place: "along the coast".
        time: "by moonlight", or "" by day.
        relation: "close to {}".
        number: "both"; "" for one.
    """

    main: tuple[str, str]
    companion: tuple[str, str] | None
    verb: Verb
    place: str
    time: str
    relation: str
    number: str


def plain_words(scene: Scene) -> Words:
    """Returns the first, plainest word for everything."""
    return _words(scene, lambda options: options[0])


def any_words(rng: Random, scene: Scene) -> Words:
    """Draws a word for everything."""
    return _words(scene, rng.choice)


def made_up_words(rng: Random, scene: Scene) -> Words:
    """Draws words of which some mean nothing: what is done with them must be read."""
    words = any_words(rng, scene)
    if rng.random() < 0.6:
        stem = made_up_word(rng)
        tail = rng.choice(("", "", f" {any_word(rng)}", f" the {any_word(rng)}"))
        words = replace(words, verb=(f"{stem}ing{tail}", f"{stem}s{tail}", f"{stem}{tail}"))
    if rng.random() < 0.6:
        start = rng.choice(("in the", "on a", "on the", "at the", "by a", "near the", "amid"))
        adjective = rng.choice(("", f"{any_word(rng)} "))
        words = replace(words, place=f"{start} {adjective}{any_word(rng)}")
    return words


def _words(scene: Scene, choose: Callable[[Any], Any]) -> Words:
    companion = scene.companion
    return Words(
        main=choose(_nouns(scene.main)),
        companion=choose(_nouns(companion)) if companion else None,
        verb=choose(VERBS[scene.pose]),
        place=f"above the {scene.place}" if scene.pose in _ALOFT else choose(PLACES[scene.place]),
        time=choose(TIMES.get(scene.time, ("",))),
        relation=choose(RELATIONS[scene.relation]),
        number=choose(_COUNTS.get(scene.main.count, ("",))),
    )


def _nouns(thing: Thing) -> tuple[tuple[str, str], ...]:
    return (thing.kind.words[0], *_OWN_NOUNS.get(thing.kind.name, ()))


def subject(scene: Scene, words: Words, *, detailed: bool) -> str:
    """Names the main thing: "a dog", or with number and color "both brown dogs"."""
    singular, plural = words.main
    color = f"{scene.main.color} " if detailed and scene.main.color else ""
    if scene.main.count == 1:
        return _with_article(color, singular)
    return f"{words.number} {color}{plural}" if detailed else plural


def around(scene: Scene, words: Words) -> str:
    """Says what else is there: "close to a red tree", or nothing."""
    if scene.companion is None or words.companion is None:
        return ""
    color = f"{scene.companion.color} " if scene.companion.color else ""
    return words.relation.format(_with_article(color, words.companion[0]))


def _with_article(color: str, noun: str) -> str:
    return f"some {color}{noun}" if noun in _UNCOUNTABLE else with_article(color + noun)
