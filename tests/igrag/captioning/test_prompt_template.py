"""From matches to the prompt's text."""

import logging

import pytest

from igrag.captioning.prompt_template import PromptTemplate, describe_position
from igrag.data.coco import DetectedObject
from igrag.errors import ConfigError
from igrag.retrieval.knowledge_base import Match

TEMPLATE = "{instruction}\n\nSimilar:\n{captions}\n{objects}\nCaption:"


def template(text: str = TEMPLATE, **options: object) -> PromptTemplate:
    """Returns a template with a short instruction."""
    return PromptTemplate(text, **{"instruction": "Describe it.", **options})  # type: ignore[arg-type]


def matches(*captions: tuple[str, ...]) -> list[Match]:
    """Returns matches with these captions, the nearest first."""
    return [Match(n, 1 - n / 10, texts) for n, texts in enumerate(captions)]


def words(text: str) -> int:
    """Counts words: a stand-in for a tokenizer."""
    return len(text.split())


THREE = matches(("one one",), ("two two",), ("three three",))


def test_captions_stand_in_the_order_of_the_matches() -> None:
    """Instruction, the captions nearest first, the cue; without objects there is no gap."""
    expected = "Describe it.\n\nSimilar:\n- one one\n- two two\n- three three\nCaption:"
    assert template().build(THREE) == expected


def test_captions_per_match_takes_the_first_of_each() -> None:
    """So many captions of each match are shown, a match's captions side by side."""
    found = matches(("a", "b", "c"), ("d",))
    built = template(captions_per_match=2, caption_line="* {caption}").build(found)
    assert "Similar:\n* a\n* b\n* d\nCaption:" in built


def test_no_matches_leave_the_block_readable() -> None:
    """Without a match the block of captions is "(none)" instead of empty."""
    assert template().build([]) == "Describe it.\n\nSimilar:\n(none)\nCaption:"


@pytest.mark.parametrize("name", ["instruction", "captions"])
def test_missing_placeholder_is_named(name: str) -> None:
    """A template that would drop the instruction or the captions is refused."""
    with pytest.raises(ConfigError, match=rf"prompt_config.template: .*\{{{name}\}} is missing"):
        template(TEMPLATE.replace(f"{{{name}}}", ""))


@pytest.mark.parametrize("text", ["{caption}", "{}", "{Captions}"])
def test_unknown_placeholder_is_named_with_the_known(text: str) -> None:
    """A misspelt placeholder is an error that lists the right ones."""
    with pytest.raises(ConfigError) as caught:
        template(TEMPLATE + text)
    assert f"unknown placeholder {text}" in str(caught.value)
    assert "{instruction} and {captions}, perhaps {objects}" in str(caught.value)


@pytest.mark.parametrize(
    ("option", "line", "key"),
    [
        ("caption_line", "- ", "prompt_config.caption_line"),
        ("caption_line", "{caption} {label}", "prompt_config.caption_line"),
        ("object_line", "{label}", "prompt_config.objects.line"),
        ("object_line", "{label} {position} {caption}", "prompt_config.objects.line"),
    ],
)
def test_lines_need_their_placeholders(option: str, line: str, key: str) -> None:
    """The lines of captions and objects are checked too, and the config's key is named."""
    with pytest.raises(ConfigError, match=key):
        template(**{option: line})


def test_braces_in_captions_and_instruction_stay() -> None:
    """Text from the data is never read as a placeholder, however it looks."""
    built = template(instruction="Say {captions}!").build(matches(("{objects} {0} {instruction}",)))
    assert built == "Say {captions}!\n\nSimilar:\n- {objects} {0} {instruction}\nCaption:"


def test_farthest_captions_go_first_and_whole(caplog: pytest.LogCaptureFixture) -> None:
    """A prompt that is too long loses its last captions whole, with a warning; the rest stays."""
    whole = template().build(THREE)
    with caplog.at_level(logging.WARNING):
        kept = template().build(THREE, count_tokens=words, max_tokens=words(whole))
    assert kept == whole
    assert caplog.records == []
    with caplog.at_level(logging.WARNING):
        built = template().build(THREE, count_tokens=words, max_tokens=words(whole) - 1)
    assert built == "Describe it.\n\nSimilar:\n- one one\n- two two\nCaption:"
    assert "1 of 3 captions left out, the farthest first" in caplog.text


def test_every_caption_may_go_but_not_the_rest() -> None:
    """At the least the instruction and the cue remain; what is longer even so is an error."""
    bare = "Describe it.\n\nSimilar:\n(none)\nCaption:"
    assert template().build(THREE, count_tokens=words, max_tokens=words(bare)) == bare
    with pytest.raises(ConfigError, match=r"5 tokens without any caption or object, .* most 4"):
        template().build(THREE, count_tokens=words, max_tokens=4)


def test_objects_go_when_no_caption_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """One crowded image does not end the run: its last objects go, after every caption."""
    found = [DetectedObject(f"thing{n}", (0.4, 0.4, 0.2, 0.2)) for n in range(4)]
    bare = "Describe it.\n\nSimilar:\n(none)\n"
    two = bare + "- thing0: center\n- thing1: center\nCaption:"
    with caplog.at_level(logging.WARNING):
        built = template().build(THREE, found, count_tokens=words, max_tokens=words(two) + 2)
    assert built == two
    assert "3 of 3 captions left out, the farthest first; 2 of 4 objects left out" in caplog.text
    limit = words(bare + "Caption:")
    built = template().build(THREE, found, count_tokens=words, max_tokens=limit)
    assert built == bare + "Caption:"
    with pytest.raises(ConfigError, match="without any caption or object"):
        template().build(THREE, found, count_tokens=words, max_tokens=limit - 1)


def test_objects_block() -> None:
    """Objects replace their placeholder, one a line with its position."""
    found = [
        DetectedObject("dog", (0.0, 0.0, 0.2, 0.2)),
        DetectedObject("{label}", (0.4, 0.4, 0.2, 0.2)),
    ]
    built = template().build(THREE[:1], found)
    assert built.endswith("- one one\n- dog: top left\n- {label}: center\nCaption:")


def test_heading_stands_above_objects_alone() -> None:
    """The heading is above the objects; without any, or with none left, it is left out."""
    found = [DetectedObject("dog", (0.0, 0.0, 0.2, 0.2))]
    headed = template(object_heading="To be {seen}:")
    assert headed.build(THREE[:1], found).endswith(
        "- one one\nTo be {seen}:\n- dog: top left\nCaption:"
    )
    assert headed.build(THREE) == template().build(THREE)
    bare = template().build([])
    assert headed.build(THREE, found, count_tokens=words, max_tokens=words(bare)) == bare


def test_template_fits_prompts_that_it_built() -> None:
    """With and without objects and a heading; not what another wording built."""
    found = [DetectedObject("dog", (0.0, 0.0, 0.2, 0.2))]
    for text in (TEMPLATE, "{instruction} {objects}; {captions}."):
        plain = template(text)
        headed = template(text, object_heading="Seen:")
        for built in (plain, headed):
            for objects in ((), found):
                assert built.fits(built.build(THREE, objects))
        assert not headed.fits(template(text, instruction="Say it.").build(THREE))
    assert not headed.fits(plain.build(THREE, found))


def test_prompt_is_read_as_it_was_built() -> None:
    """The first caption and the instruction are found in prompts of this template alone."""
    found = [DetectedObject("dog", (0.0, 0.0, 0.2, 0.2))]
    for text in (TEMPLATE, "{captions}. {objects}; {instruction}"):
        made = template(text, instruction="Describe (it).", caption_line="* {caption}!")
        other = template(text, instruction="Say it\\1.", caption_line="* {caption}!")
        for objects in ((), found):
            prompt = made.build(THREE, objects)
            assert made.first_caption(prompt) == THREE[0].captions[0]
            assert made.replace_instruction(prompt, "Say it\\1.") == other.build(THREE, objects)
            assert other.first_caption(prompt) is other.replace_instruction(prompt, "a") is None
        assert made.first_caption(made.build([])) == ""


def test_caption_line_shows_rank_and_similarity() -> None:
    """They are the image's, for each of its captions, and such prompts are read as others."""
    made = template(captions_per_match=2, caption_line="{rank}) {caption} [{similarity}]")
    prompt = made.build([Match("x", 0.987654, ("a", "b")), Match("y", -0.05, ("c {rank}",))])
    assert "Similar:\n1) a [0.99]\n1) b [0.99]\n2) c {rank} [-0.05]\nCaption:" in prompt
    assert made.first_caption(prompt) == "a" and made.fits(prompt)


def test_captions_are_found_where_they_stand() -> None:
    """A caption that the instruction holds too is found among the captions; what is cut ends it."""
    made = template(instruction="Describe a dog.")
    captions = ["a dog", "a cat", "a dog"]
    prompt = made.build(matches(*((text,) for text in captions)))
    spans = made.caption_spans(prompt, captions)
    assert [prompt[start:end] for start, end in spans] == captions
    assert spans[0][0] > prompt.index("Similar:") and spans[2][0] > spans[1][1]
    shorter = made.build(matches(("a dog",)))
    assert len(made.caption_spans(shorter, captions)) == 1


def test_bisection_equals_leaving_out_one_by_one() -> None:
    """For every limit the same captions and objects are kept, in a few looks at the prompt."""
    sizes = (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9)
    many = matches(*((" ".join(["word"] * size),) for size in sizes))
    found = [DetectedObject(f"thing{n}", (0.4, 0.4, 0.2, 0.2)) for n in range(6)]
    made = template(object_heading="Seen:")
    states = [(many[:kept], found) for kept in range(len(many), 0, -1)]
    states += [([], found[:shown]) for shown in range(len(found), -1, -1)]
    looks = []

    def count(text: str) -> int:
        looks.append(text)
        return words(text)

    for limit in range(words(made.build([])), words(made.build(many, found)) + 1):
        one_by_one = next(p for state in states if words(p := made.build(*state)) <= limit)
        looks.clear()
        assert made.build(many, found, count_tokens=count, max_tokens=limit) == one_by_one
        assert len(looks) <= 9


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (0.1, 0.1, "top left"),
        (0.5, 0.1, "top"),
        (0.9, 0.1, "top right"),
        (0.1, 0.5, "left"),
        (0.5, 0.5, "center"),
        (0.9, 0.5, "right"),
        (0.1, 0.9, "bottom left"),
        (0.5, 0.9, "bottom"),
        (1.0, 1.0, "bottom right"),
    ],
)
def test_position_is_that_of_the_boxs_center(x: float, y: float, expected: str) -> None:
    """Nine positions, decided by the center of the box; its corner does not matter."""
    half = min(x, 1 - x, y, 1 - y)
    box = (x - half, y - half, 2 * half, 2 * half)
    assert describe_position(DetectedObject("dog", box)) == expected


def test_fingerprint_changes_with_the_wording() -> None:
    """Every part that shapes prompts changes the fingerprint, and nothing else does."""
    variants = [
        template(),
        template(TEMPLATE + " "),
        template(instruction="Describe it"),
        template(caption_line="* {caption}"),
        template(captions_per_match=2),
        template(object_line="{label} ({position})"),
        template(object_source={"source": "instances"}),
        template(object_source={"source": "detector", "detector": "a", "threshold": 0.5}),
        template(object_source={"source": "detector", "detector": "a", "threshold": 0.6}),
        template(object_source={"source": "instances"}, object_heading="Seen:"),
    ]
    assert len({variant.fingerprint() for variant in variants}) == len(variants)
    assert template().fingerprint() == template().fingerprint()


def test_fingerprint_without_objects_is_that_of_the_first_version() -> None:
    """Prompts trained and data built before objects counted are still those of their template."""
    assert (
        template(object_heading="Seen:").fingerprint()
        == template().fingerprint()
        == ("bbe64945427f703d3c309723f82b6658b6edea541ebcc5f6bd1963ba92b2789b")
    )
