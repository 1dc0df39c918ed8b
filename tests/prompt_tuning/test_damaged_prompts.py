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


def truncated(path: Path) -> None:
    """Leaves half of a good file."""
    save_prompt(path, PromptFile(noise(3), "random", MARKS))
    path.write_bytes(path.read_bytes()[:700])


def saved(content: Any) -> Callable[[Path], None]:
    """Returns a function that saves some content."""
    return lambda path: torch.save(content, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such file"),
        (truncated, "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (saved({"prompt": noise(2)}), "found prompt, expected"),
        (saved({f"layer.{number}": noise(2) for number in range(200)}),
         "found layer.0, layer.1, layer.2 and 197 more, expected"),
        (saved({}), "found nothing, expected"),
        (saved([1, 2]), "expected"),
        (saved(noise(2)[0]), r"shape \[32\]"),
        (saved(noise(0)), r"shape \[0, 32\]"),
        (saved(torch.ones(2, 3, dtype=torch.long)), "no finite numbers"),
        (saved(torch.full((2, 3), float("nan"))), "no finite numbers"),
        (saved({"prompt_embeddings": noise(2), "prompt_length": 3}), "prompt_length is 3"),
        (saved({"prompt_embeddings": noise(2), "embedding_dim": 9}), "embedding_dim is 9"),
        (saved({"prompt_embeddings": noise(2), "prompt_length": torch.tensor([2, 2])}),
         "prompt_length is a Tensor, .*damaged"),
        (saved({"prompt_embeddings": noise(2), "embedding_dim": "32"}), "'32', but.* 32; damaged"),
        (saved({"prompt_embeddings": noise(2), "initialization": noise(1)}), "a Tensor.*damaged"),
        (saved({"prompt_embeddings": noise(2), "format_version": 9}),
         "format_version 9, expected 1; use a newer"),
        (saved({"prompt_embeddings": noise(2), "format_version": "1"}),
         "format_version '1', expected 1; damaged"),
        (saved({"prompt_embeddings": noise(2), "format_version": noise(2)}), "a Tensor.*damaged"),
        (saved({"prompt_embeddings": noise(2).to_sparse()}), "without plain values; damaged"),
        (saved(noise(2).to_sparse()), "without plain values; damaged"),
        (saved({"prompt_embeddings": noise(2).to("meta")}), "without plain values; damaged"),
        (saved({"prompt_embeddings": noise(2), "fingerprint": {"lora": 3}}), "not text"),
    ],
)  # fmt: skip
def test_bad_files_are_one_error(path: Path, write: Callable[[Path], None], message: str) -> None:
    """Missing, damaged or something else: the file and what is wrong with it are named."""
    write(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_prompt(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("place", ["values", "text"])
def test_a_single_wrong_bit_is_seen(path: Path, place: str) -> None:
    """torch.load passes over the checksums; a prompt with another number in it is refused."""
    prompt = noise(3)
    save_prompt(path, PromptFile(prompt, "random", MARKS))
    content = bytearray(path.read_bytes())
    sought = prompt.numpy().tobytes() if place == "values" else b"random"
    content[content.index(sought) + 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged.*checksum"):
        load_prompt(path)


def test_every_truncation_is_one_error(path: Path) -> None:
    """Wherever the file was cut off."""
    save_prompt(path, PromptFile(noise(3), "random", MARKS))
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            load_prompt(path)


def test_damage_without_checksums_is_one_error(path: Path) -> None:
    """The format before torch 1.6 has none: whatever its reader trips over, it is one error."""
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


def test_a_folder_is_no_prompt(path: Path) -> None:
    """A folder without prompt_embeddings.pt is one line that names the missing file."""
    path.mkdir()
    with pytest.raises(CheckpointError, match="no such file"):
        load_prompt(path)


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_nothing_is_unpickled(path: Path, tmp_path: Path) -> None:
    """A pickle that runs code is an error, and does not run."""
    mark = tmp_path / "ran"
    for write in (
        lambda: torch.save({"prompt_embeddings": Malicious(mark)}, path),
        lambda: path.write_bytes(pickle.dumps(Malicious(mark))),
    ):
        write()
        with pytest.raises(CheckpointError):
            load_prompt(path)
        assert not mark.exists()
