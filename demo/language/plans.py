"""The base model's sentences: plans of its own, and how an instruction asks for each in words.

No plan is the annotators': they begin with the subject, and its verb follows ("A dog running in
the park next to a tree."); here the place comes before the verb, or something else comes first.
What an instruction leaves unsaid takes its plain value, so that the model has a way to answer by
itself ("There is a dog.") and others that it can be asked for, or tuned, to use.
"""

from dataclasses import dataclass, fields
from random import Random

from demo.language import lexicon
from demo.language.lexicon import Words
from demo.language.phrases import sentence
from demo.world.scenes import Scene

PLANS = ("there is", "setting", "label", "viewer", "subject", "relative", "frame", "report",
         "moment", "pointing", "next door")  # fmt: skip
DETAILS = ("least", "color", "all")
WORDINGS = ("kept", "plain", "own")


@dataclass(frozen=True, slots=True)
class Style:
    """How to describe: the sentence's plan, how much to include, and in which words."""

    plan: str = PLANS[0]
    detail: str = DETAILS[0]
    wording: str = WORDINGS[0]


_CHOICES = {"plan": PLANS, "detail": DETAILS, "wording": WORDINGS}
_REQUESTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("plan", "there is"): (
        "Say what there is.",
        "Begin with there is or there are.",
        "State that something is there.",
    ),
    ("plan", "setting"): (
        "Open with the location.",
        "Where it happens comes first.",
        "Lead with the setting.",
    ),
    ("plan", "label"): (
        "As a label, place and colon first.",
        "Make it a heading with a colon.",
        "In the manner of a file label.",
    ),
    ("plan", "viewer"): (
        "From the viewer's side.",
        "Begin with someone watches.",
        "Let someone watch it.",
    ),
    ("plan", "subject"): (
        "Who or what comes first, then where, then the deed.",
        "Begin with who or what it is and where.",
        "Subject, location, deed: in this order.",
    ),
    ("plan", "relative"): (
        "As one thing that does something.",
        "With a clause that begins with that.",
        "No full sentence: the thing and a clause.",
    ),
    ("plan", "frame"): (
        "As if framed on a wall.",
        "Begin with a framed view.",
        "Call it a view.",
    ),
    ("plan", "report"): (
        "As a report of the deed.",
        "The deed comes first.",
        "Begin with what goes on.",
    ),
    ("plan", "moment"): (
        "Open with the time.",
        "When it happens comes first, then who does what.",
        "Tell it as a moment.",
    ),
    ("plan", "pointing"): (
        "Point at it.",
        "Begin with look.",
        "Call out first, then tell who does what.",
    ),
    ("plan", "next door"): (
        "What is around comes first.",
        "Begin with the surroundings, then who does what.",
        "Open with what else there is.",
    ),
    ("detail", "least"): (
        "As short as it gets.",
        "Only what matters most.",
        "Leave the rest out.",
    ),
    ("detail", "color"): (
        "With number and color.",
        "Name the color and how many.",
        "Some detail will do.",
    ),
    ("detail", "all"): (
        "Leave nothing out.",
        "With everything around it.",
        "Every detail counts.",
    ),
    ("wording", "kept"): (
        "Keep the words.",
        "With the words given.",
        "In the same words.",
    ),
    ("wording", "plain"): (
        "Simple words only.",
        "With everyday words.",
        "Keep to basic words.",
    ),
    ("wording", "own"): (
        "Pick unusual words.",
        "With a colorful vocabulary.",
        "Vary the words.",
    ),
}


def sample_style(rng: Random, *, said: float = 0.6) -> tuple[Style, str]:
    """Draws a style and the words that ask for it.

    Args:
        rng: The source of chance.
        said: The chance of each axis to be asked for; the others keep their plain value.

    Returns:
        The style, and the requests in random order ("" when nothing is asked for).
    """
    values: dict[str, str] = {}
    requests = []
    for field in fields(Style):
        if rng.random() < said:
            value = rng.choice(_CHOICES[field.name])
            values[field.name] = value
            requests.append(rng.choice(_REQUESTS[field.name, value]))
    rng.shuffle(requests)
    return Style(**values), " ".join(requests)


def any_style(rng: Random) -> Style:
    """Draws a style for a sentence that is read, not answered."""
    return sample_style(rng, said=0.85)[0]


def answer(rng: Random, scene: Scene, style: Style, *, read: Words) -> str:
    """Describes a scene in a style, in the wording that the style asks for.

    Args:
        rng: Chooses among synonyms.
        scene: What to describe.
        style: How to describe it.
        read: The words in which the input tells of the scene.
    """
    if style.wording == "plain":
        return describe(scene, lexicon.plain_words(scene), style)
    if style.wording == "own":
        return describe(scene, lexicon.any_words(rng, scene), style)
    return describe(scene, read, style)


def describe(scene: Scene, words: Words, style: Style) -> str:
    """Describes a scene in one sentence of the given plan and detail, in the given words."""
    subject = lexicon.subject(scene, words, detailed=style.detail != "least")
    place, around, time = words.place, "", ""
    if style.detail == "all":
        around, time = lexicon.around(scene, words), words.time
    many = scene.main.count > 1
    ing, singular, plural = words.verb
    deed = plural if many else singular
    be = "are" if many else "is"
    parts = {
        "there is": (f"there {be}", subject, around, "," if around else "", place, time),
        "setting": (place, time, ",", be, subject, around),
        "label": (scene.place, ":", subject, around, time),
        "viewer": ("someone watches", subject, around, place, time),
        "subject": (subject, place, around, deed, time),
        "relative": (subject, ", which", deed, ",", around, place, time),
        "frame": ("a view", time, "with", subject, around, place),
        "report": (ing, place, around, time, ":", subject),
        "moment": (time or "by day", ",", subject, deed, place, around),
        "pointing": ("look,", subject, be, ing, place, around, time),
        "next door": (around or "right here", ",", subject, ing, place, time),
    }
    return sentence(*parts[style.plan])
