"""The one prompt builder: what it fills in, what it refuses, and what it leaves out first."""

import logging

import pytest

from igrag.coco import DetectedObject
from igrag.errors import ConfigError
from igrag.knowledge_base import Match
from igrag.prompt_template import PromptTemplate, describe_position

_TEXT = "{instruction}\nSimilar:\n{captions}\n{objects}\nCaption:"
_MATCHES = [Match(1, 0.9, ("Near one.", "Near two.")), Match(2, 0.5, ("Far one.", "Far two."))]


def _template(text: str = _TEXT, **options: object) -> PromptTemplate:
    return PromptTemplate(text, instruction="Do it.", **options)  # type: ignore[arg-type]


def _words(text: str) -> int:
    return len(text.split())


def test_captions_stand_in_order_of_nearness() -> None:
    """The nearest match's captions come first, as many of each match as asked for."""
    expected = "Do it.\nSimilar:\n- Near one.\n- Far one.\nCaption:"
    assert _template().build(_MATCHES) == expected
    prompt = _template(captions_per_match=2).build(_MATCHES)
    assert prompt.index("Near two.") < prompt.index("Far one.") < prompt.index("Far two.")


@pytest.mark.parametrize("name", ["instruction", "captions"])
def test_a_missing_placeholder_is_named(name: str) -> None:
    """A template without a place for the instruction or the captions is refused."""
    with pytest.raises(ConfigError, match=rf"\{{{name}\}} is missing"):
        _template(_TEXT.replace(f"{{{name}}}", ""))


def test_an_unknown_placeholder_is_named() -> None:
    """A placeholder that nothing fills is refused, and the known ones are listed."""
    with pytest.raises(ConfigError, match=r"unknown placeholder \{caption\}"):
        _template(_TEXT + "{caption}")


def test_braces_in_captions_are_just_text() -> None:
    """A caption that looks like a placeholder stays as it is."""
    prompt = _template().build([Match(1, 1.0, ("A sign says {instruction} {0}.",))])
    assert "- A sign says {instruction} {0}." in prompt


def test_the_farthest_captions_go_first(caplog: pytest.LogCaptureFixture) -> None:
    """Whole captions are left out from the far end until the prompt fits; the log says so."""
    template = _template(captions_per_match=2)
    full = template.build(_MATCHES)
    with caplog.at_level(logging.WARNING):
        prompt = template.build(_MATCHES, count_tokens=_words, max_tokens=_words(full) - 4)
    assert "Near one." in prompt and "Near two." in prompt and "Far" not in prompt
    assert prompt.startswith("Do it.") and prompt.endswith("Caption:")
    assert "2 of 4 captions left out" in caplog.text


def test_a_prompt_that_just_fits_is_whole(caplog: pytest.LogCaptureFixture) -> None:
    """At exactly the limit nothing is left out and nothing is logged."""
    full = _template().build(_MATCHES)
    with caplog.at_level(logging.WARNING):
        assert _template().build(_MATCHES, count_tokens=_words, max_tokens=_words(full)) == full
    assert not caplog.records


def test_a_template_too_long_for_the_model_is_an_error() -> None:
    """The instruction and the cue are never cut: if they do not fit, that is an error."""
    with pytest.raises(ConfigError, match="without any caption, expected at most 3"):
        _template().build(_MATCHES, count_tokens=_words, max_tokens=3)


def test_without_matches_the_prompt_still_reads() -> None:
    """An empty list of captions is said to be empty."""
    assert "Similar:\n(none)\nCaption:" in _template().build([])


def test_objects_are_listed_with_their_positions() -> None:
    """Each object's label and place in the picture stand in the objects block."""
    prompt = _template().build(_MATCHES, [DetectedObject("dog", (0.0, 0.0, 0.2, 0.2))])
    assert "\n- dog: top left\nCaption:" in prompt


@pytest.mark.parametrize(
    ("box", "position"),
    [
        ((0.4, 0.4, 0.2, 0.2), "center"),
        ((0.8, 0.4, 0.2, 0.2), "right"),
        ((0.4, 0.8, 0.2, 0.2), "bottom"),
        ((0.9, 0.9, 0.2, 0.2), "bottom right"),
    ],
)
def test_positions_on_a_grid(box: tuple[float, float, float, float], position: str) -> None:
    """The centre of the box decides the word."""
    assert describe_position(DetectedObject("x", box)) == position


def test_the_fingerprint_changes_with_the_wording() -> None:
    """Data of another wording can be told from data of this one."""
    assert _template().fingerprint() == _template().fingerprint()
    others = [
        _template(_TEXT + "!"),
        _template(caption_line="* {caption}"),
        _template(captions_per_match=2),
    ]
    assert len({_template().fingerprint(), *(other.fingerprint() for other in others)}) == 4
