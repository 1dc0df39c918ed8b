"""Train and val share no image."""

import json
from pathlib import Path
from typing import Any

import pytest

from igrag.captioning.language_model import load_tokenizer
from igrag.data.checks import refuse_shared_images
from igrag.data.tokenization import tokenized_dataset
from igrag.errors import DataError

EXAMPLE = {"prompt": "a dog in the field", "caption": "a dog"}


def check(
    folder: Path, model: Path, train: list[dict[str, Any]], val: list[dict[str, Any]]
) -> None:
    """Writes both files and checks them."""
    tokenizer = load_tokenizer(str(model))
    files, sets = [], []
    for name, examples in (("train", train), ("val", val)):
        files.append(folder / f"{name}.jsonl")
        files[-1].write_text("".join(json.dumps(each) + "\n" for each in examples), "utf-8")
        sets.append(
            tokenized_dataset(
                files[-1], tokenizer, max_source_length=20, max_target_length=9, cache_dir=folder
            )
        )
    refuse_shared_images(files[0], files[1], sets[0], sets[1])


def test_files_of_equal_content_are_refused(tiny_t5: Path, tmp_path: Path) -> None:
    """Examples without image ids are compared by the content of their files."""
    with pytest.raises(DataError, match=r"train\.jsonl and .*val\.jsonl: have the same content"):
        check(tmp_path, tiny_t5, [EXAMPLE], [EXAMPLE])


def test_two_images_may_share_a_caption(tiny_t5: Path, tmp_path: Path) -> None:
    """Equal captions without an equal image id are no shared image."""
    check(tmp_path, tiny_t5, [EXAMPLE, {**EXAMPLE, "caption": "a cat"}], [EXAMPLE])
    check(tmp_path, tiny_t5, [{**EXAMPLE, "image_id": 1}], [{**EXAMPLE, "image_id": 2}])


def test_image_in_both_files_is_refused(tiny_t5: Path, tmp_path: Path) -> None:
    """The same id with the same captions in any order; another image may have the same id."""
    both = {"image_id": 7, "references": ["a dog", "a cat"]}
    reordered = {"image_id": 7, "references": ["a cat", "a dog"], "prompt": "a bird"}
    with pytest.raises(DataError, match="both hold the image 7 with the same"):
        check(tmp_path, tiny_t5, [EXAMPLE | both], [EXAMPLE | reordered])
    others: list[dict[str, Any]] = [
        {"references": ["a bird"]},
        {"image_id": None},
        {"image_id": "x"},
    ]
    for other in others:
        check(tmp_path, tiny_t5, [EXAMPLE | both], [EXAMPLE | reordered | other])
