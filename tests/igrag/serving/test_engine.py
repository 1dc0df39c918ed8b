"""What requests may ask for: methods, soft prompts by name, and one-line errors."""

from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from igrag.commands.served_models import LoadedEngine, load_engine
from igrag.config import Config, find_model
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


@pytest.fixture
def loaded(tiny_settings: list[str]) -> LoadedEngine:
    """The engine around tiny models, which generate up to six tokens."""
    settings = [*tiny_settings, "generation_config.max_new_tokens=6"]
    config = Config.load(overrides=settings)
    return load_engine(config, find_model(config.models, None).path, "tiny")


def test_caption_grows_token_by_token_to_the_whole_one(loaded: LoadedEngine) -> None:
    """Greedy search yields every token; beam search yields the caption alone; both are right."""
    image = Image.new("RGB", (32, 32), "red")
    engine, choice = loaded.engine, Choice(False, None)
    retrieved = engine.retrieve(image, "red.png", 2)
    for beams in (1, 3):
        decoding = replace(engine.decoding, num_beams=beams)
        texts = list(engine.stream(retrieved, choice, decoding))
        loaded.captioner.generator.decode_with(decoding)
        assert texts[-1] == loaded.captioner.generator.generate([retrieved.prompt])[0]
        assert len(texts) > 2 if beams == 1 else len(texts) == 1
        assert all(texts[-1].startswith(text) for text in texts)


def test_stopped_stream_leaves_the_engine_free(loaded: LoadedEngine) -> None:
    """Who stops reading ends the generation; the next caption does not wait."""
    retrieved = loaded.engine.retrieve(Image.new("RGB", (32, 32), "blue"), "blue.png", 2)
    decoding = replace(loaded.engine.decoding, num_beams=1)
    stream: Any = loaded.engine.stream(retrieved, Choice(False, None), decoding)
    next(stream)
    stream.close()
    assert not loaded.engine.lock.locked()
    assert list(loaded.engine.stream(retrieved, Choice(False, None), decoding))
