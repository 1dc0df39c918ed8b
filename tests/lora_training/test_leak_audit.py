"""Finding prompts that give their own answer away."""

import json
from pathlib import Path

import pytest

from lora_training.examples import Leak, audit_leaks, find_caption


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("- a dog in a field", "a dog in a field"),
        ("- A DOG, in a field!\nCaption:", "A dog in a field."),
        ("Look: a dog  in a field and more", "a dog in a field"),
        ("- a man's dog\n- b", "A man's dog"),
        ("- first line\nsecond line\nCaption:", "first line\nsecond line"),
    ],
)
def test_caption_in_a_prompt_is_found_word_for_word(text: str, caption: str) -> None:
    """Case, punctuation and surroundings hide nothing."""
    assert find_caption(text, ["nothing of it", caption]) == caption


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("- a dog in a fielder", "a dog in a field"),
        ("- an idol in a field", "dol in a field"),
        ("- a dog in the field", "a dog in a field"),
        ("- a cat and a dog\n- in a field", "a dog in a field"),
        ("- a mans dog", "a man's dog"),
        ("anything", "?!"),
        ("anything", ""),
    ],
)
def test_part_of_a_caption_is_no_leak(text: str, caption: str) -> None:
    """Parts of words, other words and captions that only meet across lines are no leaks."""
    assert find_caption(text, [caption]) is None


def test_audit_lists_leaked_targets_and_references(tmp_path: Path) -> None:
    """Each leaking example is listed once, with its number, its image and the caption."""
    lines = [
        {"prompt": "- a cat", "caption": "a dog"},
        {"prompt": "- A dog!", "caption": "a dog", "references": ["a dog", "one dog"]},
        {"prompt": "- one dog", "caption": "a dog", "references": ["one dog"], "image_id": 7},
    ]
    file = tmp_path / "train.jsonl"
    file.write_text("\n\n".join(json.dumps(line) for line in lines))
    assert list(audit_leaks(file)) == [Leak(2, None, "a dog"), Leak(3, 7, "one dog")]
