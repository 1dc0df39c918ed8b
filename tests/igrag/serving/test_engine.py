"""What requests may ask for: methods, soft prompts by name, and one-line errors."""

import pytest

from igrag.serving.engine import Choice, ChoiceError, Choices

CHOICES = Choices(
    methods={
        "base": Choice(False, None),
        "prompt": Choice(False, "default"),
        "lora": Choice(True, None),
        "lora+prompt": Choice(True, "default"),
    },
    default="base",
    prompts={False: ["short", "long"], True: ["adapted"]},
)


@pytest.mark.parametrize(
    ("method", "name", "expected"),
    [
        (None, None, Choice(False, None)),
        ("lora+prompt", None, Choice(True, "default")),
        (None, "short", Choice(False, "short", "short")),
        ("prompt", "long", Choice(False, "long", "long")),
        ("lora+prompt", "adapted", Choice(True, "adapted", "adapted")),
    ],
)
def test_method_and_prompt_name_are_found(
    method: str | None, name: str | None, expected: Choice
) -> None:
    """A name replaces the method's own soft prompt; the method decides on the adapter."""
    assert CHOICES.find(method, name) == expected


@pytest.mark.parametrize(
    ("method", "name", "expected"),
    [
        ("promt", None, r"method: found 'promt', did you mean prompt\? expected one of base"),
        (
            None,
            "shrt",
            r"found 'shrt', did you mean short\? expected one of short, long",
        ),
        ("lora+prompt", "short", r"expected one of adapted \(soft prompts with LoRA\)"),
        ("base", "short", "the method base, which has no soft prompt; leave out one of the two"),
    ],
)
def test_wrong_choice_is_an_error_with_what_there_is(
    method: str | None, name: str | None, expected: str
) -> None:
    """The error has what was found, and what could be asked for."""
    with pytest.raises(ChoiceError, match=expected):
        CHOICES.find(method, name)
