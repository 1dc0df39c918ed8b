"""The mixture t5-mini is trained on: many tasks over scene text, each asked for in many ways.

The answer always FOLLOWS its instruction, in content and in style (`styles.py`); that is what
makes a frozen model steerable. The captioning template of the pipeline is none of these tasks, and
the annotators' captions of the demo's images are neither asked about nor an answer
(`forbidden`). Part of the scenes are strange ones, so that it must read what it retells.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import replace
from random import Random
from typing import TypeVar

from demo.language import phrases
from demo.language.requests import compose_request
from demo.language.strange import estranged
from demo.language.styles import Style, describe, sample_style
from demo.world.places import PLACES
from demo.world.scenes import Scene, Thing, sample_scene, sample_similar

Example = tuple[str, str]
_T = TypeVar("_T")
_FULL = Style(detail="full", verb="participle")
_SIMILAR_COUNTS = (1, 2, 3, 4, 5, 5, 5, 6)
# From each capital to the next full stop: every sentence, whatever stands before it.
_SENTENCE = re.compile(r"(?=([A-Z][^.\n]*\.))")


def mixture(
    rng: Random,
    *,
    forbidden: Set[str] = frozenset(),
    strange: float = 0.4,
    composed: float = 0.0,
) -> Iterator[Example]:
    """Yields (input text, answer) without end.

    Args:
        rng: The source of chance.
        forbidden: Sentences that must stand in no input and be no answer.
        strange: The share of scenes that never happen; see `strange.py`.
        composed: The share of scenes to be told from similar ones that are asked for in words of
            `requests.py`, instead of one of ten requests.
    """
    tasks = list(_TASKS)
    weights = list(_TASKS.values())
    while True:
        task = rng.choices(tasks, weights)[0]
        scene = sample_scene(rng)
        if rng.random() < strange:
            scene = estranged(rng, scene)
        if task is _similar and composed and rng.random() < composed:
            source, answer = _similar(rng, scene, (compose_request(rng),))
        else:
            source, answer = task(rng, scene)
        if forbidden.isdisjoint((answer, *_SENTENCE.findall(source))):
            yield source, answer


def _ask(rng: Random, requests: tuple[str, ...], style: str, material: str) -> str:
    """Puts the request, the words about style and the material together, in varying order."""
    request = rng.choice(requests)
    asked = f"{request} {style}".strip() if rng.random() < 0.7 else f"{style} {request}".strip()
    layout = rng.choice(("{0} {1}", "{0}\n{1}", "{0}\n\n{1}", "{1}\n{0}", "{1} {0}"))
    cue = rng.choice(("", "", "", " Answer:", " Output:", "\nText:", "\nSentence:"))
    return layout.format(asked, material) + cue


def _any_style(rng: Random) -> Style:
    return sample_style(rng, said=0.85)[0]


def _full_description(rng: Random, scene: Scene) -> str:
    """One sentence that holds every fact, so that an answer can be made from it alone."""
    style = replace(_any_style(rng), detail="full", wording=rng.choice(("plain", "rich")))
    verb = style.verb if style.verb != "none" else "participle"
    return describe(rng, scene, replace(style, verb=verb))


def _listed(rng: Random, lines: list[str]) -> str:
    mark = rng.choice(("- {1}", "* {1}", "{0}. {1}", "({0}) {1}", "{1}", "{1}"))
    joint = rng.choice(("\n", "\n", " "))
    return joint.join(mark.format(number, line) for number, line in enumerate(lines, 1))


def _similar(rng: Random, scene: Scene, asked: tuple[str, ...] = ()) -> Example:
    """Describes a scene from descriptions of scenes that look alike."""
    style, requests = sample_style(rng)
    likeness = rng.uniform(0.4, 1.0)
    count = rng.choice(_SIMILAR_COUNTS)
    scenes = [sample_similar(rng, scene, likeness=likeness) for _ in range(count)]
    lines = []
    for other in scenes:
        manner = _any_style(rng)
        if rng.random() < 0.7:
            manner = Style(
                "direct", rng.choice(("participle", "finite", "progressive")), "full", "rich"
            )
        lines.append(describe(rng, other, manner))
    heading = rng.choice(_SIMILAR_HEADINGS)
    material = f"{heading}\n{_listed(rng, lines)}".strip()
    source = _ask(rng, asked or _SIMILAR_REQUESTS, requests, material)
    return source, describe(rng, _consensus(scenes), style)


def _consensus(scenes: list[Scene]) -> Scene:
    """What most of the scenes show: the likeliest view, and all that an answer can be made from."""
    kind, place = _most((scene.main.kind, scene.place) for scene in scenes)
    alike = [scene for scene in scenes if (scene.main.kind, scene.place) == (kind, place)]
    main = Thing(
        kind,
        _most(scene.main.count for scene in alike),
        _most(scene.main.color for scene in alike),
    )
    pose = _most(scene.pose for scene in alike)
    companion = _most(scene.companion for scene in alike)
    relation = _most(
        scene.relation for scene in alike if scene.pose == pose or scene.companion == companion
    )
    return Scene(place, _most(scene.time for scene in alike), main, pose, companion, relation)


def _most(values: Iterable[_T]) -> _T:
    """The commonest value, the first of them in a draw: the first is the nearest match."""
    return Counter(values).most_common(1)[0][0]


def _paraphrase(rng: Random, scene: Scene) -> Example:
    """Says the same otherwise, in the style asked for."""
    style, requests = sample_style(rng)
    source = _ask(rng, _PARAPHRASE_REQUESTS, requests, _full_description(rng, scene))
    return source, describe(rng, scene, style)


def _combine(rng: Random, scene: Scene) -> Example:
    """Makes one description from two that each tell a part."""
    style, requests = sample_style(rng)
    main = describe(rng, scene, replace(_any_style(rng), detail="medium", verb="participle"))
    plain = replace(scene, main=replace(scene.main, color=None))
    around = describe(rng, plain, replace(_any_style(rng), detail="full", verb="none"))
    lines = rng.sample([main, around], 2)
    return _ask(rng, _COMBINE_REQUESTS, requests, _listed(rng, lines)), describe(rng, scene, style)


def _keywords(rng: Random, scene: Scene) -> Example:
    """Describes a scene given as loose words."""
    style, requests = sample_style(rng)
    words = [
        phrases.noun_phrase(rng, scene.main, color=True, count=True, rich=False),
        phrases.verb_forms(rng, scene, rich=False)[0],
        phrases.place_phrase(rng, scene, rich=False),
        phrases.companion_phrase(rng, scene, color=True, rich=False),
        phrases.time_phrase(rng, scene, rich=False),
    ]
    words = [word for word in words if word]
    if rng.random() < 0.5:
        rng.shuffle(words)
    material = rng.choice((", ", "; ", " / ", " | ")).join(words)
    return _ask(rng, _KEYWORD_REQUESTS, requests, material), describe(rng, scene, style)


def _list_things(rng: Random, scene: Scene) -> Example:
    """Names the things in a description."""
    names = [scene.main.kind.name]
    if scene.companion:
        names.append(scene.companion.kind.name)
    return _ask(rng, _LIST_REQUESTS, "", _full_description(rng, scene)), ", ".join(names)


def _gap(rng: Random, scene: Scene) -> Example:
    """Finds the word that is missing, from the same scene told otherwise."""
    sentence = describe(rng, scene, replace(_FULL, opening="direct"))
    options = [phrases.noun_phrase(rng, scene.main, color=True, count=True, rich=False)]
    if scene.companion:
        companion = scene.companion
        options.append(phrases.noun_phrase(rng, companion, color=True, count=True, rich=False))
    answer = rng.choice(options).split(" ", 1)[-1]
    blank = rng.choice(("___", "[blank]", "..."))
    gapped = sentence.replace(answer, blank, 1)
    material = f"{_full_description(rng, scene)}\n{gapped}"
    return _ask(rng, _GAP_REQUESTS, "", material), answer


def _question(rng: Random, scene: Scene) -> Example:
    """Answer a question about a description."""
    noun = scene.main.kind.words[0][0 if scene.main.count == 1 else 1]
    be = "is" if scene.main.count == 1 else "are"
    place = phrases.place_phrase(rng, scene, rich=False)
    participle = phrases.verb_forms(rng, scene, rich=False)[0]
    answers = {
        f"Where {be} the {noun}?": place,
        f"What {be} the {noun} doing?": participle,
        "What is the main thing here?": scene.main.kind.name,
        f"How many {scene.main.kind.words[0][1]} are there?": str(scene.main.count),
        "What kind of place is it?": PLACES[scene.place].name,
    }
    if scene.main.color:
        answers[f"What color {be} the {noun}?"] = scene.main.color
    if scene.companion:
        other = scene.companion.kind.name
        answers[f"What is {scene.relation} the {other}?"] = scene.main.kind.name
    question = rng.choice(list(answers))
    requests = tuple(request.format(question) for request in _QUESTION_REQUESTS)
    style = replace(_FULL, wording="plain", opening=rng.choice(("direct", "there is", "camera")))
    return _ask(rng, requests, "", describe(rng, scene, style)), answers[question]


_SIMILAR_HEADINGS = (
    "Here are descriptions of scenes that look alike:",
    "These sentences tell of nearly the same scene:",
    "Scenes like it:",
    "Related descriptions:",
    "Other people described similar views so:",
    "Examples from the neighborhood:",
    "What is known:",
    "Nearest descriptions:",
    "",
)
_SIMILAR_REQUESTS = (
    "Describe the scene that these have in common.",
    "Write one description for a scene like these.",
    "What does the new scene show?",
    "Guess the scene and describe it.",
    "From these, tell what is most likely seen.",
    "Give a fitting description.",
    "Make a description for an unseen view that resembles them.",
    "Sum up the scene.",
    "Write what the view shows, judging by the descriptions given.",
    "Produce a good sentence for it, using what the others say.",
)
_PARAPHRASE_REQUESTS = (
    "Say this in other words.",
    "Rewrite the sentence.",
    "Rephrase.",
    "Tell the same again.",
    "Put it differently.",
    "Change the style of this text.",
)
_COMBINE_REQUESTS = (
    "Combine these into one.",
    "Both tell of one scene. Join them.",
    "Merge the two sentences.",
    "Make one sentence of the two.",
    "Bring the facts together.",
)
_KEYWORD_REQUESTS = (
    "Write a sentence with these words.",
    "Turn the notes into a description.",
    "Describe a scene with all of this.",
    "Make a sentence from the keywords.",
    "Use these facts to tell what is seen.",
)
_LIST_REQUESTS = (
    "List the objects.",
    "Which things are named?",
    "Name what can be seen, separated by commas.",
    "Give only the objects.",
)
_GAP_REQUESTS = (
    "Fill in the gap.",
    "Which words are missing?",
    "Complete the second sentence.",
    "What belongs in the empty place?",
)
_QUESTION_REQUESTS = (
    "{}",
    "Answer the question: {}",
    "Read and answer. {}",
    "Question: {}",
)

_TASKS: dict[Callable[[Random, Scene], Example], float] = {
    _similar: 0.46,
    _paraphrase: 0.15,
    _combine: 0.10,
    _keywords: 0.14,
    _list_things: 0.04,
    _gap: 0.04,
    _question: 0.07,
}
