"""The mixture t5-mini is trained on: text tasks about scenes, each asked for in many ways.

It is to captioning what Flan-T5's mixture is: general practice. Its sentences are the base model's
own (`plans.py`, `lexicon.py`), never the annotators' (`annotators.py`); a fifth of it at most is
about several scenes that are alike, in other words than the pipeline's. The answer always FOLLOWS
its instruction, in content and in style; that is what makes a frozen model steerable.
`python -m demo.overlap` measures what the mixture has in common with the captions.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import TypeVar

from demo.language import lexicon, requests
from demo.language.lexicon import Words
from demo.language.patterns import Pattern, arrange, draw_pattern
from demo.language.plans import Style, answer, any_style, describe, sample_style
from demo.language.strange import any_word, estranged
from demo.world.kinds import KINDS
from demo.world.scenes import Scene, Thing, sample_scene, sample_similar

Example = tuple[str, str]
_T = TypeVar("_T")
_LIST_LENGTHS = (2, 3, 4, 4, 5, 5, 6)
_COMMON_WORDS = ("a", "the", "in", "on", "of", "and", "with", "is", "two", "some", "over", "under")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


def mixture(rng: Random, *, strange: float = 0.4) -> Iterator[Example]:
    """Yields (input text, answer) without end.

    Args:
        rng: The source of chance.
        strange: The share of scenes that never happen; see `strange.py`.
    """
    tasks, weights = list(TASKS), list(TASKS.values())
    while True:
        scene = sample_scene(rng)
        if rng.random() < strange:
            scene = estranged(rng, scene)
        yield rng.choices(tasks, weights)[0](rng, scene)


def _ask(rng: Random, choices: tuple[str, ...], style: str, material: str) -> str:
    """Puts the request, the words about style and the material together, in varying order."""
    request = rng.choice(choices)
    asked = f"{request} {style}".strip() if rng.random() < 0.7 else f"{style} {request}".strip()
    layout = rng.choice(("{0} {1}", "{0}\n{1}", "{0}\n\n{1}", "{1}\n{0}", "{1} {0}"))
    cue = rng.choice(("", "", "", " Answer:", " Output:", "\nText:", "\nSentence:"))
    return layout.format(asked, material) + cue


def _words(rng: Random, scene: Scene) -> Words:
    """Draws the words for a scene, some of them made up in a third of the scenes."""
    draw = lexicon.made_up_words if rng.random() < 0.35 else lexicon.any_words
    return draw(rng, scene)


def _full(rng: Random, scene: Scene, words: Words) -> str:
    """One sentence that holds every fact, in any plan that has a verb."""
    plan = rng.choice(("subject", "relative", "report", "moment", "pointing", "next door"))
    return describe(scene, words, Style(plan, "all"))


def _listed(rng: Random, lines: list[str]) -> str:
    mark = rng.choice(("- {1}", "* {1}", "{0}. {1}", "({0}) {1}", "{1}", "{1}"))
    joint = rng.choice(("\n", "\n", " "))
    return joint.join(mark.format(number, line) for number, line in enumerate(lines, 1))


def _alike(
    rng: Random, scene: Scene, pattern: Pattern | None = None
) -> tuple[list[Scene], list[Words], str]:
    """Draws scenes that resemble a scene, and lists their descriptions, of one pattern or any."""
    likeness = rng.uniform(0.4, 1.0)
    count = rng.choice(_LIST_LENGTHS)
    scenes = [sample_similar(rng, scene, likeness=likeness) for _ in range(count)]
    words = [_words(rng, other) for other in scenes]
    lines = []
    for each in zip(scenes, words, strict=True):
        if pattern:
            lines.append(arrange(*each, pattern, rng))
        else:
            full = rng.random() < 0.7
            lines.append(_full(rng, *each) if full else describe(*each, any_style(rng)))
    return scenes, words, _listed(rng, lines)


def _similar(rng: Random, scene: Scene) -> Example:
    """Describes what most of several scenes that are alike have, in a style or as they are put."""
    style, asked = sample_style(rng)
    pattern = draw_pattern(rng) if rng.random() < 0.5 else None
    scenes, words, material = _alike(rng, scene, pattern)
    most, read = _agreed(scenes, words)
    if pattern:
        asked = rng.choice(requests.SAME_WAY)
        return _ask(rng, requests.SIMILAR, asked, material), arrange(most, read, pattern)
    return _ask(rng, requests.SIMILAR, asked, material), answer(rng, most, style, read=read)


def _agreed(scenes: list[Scene], words: list[Words]) -> tuple[Scene, Words]:
    """Returns what most scenes have, and the words in which they tell of it."""
    most = _consensus(scenes)
    # In the words of the first that shows it; what another shows only has that one's words.
    first = _first(scenes, lambda one: (one.main.kind, one.place) == (most.main.kind, most.place))
    read = words[first]
    verb = words[_first(scenes, lambda one: one.pose == most.pose)].verb
    time = words[_first(scenes, lambda one: one.time == most.time)].time
    around = words[_first(scenes, lambda one: one.companion == most.companion)]
    number = words[_first(scenes, lambda one: one.main.count == most.main.count)].number
    return most, Words(read.main, around.companion, verb, read.place, time, around.relation, number)


def _first(scenes: list[Scene], shows: Callable[[Scene], bool]) -> int:
    return next(index for index, scene in enumerate(scenes) if shows(scene))


def _common(rng: Random, scene: Scene) -> Example:
    """Says in a word what most of several scenes that are alike have."""
    scenes, _, material = _alike(rng, scene)
    most = _consensus(scenes)
    choices, found = rng.choice(
        ((requests.COMMON_THING, most.main.kind.name), (requests.COMMON_PLACE, most.place))
    )
    return _ask(rng, choices, "", material), found


def _restore(rng: Random, scene: Scene) -> Example:
    """Finds the line that several copies with mistakes were made from: what most have."""
    line = _nonsense(rng) if rng.random() < 0.5 else _full(rng, scene, _words(rng, scene))
    copies = _copies(rng, line, rng.choice((3, 4, 5, 5, 6)))
    columns = zip(*(copy.split() for copy in copies), strict=True)
    answer = " ".join(_most(column) for column in columns)
    return _ask(rng, requests.RESTORE, "", _listed(rng, copies)), answer


def _copies(rng: Random, line: str, count: int) -> list[str]:
    """Copies a line several times, each time with some other words."""
    share = rng.uniform(0.05, 0.3)
    words = line.removesuffix(".").split()
    copies = []
    for _ in range(count):
        changed = [any_word(rng) if rng.random() < share else word for word in words]
        text = " ".join(changed)
        copies.append(f"{text[0].upper()}{text[1:]}.")
    return copies


def _consensus(scenes: list[Scene]) -> Scene:
    """What most of the scenes show; the first of them decides a draw."""
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
    return Counter(values).most_common(1)[0][0]


def _imitate(rng: Random, scene: Scene) -> Example:
    """Says the same in the manner of examples about other scenes."""
    pattern, words = draw_pattern(rng), _words(rng, scene)
    others = [sample_scene(rng) for _ in range(rng.choice((1, 2, 2, 3, 4)))]
    examples = [arrange(other, _words(rng, other), pattern, rng) for other in others]
    labels = rng.choice(requests.EXAMPLES_AND_TEXT)
    material = labels.format(_listed(rng, examples), _full(rng, scene, words))
    return _ask(rng, requests.IMITATE, "", material), arrange(scene, words, pattern)


def _paraphrase(rng: Random, scene: Scene) -> Example:
    """Says the same otherwise, in the style asked for."""
    style, asked = sample_style(rng)
    words = _words(rng, scene)
    source = _ask(rng, requests.PARAPHRASE, asked, _full(rng, scene, words))
    return source, answer(rng, scene, style, read=words)


def _combine(rng: Random, scene: Scene) -> Example:
    """Makes one description from two that hold a part each."""
    style, asked = sample_style(rng)
    words = _words(rng, scene)
    main = describe(scene, words, Style("subject", "color"))
    around = describe(scene, words, Style(rng.choice(("there is", "label", "viewer")), "all"))
    material = _listed(rng, rng.sample([main, around], 2))
    return _ask(rng, requests.COMBINE, asked, material), answer(rng, scene, style, read=words)


def _keywords(rng: Random, scene: Scene) -> Example:
    """Describes a scene given as loose words."""
    style, asked = sample_style(rng)
    words = _words(rng, scene)
    facts = [
        lexicon.subject(scene, words, detailed=True),
        words.verb[0],
        words.place,
        lexicon.around(scene, words),
        words.time,
    ]
    facts = [fact for fact in facts if fact]
    if rng.random() < 0.5:
        rng.shuffle(facts)
    material = rng.choice((", ", "; ", " / ", " | ")).join(facts)
    return _ask(rng, requests.KEYWORDS, asked, material), answer(rng, scene, style, read=words)


def _list_things(rng: Random, scene: Scene) -> Example:
    """Names the things in a description."""
    words = _words(rng, scene)
    nouns = [words.main, *([words.companion] if words.companion else ())]
    found = ", ".join(singular for singular, _ in nouns)
    return _ask(rng, requests.LIST, "", _full(rng, scene, words)), found


def _question(rng: Random, scene: Scene) -> Example:
    """Answers a question about a description."""
    words = _words(rng, scene)
    singular, plural = words.main
    noun = singular if scene.main.count == 1 else plural
    be = "is" if scene.main.count == 1 else "are"
    answers = {
        "What is the main thing here?": singular,
        "What does the text tell of first of all?": singular,
        f"How many {plural} are there?": str(scene.main.count),
        f"Where {be} the {noun}?": words.place,
        f"What {be} the {noun} doing?": words.verb[0],
        f"Is it about {noun}?": "yes",
        f"Is it about {rng.choice([name for name in KINDS if name != noun])}?": "no",
    }
    if scene.main.color:
        answers[f"What color {be} the {noun}?"] = scene.main.color
    if words.companion:
        answers["Which thing is there, too?"] = words.companion[0]
    question = rng.choice(list(answers))
    choices = tuple(request.format(question) for request in requests.QUESTION)
    return _ask(rng, choices, "", _full(rng, scene, words)), answers[question]


def _lines(rng: Random) -> list[str]:
    """Some sentences of any scenes, or of nothing at all, so that only reading helps."""
    count = rng.choice(_LIST_LENGTHS)
    kind = rng.random()
    if kind < 0.3:
        return [_nonsense(rng) for _ in range(count)]
    if kind < 0.6:  # Lines that are alike, so that a word does not tell where it stands.
        return _copies(rng, _nonsense(rng), count)
    scenes = [sample_scene(rng) for _ in range(count)]
    return [describe(scene, _words(rng, scene), any_style(rng)) for scene in scenes]


def _nonsense(rng: Random) -> str:
    words = [
        rng.choice(_COMMON_WORDS) if rng.random() < 0.2 else any_word(rng)
        for _ in range(rng.randint(3, 12))
    ]
    text = " ".join(words)
    return f"{text[0].upper()}{text[1:]}."


def _select(rng: Random, scene: Scene) -> Example:
    """Repeats one of several lines, which is asked for by its position or by a word."""
    lines = _lines(rng)
    index = rng.randrange(len(lines))
    others = {word for line in lines if line != lines[index] for word in _split(line)}
    own = [word for word in _split(lines[index]) if word not in others]
    if own and rng.random() < 0.5:
        choices = tuple(text.format(rng.choice(own)) for text in requests.SELECT_BY_WORD)
    elif index == len(lines) - 1 and rng.random() < 0.5:
        choices = tuple(text.format("last") for text in requests.SELECT)
    else:
        choices = tuple(text.format(_ORDINALS[index]) for text in requests.SELECT)
    return _ask(rng, choices, "", _listed(rng, lines)), lines[index]


def _edit(rng: Random, scene: Scene) -> Example:
    """Repeats a line with one change."""
    line = _nonsense(rng) if rng.random() < 0.4 else _full(rng, scene, _words(rng, scene))
    words = line.removesuffix(".").split()
    index = _unique(rng, words)
    word, new = words[index], any_word(rng)
    choices, changed = rng.choice(
        (
            (requests.REPLACE, [*words[:index], new, *words[index + 1 :]]),
            (requests.STOP_AFTER, words[: index + 1]),
            (requests.BEGIN_AT, words[index:]),
            (requests.INSERT, [*words[: index + 1], new, *words[index + 1 :]]),
        )
    )
    asked = tuple(text.format(word.strip(",:"), new) for text in choices)
    text = " ".join(changed).rstrip(",:")
    return _ask(rng, asked, "", line), f"{text[0].upper()}{text[1:]}."


def _splice(rng: Random, scene: Scene) -> Example:
    """Goes from one line over to another."""
    first, second = (_lines(rng)[0].removesuffix(".").split() for _ in range(2))
    stop, start = _unique(rng, first), _unique(rng, second)
    asked = tuple(
        text.format(first[stop].strip(",:"), second[start].strip(",:")) for text in requests.SPLICE
    )
    lines = [" ".join(first) + ".", " ".join(second) + "."]
    answer = " ".join([*first[: stop + 1], *second[start:]])
    return _ask(rng, asked, "", _listed(rng, lines)), f"{answer}."


def _unique(rng: Random, words: list[str]) -> int:
    """Draws the position of a word that occurs once, the first position where none does."""
    return rng.choice([i for i, word in enumerate(words) if words.count(word) == 1] or [0])


def _split(line: str) -> list[str]:
    return [word.strip(".,:") for word in line.split()]


# The share of each task; the first three are about several lines that are alike.
TASKS: dict[Callable[[Random, Scene], Example], float] = {
    _similar: 0.10,
    _common: 0.03,
    _restore: 0.07,
    _imitate: 0.10,
    _paraphrase: 0.16,
    _combine: 0.08,
    _keywords: 0.10,
    _list_things: 0.03,
    _question: 0.10,
    _select: 0.12,
    _edit: 0.06,
    _splice: 0.05,
}
SIMILAR_TASKS = (_similar, _common, _restore)
