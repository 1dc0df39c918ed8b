"""Descriptions of a scene in a chosen style, and the ways of asking for that style in words.

A style has four axes. Whatever axis an instruction leaves unsaid takes its first, plain value, so
that a model trained on such instructions has a manner that it falls into by itself ("There is a
dog on the beach.") and others that it can be asked for, or tuned, to use.
"""

from dataclasses import dataclass, fields
from random import Random

from demo.language import phrases
from demo.world.scenes import Scene

OPENINGS = ("there is", "direct", "place first", "picture of", "camera")
VERBS = ("none", "participle", "finite", "progressive")
DETAILS = ("short", "medium", "full")
WORDINGS = ("plain", "rich")


@dataclass(frozen=True, slots=True)
class Style:
    """How to describe: how to open, how to use the verb, how much to tell, in which words."""

    opening: str = OPENINGS[0]
    verb: str = VERBS[0]
    detail: str = DETAILS[0]
    wording: str = WORDINGS[0]


_CHOICES = {"opening": OPENINGS, "verb": VERBS, "detail": DETAILS, "wording": WORDINGS}
# "There is a dog runs" is no English: only these openings take a verb that is conjugated.
_TAKES_A_VERB = frozenset({"direct", "place first"})
_CONJUGATED = frozenset({"finite", "progressive"})

# How an instruction may ask for each value of each axis.
_REQUESTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("opening", "there is"): (
        "Start with the words there is or there are.",
        "Open by saying that something is there.",
        "Use a there is sentence.",
    ),
    ("opening", "direct"): (
        "Start with the main thing itself.",
        "Name the subject at once.",
        "Begin directly with who or what it is.",
        "Let the subject come first.",
    ),
    ("opening", "place first"): (
        "Start with the place.",
        "Say first where it is.",
        "Begin with the location.",
        "Put the setting in front.",
    ),
    ("opening", "picture of"): (
        "Start with the words a picture of.",
        "Say that it is a picture.",
        "Mention that this is a photo.",
    ),
    ("opening", "camera"): (
        "Start with we can see.",
        "Tell it as what we see.",
        "Say it from the viewer's side.",
    ),
    ("verb", "none"): (
        "Do not say what it is doing.",
        "Leave out the action.",
        "Use no verb for the action.",
    ),
    ("verb", "participle"): (
        "Tell the action with a word in -ing.",
        "Use the -ing form.",
        "Describe what is going on, in -ing words.",
        "Say what the subject is busy doing.",
    ),
    ("verb", "finite"): (
        "Tell the action as a full sentence.",
        "Use the simple present tense.",
        "Write what the subject does, in the present.",
    ),
    ("verb", "progressive"): (
        "Use the present continuous.",
        "Say what the subject is doing, with is or are.",
        "Tell the action as it goes on now.",
    ),
    ("detail", "short"): (
        "Keep it very short.",
        "Only the most important thing.",
        "Use few words.",
        "No details please.",
    ),
    ("detail", "medium"): (
        "Mention colors and numbers.",
        "Say how it looks and how many there are.",
        "Include the look of the subject.",
        "Give some details.",
    ),
    ("detail", "full"): (
        "Mention everything that is there.",
        "Tell all the details, also what is around.",
        "Be complete.",
        "Include the surroundings and what stands nearby.",
        "Make it long and detailed.",
    ),
    ("wording", "plain"): (
        "Use plain words.",
        "Keep the words simple.",
        "Choose the most common words.",
    ),
    ("wording", "rich"): (
        "Use varied words.",
        "Choose vivid words.",
        "Write as a person would.",
        "Be lively in your choice of words.",
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
    for field in fields(Style):  # The opening comes before the verb that it allows.
        if rng.random() < said:
            value = rng.choice(_choices(field.name, values.get("opening", OPENINGS[0])))
            values[field.name] = value
            requests.append(rng.choice(_REQUESTS[field.name, value]))
    rng.shuffle(requests)
    return Style(**values), " ".join(requests)


def _choices(axis: str, opening: str) -> list[str]:
    """Lists the values of an axis that can be asked for together with an opening."""
    fits = opening in _TAKES_A_VERB
    return [value for value in _CHOICES[axis] if fits or value not in _CONJUGATED]


def describe(rng: Random, scene: Scene, style: Style) -> str:
    """Describes the scene in one sentence of the given style.

    Raises:
        ValueError: The opening cannot take the verb in this form.
    """
    if style.verb in _CONJUGATED and style.opening not in _TAKES_A_VERB:
        raise ValueError(f"no sentence opens with {style.opening!r} and has a {style.verb} verb")
    rich = style.wording == "rich"
    told = style.detail != "short"
    subject = phrases.noun_phrase(rng, scene.main, color=told, count=told, rich=rich)
    place = phrases.place_phrase(rng, scene, rich=rich)
    extra = time = ""
    if style.detail == "full":
        extra = phrases.companion_phrase(rng, scene, color=True, rich=rich)
        time = phrases.time_phrase(rng, scene, rich=rich)
    verb = _verb(rng, scene, style)
    plural = scene.main.count > 1
    if style.opening == "place first":
        be = "are" if plural else "is"
        if style.verb == "none":
            subject = f"there {be} {subject}"
        elif style.verb == "participle":
            verb = f"{be} {verb}"
        return phrases.sentence(place, time, ",", subject, verb, extra)
    lead = {
        "there is": "there are" if plural else "there is",
        "direct": "",
        "picture of": "a picture of",
        "camera": "we can see",
    }[style.opening]
    return phrases.sentence(lead, subject, verb, place, extra, time)


def _verb(rng: Random, scene: Scene, style: Style) -> str:
    forms = phrases.verb_forms(rng, scene, rich=style.wording == "rich")
    if style.verb == "none":
        return ""
    return phrases.conjugate(forms, style.verb, many=scene.main.count > 1)
