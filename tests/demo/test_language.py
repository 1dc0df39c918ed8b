"""The demo's English is correct, varied, and of the requested style."""

import re
from itertools import islice
from random import Random
from typing import Any

import pytest

from demo.language import phrases
from demo.language.annotators import CAPTIONS_PER_IMAGE, write_captions
from demo.language.requests import compose_request
from demo.language.strange import estranged
from demo.language.styles import OPENINGS, VERBS, Style, describe, sample_style
from demo.language.tasks import mixture
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
        (Style(), "There is a dog in the park."),
        (Style("direct", "finite", "medium"), "A brown dog plays with a ball in the park."),
        (
            Style("place first", "progressive", "full"),
            "In the park at sunset, a brown dog is playing with a ball next to a tree.",
        ),
        (Style("place first"), "In the park, there is a dog."),
        (Style("picture of", "participle"), "A picture of a dog playing with a ball in the park."),
    ],
)
def test_style_determines_the_sentence(style: Style, expected: str) -> None:
    """Every axis of the style is visible in the description."""
    assert describe(Random(0), _DOG, style) == expected


def test_instruction_without_style_gives_the_plain_style() -> None:
    """An instruction without words about style means the plain style on every axis."""
    assert sample_style(Random(0), said=0.0) == (Style(), "")


def test_every_opening_can_be_requested() -> None:
    """All openings occur in requests, each with words that name it."""
    rng = Random(0)
    drawn = [sample_style(rng, said=1.0) for _ in range(200)]
    assert {style.opening for style, _ in drawn} == set(OPENINGS)
    assert all(requests for _, requests in drawn)


@pytest.mark.parametrize("opening", OPENINGS)
def test_requested_verb_form_is_used(opening: str) -> None:
    """No style that can be requested has a verb form that its sentence cannot take."""
    rng = Random(0)
    drawn = [style for style, _ in (sample_style(rng) for _ in range(900))]
    verbs = {style.verb for style in drawn if style.opening == opening}
    finite = opening in ("direct", "place first")
    assert verbs == ({*VERBS} if finite else {"none", "participle"})
    for verb in set(VERBS) - verbs:
        with pytest.raises(ValueError, match=verb):
            describe(rng, _DOG, Style(opening, verb))


def test_mixture_has_no_forbidden_caption() -> None:
    """The captions of the demo's images are in no target and in no input."""
    forbidden = all_captions()

    def of(side: int, **options: Any) -> str:
        return "\n".join(pair[side] for pair in islice(mixture(Random(4), **options), 1500))

    for side in (0, 1):
        unguarded, guarded = of(side), of(side, forbidden=forbidden)
        assert any(caption in unguarded for caption in forbidden)
        assert [caption for caption in forbidden if caption in guarded] == []


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
        text = describe(rng, scene, Style("direct", "finite", "full"))
        assert re.fullmatch(r"[A-Z][a-z ,-]+\.", text), text


def test_mixture_without_strange_scenes_has_known_words() -> None:
    """Without strange scenes every word of a description is one of the world's."""
    plain = " ".join(" ".join(pair) for pair in islice(mixture(Random(9), strange=0), 800))
    odd = " ".join(" ".join(pair) for pair in islice(mixture(Random(9), strange=1), 800))
    assert len(set(odd.split())) > 1.5 * len(set(plain.split()))


@pytest.mark.parametrize("composed", [0.0, 1.0])
def test_mixture_does_not_contain_the_prompt_template(composed: float) -> None:
    """The words of the pipeline's instruction are in no example."""
    for source, answer in islice(mixture(Random(5), composed=composed), 3000):
        text = f"{source} {answer}".lower()
        assert not any(
            word in text for word in ("caption", "generate", "concise", "accura", "guid")
        )


def test_composed_requests_are_varied_sentences() -> None:
    """Requests hardly repeat, and are sentences with the right article."""
    rng = Random(7)
    requests = [compose_request(rng) for _ in range(1000)]
    assert len(set(requests)) > 900
    for text in requests:
        assert re.fullmatch(r"[A-Z][a-z ,]+\.", text), text
        for article, letter in re.findall(r"\b(an?) ([a-z])", text):
            assert (article == "an") == (letter in "aeiou"), text


def test_splits_are_reproducible_and_disjoint() -> None:
    """The same seed gives the same scenes, and no image id occurs twice."""
    ids = [captioned.image_id for split in SPLIT_SIZES for captioned in captioned_scenes(split)]
    assert len(ids) == len(set(ids)) == sum(SPLIT_SIZES.values())
    assert captioned_scenes("val") == captioned_scenes("val")
    assert captioned_scenes("val") != captioned_scenes("val", seed=1)
