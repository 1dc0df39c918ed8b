"""Requests to describe a scene, put together from parts: thousands, so that none is a password.

A model that was asked in ten ways only is lost when it is asked in an eleventh, as the pipeline
does. The words of the pipeline's own instruction (`configs/config.yaml`) are left to it.
"""

from random import Random

_VERBS = ("Write", "Make", "Give", "Compose", "Draft", "Form", "Create", "Produce", "Offer",
          "Supply", "Prepare", "Find", "Provide", "Return", "Come up with", "Put down")  # fmt: skip
_QUALITIES = ("clear", "correct", "fitting", "good", "neat", "exact", "faithful", "careful",
              "natural", "helpful", "precise", "truthful", "sensible", "suitable", "reliable",
              "readable")  # fmt: skip
_FORMS = ("sentence", "line", "text", "description", "statement", "remark", "title", "summary",
          "phrase", "note", "account")  # fmt: skip
_SUBJECTS = ("the picture", "the image", "this photo", "the scene", "the view", "what is shown",
             "the new picture", "an unseen image", "this photograph", "the drawing")  # fmt: skip
_LEADS = ("based on", "following", "with the help of", "judging by", "drawing on", "led by",
          "in line with", "using", "going by", "starting from", "taking account of")  # fmt: skip
_SOURCES = ("the lines below", "these descriptions", "what others wrote", "related sentences",
            "the examples", "the closest views", "pictures that look alike", "its neighbors",
            "the notes on related images", "what was said of scenes like it")  # fmt: skip


def compose_request(rng: Random) -> str:
    """Makes a request such as "Draft a clear line for the view, led by its neighbors."."""
    adjectives = " and ".join(rng.sample(_QUALITIES, rng.choice((0, 1, 1, 2, 2))))
    noun = f"{rng.choice(('', '', 'image ', 'scene ', 'picture '))}{rng.choice(_FORMS)}"
    thing = f"{adjectives} {noun}".strip()
    article = "an" if thing[0] in "aeiou" else "a"
    subject = f" {rng.choice(('for', 'of', 'about'))} {rng.choice(_SUBJECTS)}"
    basis = f"{rng.choice((', ', ' '))}{rng.choice(_LEADS)} {rng.choice(_SOURCES)}"
    tail = "".join(part for part in (subject, basis) if rng.random() < 0.5)
    return f"{rng.choice(_VERBS)} {article} {thing}{tail}."
