"""Training and validation examples share no image."""

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


def test_equal_files_are_refused(tiny_t5: Path, tmp_path: Path) -> None:
    """Two files of the same content are refused also without image ids."""
    with pytest.raises(DataError, match=r"train\.jsonl and .*val\.jsonl: have the same content"):
        check(tmp_path, tiny_t5, [EXAMPLE], [EXAMPLE])


def test_equal_examples_without_a_common_image_id_are_accepted(
    tiny_t5: Path, tmp_path: Path
) -> None:
    """Two images may have the same caption."""
    check(tmp_path, tiny_t5, [EXAMPLE, {**EXAMPLE, "caption": "a cat"}], [EXAMPLE])
    check(tmp_path, tiny_t5, [{**EXAMPLE, "image_id": 1}], [{**EXAMPLE, "image_id": 2}])


def test_image_in_both_files_is_refused(tiny_t5: Path, tmp_path: Path) -> None:
    """An image is the same if its id and its captions are; their order does not count."""
    both = {"image_id": 7, "references": ["a dog", "a cat"]}
    reordered = {"image_id": 7, "references": ["a cat", "a dog"], "prompt": "a bird"}
    with pytest.raises(DataError, match="both hold the image 7 with the same"):
        check(tmp_path, tiny_t5, [EXAMPLE | both], [EXAMPLE | reordered])
    for other in ({"references": ["a bird"]}, {"image_id": None}, {"image_id": "x"}):
        check(tmp_path, tiny_t5, [EXAMPLE | both], [EXAMPLE | reordered | other])
