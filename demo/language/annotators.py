"""The five annotators: captions of a scene as five people would write them.

They share a manner, as COCO's annotators do: the subject comes first, it is doing something, and
the sentence tells what is around. They differ in form, words and choice of what to mention.
"""

from random import Random

from demo.language import phrases
from demo.world.scenes import Scene

CAPTIONS_PER_IMAGE = 5
_MENTION = {"color": 0.85, "count": 0.9, "companion": 0.8, "time": 0.7}
_FORMS = ("participle", "participle", "participle", "finite", "progressive")
# "A dog running beside a tree in the park" instead of "... in the park beside a tree".
_COMPANION_FIRST = 0.25
_REWRITES = 6


def write_captions(rng: Random, scene: Scene) -> list[str]:
    """Writes the five captions of an image, in random order, different wherever words allow."""
    captions: list[str] = []
    for form in rng.sample(_FORMS, CAPTIONS_PER_IMAGE):
        drafts = (_write(rng, scene, form) for _ in range(_REWRITES))
        draft = next((text for text in drafts if text not in captions), None)
        captions.append(draft or _write(rng, scene, form))
    return captions


def write_brief(rng: Random, scene: Scene, count: int) -> list[str]:
    """Writes captions such as "Dogs in the park." or "Dogs running on the grass."."""
    acts = [rng.choice((False, False, False, True)) for _ in range(count)]
    captions = []
    for act in acts:
        subject = phrases.noun_phrase(rng, scene.main, color=False, count=False, rich=True)
        place = phrases.place_phrase(rng, scene, rich=True)
        forms = phrases.verb_forms(rng, scene, rich=True)
        verb = phrases.conjugate(forms, "participle", many=scene.main.count > 1) if act else ""
        captions.append(phrases.sentence("", subject, verb, place, "", ""))
    return captions


def _write(rng: Random, scene: Scene, form: str) -> str:
    mentions = {name: rng.random() < chance for name, chance in _MENTION.items()}
    subject = phrases.noun_phrase(
        rng, scene.main, color=mentions["color"], count=mentions["count"], rich=True
    )
    forms = phrases.verb_forms(rng, scene, rich=True)
    verb = phrases.conjugate(forms, form, many=scene.main.count > 1)
    place = phrases.place_phrase(rng, scene, rich=True)
    time = phrases.time_phrase(rng, scene, rich=True) if mentions["time"] else ""
    extra = ""
    if mentions["companion"]:
        extra = phrases.companion_phrase(rng, scene, color=mentions["color"], rich=True)
    if rng.random() < _COMPANION_FIRST and not extra.startswith("with"):
        return phrases.sentence(subject, verb, extra, place, time)
    return phrases.sentence(subject, verb, place, extra, time)
