"""The demo's English is correct, varied, and of the requested style."""

import re
from itertools import islice
from random import Random
from typing import Any

import pytest

from demo.language import lexicon, phrases
from demo.language.annotators import CAPTIONS_PER_IMAGE, write_captions
from demo.language.patterns import Pattern, arrange, draw_pattern
from demo.language.plans import PLANS, Style, answer, describe, sample_style
from demo.language.strange import estranged
from demo.language.tasks import SIMILAR_TASKS, TASKS, mixture
from demo.overlap import overlap
from demo.world.kinds import KINDS
from demo.world.scenes import Scene, Thing, sample_scene
from demo.world.splits import SPLIT_SIZES, all_captions, captioned_scenes

_DOG = Scene("park", "sunset", Thing(KINDS["dog"], 1, "brown"), "play", Thing(KINDS["tree"]))
_OWLS = Scene("forest", "night", Thing(KINDS["owl"], 2), "fly")


def _sentences() -> list[str]:
    rng = Random(3)
    return [text for _ in range(500) for text in write_captions(rng, sample_scene(rng))]


def test_captions_are_five_different_sentences() -> None:
    """A scene that offers synonyms gets five captions, no two alike."""
    captions = write_captions(Random(1), _DOG)
    assert len(captions) == CAPTIONS_PER_IMAGE == len(set(captions))


def test_captions_are_well_formed() -> None:
    """Captions begin with a capital, end with one full stop, and have single spaces."""
    for text in _sentences():
        assert re.fullmatch(r"[A-Z]([a-z ,-]|African|TV)+\.", text), text
        assert "  " not in text, text


def test_articles_fit_the_next_word() -> None:
    """The article is an before a vowel and a before a consonant."""
    for text in _sentences():
        for article, letter in re.findall(r"\b([Aa]n?) ([a-z])", text):
            assert (article.lower() == "an") == (letter in "aeiou"), text


def test_scene_of_playing_with_a_ball_has_one_ball() -> None:
    """The companion of what plays with a ball is no other ball."""
    rng = Random(2)
    playing = [s for s in (sample_scene(rng) for _ in range(4000)) if s.pose == "play"]
    companions = {scene.companion.kind.name for scene in playing if scene.companion}
    assert len(companions) > 3
    assert "ball" not in companions


def test_verbs_agree_with_the_number_of_the_subject() -> None:
    """One owl is flying and flies; two owls are flying and fly."""
    forms = phrases.verb_forms(Random(0), _OWLS, rich=False)
    assert phrases.conjugate(forms, "finite", many=True) == "fly"
    assert phrases.conjugate(forms, "finite", many=False) == "flies"
    assert phrases.conjugate(forms, "progressive", many=True) == "are flying"


def test_flying_thing_is_over_its_place() -> None:
    """A flying thing is over the forest, not in it."""
    assert phrases.place_phrase(Random(0), _OWLS, rich=False) == "over the forest"


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        (Style(), "There is a dog within the park."),
        (Style("setting", "color"), "Within the park, is a brown dog."),
        (Style("label", "all"), "Park: a brown dog close to a tree in the evening."),
        (Style("viewer", "least"), "Someone watches a dog within the park."),
        (
            Style("subject", "all"),
            "A brown dog within the park close to a tree romps about in the evening.",
        ),
        (Style("relative", "color"), "A brown dog, which romps about, within the park."),
        (Style("frame", "least"), "A view with a dog within the park."),
        (Style("report", "color"), "Romping about within the park: a brown dog."),
    ],
)
def test_style_determines_the_sentence(style: Style, expected: str) -> None:
    """Every plan and every detail is visible in the description."""
    assert describe(_DOG, lexicon.plain_words(_DOG), style) == expected


def test_kept_wording_has_the_words_that_were_read() -> None:
    """The wording that nobody asks for is the input's, and plain wording is the plainest."""
    read = lexicon.made_up_words(Random(4), _DOG)
    assert read.place != lexicon.plain_words(_DOG).place
    assert read.place in answer(Random(0), _DOG, Style("there is"), read=read)
    assert "within the park" in answer(
        Random(0), _DOG, Style("there is", wording="plain"), read=read
    )


def test_base_model_has_other_words_than_the_annotators() -> None:
    """No verb, place, time, relation or number of the base model's is an annotator's."""
    rng = Random(0)
    written = " " + " ".join(_sentences()).lower().replace(".", "")
    scenes = [sample_scene(rng) for _ in range(2000)]
    words = [lexicon.any_words(rng, scene) for scene in scenes]
    phrases_ = {each.place for each in words} | {each.time for each in words if each.time}
    phrases_ |= {form for each in words for form in each.verb}
    phrases_ |= {each.relation.removesuffix(" {}") for each in words}
    assert len(phrases_) > 100
    assert sorted(phrase for phrase in phrases_ if f" {phrase} " in f"{written} ") == []


def test_no_pattern_begins_with_its_subject_and_deed() -> None:
    """Patterns differ in order, and none starts as the annotators do: subject, deed, place."""
    rng = Random(11)
    patterns = [draw_pattern(rng) for _ in range(2000)]
    orders = {pattern.order for pattern in patterns}
    assert len(orders) > 60
    for pattern in patterns:
        shown = [part for part in pattern.order if part in ("subject", "deed", "place")]
        assert pattern.opening or shown != ["subject", "deed", "place"]


def test_pattern_puts_parts_in_its_order() -> None:
    """A sentence has the parts in the pattern's order with its joints; what is missing has none."""
    order = ("place", "subject", "deed", "around", "time")
    pattern = Pattern(order, (",", "then", ":", "/"), "Now", 0)
    dog = "Now within the park, a brown dog then romping about: close to a tree / in the evening."
    assert arrange(_DOG, lexicon.plain_words(_DOG), pattern) == dog
    owls = "Now above the forest, two owls then hovering / past midnight."
    assert arrange(_OWLS, lexicon.plain_words(_OWLS), pattern) == owls


def test_instruction_without_style_gives_the_plain_style() -> None:
    """An instruction without words about style means the plain style on every axis."""
    assert sample_style(Random(0), said=0.0) == (Style(), "")


def test_every_plan_can_be_requested() -> None:
    """All plans occur in requests, each with words that name it."""
    rng = Random(0)
    drawn = [sample_style(rng, said=1.0) for _ in range(200)]
    assert {style.plan for style, _ in drawn} == set(PLANS)
    assert all(requests for _, requests in drawn)


def test_mixture_is_a_fifth_about_similar_scenes_at_most() -> None:
    """The task of the pipeline, describing from similar scenes, is a fifth of the mixture."""
    assert sum(TASKS.values()) == pytest.approx(1)
    assert sum(TASKS[task] for task in SIMILAR_TASKS) <= 0.2


@pytest.mark.slow
def test_mixture_has_no_caption_and_few_of_their_word_sequences() -> None:
    """No caption of the demo occurs in the mixture, and at most 5% of their 4-grams do."""
    examples = islice(mixture(Random(4)), 4000)
    texts = frozenset(text for example in examples for text in example)
    found = overlap(all_captions(), texts, "Generate an image caption.")
    assert found["captions_in_mixture"] == 0
    assert 0 < float(str(found["caption_4grams_in_mixture"])) < 0.05


def test_overlap_finds_captions_and_words_of_the_instruction() -> None:
    """A text that has been copied is found, and so are words of the instruction."""
    caption = "A dog running on the beach."
    found = overlap(
        frozenset({caption}), frozenset({f"Write this:\n- {caption}"}), "Write a caption."
    )
    assert found["captions_in_mixture"] == 0  # The mark of the list is no part of the caption.
    found = overlap(
        frozenset({caption}), frozenset({f"Write this:\n{caption}"}), "Write a caption."
    )
    assert found == {
        "caption_words_in_mixture": 1.0,
        "caption_4grams": 3,
        "caption_4grams_in_mixture": 1.0,
        "captions_in_mixture": 1,
        "instruction_words_in_mixture": ["a", "write"],
        "instruction_words_not_in_mixture": ["caption"],
    }


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_answer_of_a_task_follows_from_its_input(task: Any) -> None:
    """Every task gives a text and a whole answer; what must be copied is in the input."""
    rng = Random(8)
    for _ in range(200):
        source, found = task(rng, estranged(rng, sample_scene(rng)))
        assert source
        assert found == found.strip()
        assert found
        if task.__name__ == "_select":
            assert found in source


def test_strange_scenes_have_unusual_contents() -> None:
    """A strange scene has its main thing anywhere, often of a made-up name, in correct English."""
    rng = Random(6)
    scenes = [estranged(rng, sample_scene(rng)) for _ in range(300)]
    known = [KINDS.get(scene.main.kind.name) for scene in scenes]
    at_home = [
        kind is not None and s.place in kind.homes for kind, s in zip(known, scenes, strict=True)
    ]
    assert sum(kind is None for kind in known) > 60
    assert sum(at_home) < 60
    for scene in scenes:
        assert scene.pose in scene.main.kind.homes[scene.place]
        text = describe(scene, lexicon.any_words(rng, scene), Style("subject", "all"))
        assert re.fullmatch(r"[A-Z][a-z ',-]+\.", text), text


def test_mixture_does_not_contain_the_prompt_template() -> None:
    """The words of the pipeline's instruction are in no example."""
    for example in islice(mixture(Random(5)), 3000):
        text = " ".join(example).lower()
        for word in (
            "caption",
            "generate",
            "concise",
            "accura",
            "guid",
            "image",
            "pictur",
            "similar",
        ):
            assert word not in text


def test_splits_are_reproducible_and_disjoint() -> None:
    """The same seed gives the same scenes, and no image id occurs twice."""
    ids = [captioned.image_id for split in SPLIT_SIZES for captioned in captioned_scenes(split)]
    assert len(ids) == len(set(ids)) == sum(SPLIT_SIZES.values())
    assert captioned_scenes("val") == captioned_scenes("val")
    assert captioned_scenes("val") != captioned_scenes("dev")
