"""Sentence patterns, thousands of them: a way to put things that no request has a name for.

Where a pattern is wanted, the input has examples of it. A model that can go on in a manner that it
reads, whatever the manner, is steered by more than the few styles it was told the names of. No
pattern is the annotators': none begins with a subject that is followed by its deed.
"""

from dataclasses import dataclass
from random import Random

from demo.language import lexicon
from demo.language.lexicon import Words
from demo.language.phrases import sentence
from demo.language.strange import any_word
from demo.world.scenes import Scene

_PARTS = ("subject", "deed", "place", "around", "time")
_OPENINGS = ("", "", "", "look:", "now", "again", "seen:", "here:", "right then,")
_JOINTS = ("", "", "", "", ",", ",", ";", ":", "/", "and", "while")
_STRANGE_JOINT = 0.15
# How often a line of several tells the color, what else is there, and the time.
_MENTION = 0.8


@dataclass(frozen=True, slots=True)
class Pattern:
    """An order of a sentence's parts, and what stands before and between them.

    Attributes:
        order: The parts.
        joints: What stands before each part but the first.
        opening: What stands before all of them.
        deed: 0 for the verb's -ing form, 1 for its finite form.
    """

    order: tuple[str, ...]
    joints: tuple[str, ...]
    opening: str
    deed: int


def draw_pattern(rng: Random) -> Pattern:
    """Draws any pattern that is not the annotators': subject first, then its deed."""
    order, opening = rng.sample(_PARTS, len(_PARTS)), rng.choice(_OPENINGS)
    # The place is the one part that every sentence has.
    while not opening and order.index("subject") < order.index("deed") < order.index("place"):
        rng.shuffle(order)
    joints = (
        any_word(rng) if rng.random() < _STRANGE_JOINT else rng.choice(_JOINTS) for _ in order[1:]
    )
    return Pattern(tuple(order), tuple(joints), opening, rng.randrange(2))


def arrange(scene: Scene, words: Words, pattern: Pattern, rng: Random | None = None) -> str:
    """Describes a scene in one sentence of a pattern.

    Args:
        scene: What to describe.
        words: The words to use.
        pattern: How to put it.
        rng: Chooses what is left unsaid; None for nothing.
    """

    def said() -> bool:
        return rng is None or rng.random() < _MENTION

    ing, singular, plural = words.verb
    parts = {
        "subject": lexicon.subject(scene, words, detailed=said()),
        "deed": ing if pattern.deed == 0 else plural if scene.main.count > 1 else singular,
        "place": words.place,
        "around": lexicon.around(scene, words) if said() else "",
        "time": words.time if said() else "",
    }
    texts = [pattern.opening]
    for joint, name in zip(("", *pattern.joints), pattern.order, strict=True):
        if parts[name]:
            texts += [joint if len(texts) > 1 else "", parts[name]]
    return sentence(*texts)
