"""Damaged prompt files: one error that names the file, and nothing in them is run."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from igrag.errors import CheckpointError
from prompt_tuning.prompt_file import PromptFile, load_prompt, save_prompt
from tests.prompt_tuning.models import MARKS, noise


def save_truncated(path: Path) -> None:
    """Saves the first half of a valid file."""
    save_prompt(path, PromptFile(noise(3), "random", MARKS))
    path.write_bytes(path.read_bytes()[:700])


def saves(content: Any) -> Callable[[Path], None]:
    """Returns a function that saves some content to a path."""
    return lambda path: torch.save(content, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such file"),
        (save_truncated, "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (saves({"prompt": noise(2)}), "found prompt, expected"),
        (saves({f"layer.{number}": noise(2) for number in range(200)}),
         "found layer.0, layer.1, layer.2 and 197 more, expected"),
        (saves({}), "found nothing, expected"),
        (saves([1, 2]), "expected"),
        (saves(noise(2)[0]), r"shape \[32\]"),
        (saves(noise(0)), r"shape \[0, 32\]"),
        (saves(torch.ones(2, 3, dtype=torch.long)), "no finite numbers"),
        (saves(torch.full((2, 3), float("nan"))), "no finite numbers"),
        (saves({"prompt_embeddings": noise(2), "prompt_length": 3}), "prompt_length is 3"),
        (saves({"prompt_embeddings": noise(2), "embedding_dim": 9}), "embedding_dim is 9"),
        (saves({"prompt_embeddings": noise(2), "prompt_length": torch.tensor([2, 2])}),
         "prompt_length is a Tensor, .*damaged"),
        (saves({"prompt_embeddings": noise(2), "embedding_dim": "32"}), "'32', but.* 32; damaged"),
        (saves({"prompt_embeddings": noise(2), "initialization": noise(1)}), "a Tensor.*damaged"),
        (saves({"prompt_embeddings": noise(2), "format_version": 9}),
         "format_version 9, expected 1 or 2; use a newer"),
        (saves({"prompt_embeddings": noise(2), "format_version": "1"}),
         "format_version '1', expected 1 or 2; damaged"),
        (saves({"prompt_embeddings": noise(2), "format_version": noise(2)}), "a Tensor.*damaged"),
        (saves({"prompt_embeddings": noise(2).to_sparse()}), "without plain values; damaged"),
        (saves(noise(2).to_sparse()), "without plain values; damaged"),
        (saves({"prompt_embeddings": noise(2).to("meta")}), "without plain values; damaged"),
        (saves({"prompt_embeddings": noise(2), "fingerprint": {"lora": 3}}), "not text"),
    ],
)  # fmt: skip
def test_invalid_prompt_file_is_refused(
    path: Path, write: Callable[[Path], None], message: str
) -> None:
    """The error names a missing, damaged or other file, and what is wrong with it."""
    write(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_prompt(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("part", ["values", "text"])
def test_single_wrong_bit_is_refused(path: Path, part: str) -> None:
    """A prompt with a wrong bit is refused, though torch.load ignores the checksums."""
    prompt = noise(3)
    save_prompt(path, PromptFile(prompt, "random", MARKS))
    content = bytearray(path.read_bytes())
    sought = prompt.numpy().tobytes() if part == "values" else b"random"
    content[content.index(sought) + 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged.*checksum"):
        load_prompt(path)


def test_file_truncated_anywhere_is_refused(path: Path) -> None:
    """A file is refused at whatever length it was save_truncated."""
    save_prompt(path, PromptFile(noise(3), "random", MARKS))
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            load_prompt(path)


def test_damaged_file_without_checksums_is_refused(path: Path) -> None:
    """A damaged file in the format before torch 1.6, which has no checksums, is refused."""
    torch.save({"prompt_embeddings": noise(3)}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(load_prompt(path).embeddings, noise(3))
    whole = path.read_bytes()
    refused = 0
    for position in range(200):
        content = bytearray(whole)
        content[position] ^= 0xFF
        path.write_bytes(content)
        try:
            load_prompt(path)
        except CheckpointError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 100


def test_folder_as_prompt_file_is_refused(path: Path) -> None:
    """A folder without prompt_embeddings.pt is an error of one line."""
    path.mkdir()
    with pytest.raises(CheckpointError, match="no such file"):
        load_prompt(path)


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_code_in_a_prompt_file_is_not_run(path: Path, tmp_path: Path) -> None:
    """A pickle that holds code is refused, and the code is not run."""
    mark = tmp_path / "ran"
    for write in (
        lambda: torch.save({"prompt_embeddings": Malicious(mark)}, path),
        lambda: path.write_bytes(pickle.dumps(Malicious(mark))),
    ):
        write()
        with pytest.raises(CheckpointError):
            load_prompt(path)
        assert not mark.exists()
