"""Scenes that never happen: known things where they do not belong, and things of made-up names.

A model that sees each kind only in its homes learns to guess it from the place, and calls five
zebras an elephant. What it cannot guess it must read.
"""

from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random

from demo.world.kinds import KINDS, MAIN_KINDS, Kind
from demo.world.places import PLACES
from demo.world.scenes import RELATIONS, Scene, Thing

# Surfing brings a place of its own along, whatever the scene's is.
_TIED_POSES = frozenset({"surf"})
_MADE_UP_SHARE = 0.4
# Words without sentences: a model that cannot spell what it reads cannot retell it.
ENGLISH = tuple((Path(__file__).parent / "words.txt").read_text(encoding="utf-8").split())
_ENGLISH_SHARE = 0.65
_COLORS = ("red", "blue", "green", "yellow", "white", "black", "brown", "gray", "orange")
_HEADS = ("b", "br", "d", "dr", "f", "fl", "g", "gl", "k", "l", "m", "n", "p", "pl", "r", "s", "st",
          "t", "tr", "v", "w", "z")  # fmt: skip
_TAILS = ("b", "ck", "d", "g", "l", "m", "mp", "n", "nd", "nk", "p", "r", "rd", "t", "")
_SYLLABLES = tuple("".join(parts) for parts in product(_HEADS, "aeiou", _TAILS))
_KNOWN_WORDS = frozenset(
    word for kind in KINDS.values() for pair in kind.words for word in " ".join(pair).split()
)


def estranged(rng: Random, scene: Scene) -> Scene:
    """Puts another main thing into the scene, and perhaps another companion, as chance will."""
    kind = _stranger(rng)
    poses = [pose for poses in kind.homes.values() for pose in poses if pose not in _TIED_POSES]
    place, pose = rng.choice(list(PLACES)), rng.choice(poses)
    # Similar scenes draw from the homes of their kind: this one is at home here.
    kind = replace(kind, homes={place: (pose,)})
    companion = scene.companion
    if companion is not None and rng.random() < 0.5:
        companion = Thing(_stranger(rng))
    return replace(
        scene,
        place=place,
        time="day" if PLACES[place].indoors else scene.time,
        main=Thing(kind, scene.main.count, rng.choice((None, *kind.colors))),
        pose=pose,
        companion=companion,
        relation=rng.choice(RELATIONS),
    )


def _stranger(rng: Random) -> Kind:
    """Draws any kind, and often gives it another name."""
    kind = rng.choice(MAIN_KINDS)
    if rng.random() >= _MADE_UP_SHARE:
        return kind
    word = made_up_word(rng)
    words = ((word, f"{word}s"),)
    return replace(kind, name=word, words=words, colors=_COLORS, herd=True)


def any_word(rng: Random) -> str:
    """Draws a word of common English, or makes one up."""
    return rng.choice(ENGLISH) if rng.random() < _ENGLISH_SHARE else made_up_word(rng)


def made_up_word(rng: Random) -> str:
    """Makes up a word that means nothing."""
    while True:
        word = "".join(rng.choices(_SYLLABLES, k=rng.choice((1, 2, 2, 3))))
        if len(word) > 2 and word not in _KNOWN_WORDS:
            return word
