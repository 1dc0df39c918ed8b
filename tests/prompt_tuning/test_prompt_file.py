"""prompt_embeddings.pt: exact, the same bytes each time, and refused where it does not belong."""

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from igrag.errors import CheckpointError
from igrag.language_model import LanguageModel
from prompt_tuning.fingerprint import Fingerprint, fingerprint_of
from prompt_tuning.prompt_file import PromptFile, load_prompt, save_prompt
from prompt_tuning.prompt_tuner import PromptTuner
from tests.prompt_tuning.models import noise

MARKS = Fingerprint("t5, width 32", "a" * 64, "b" * 64, "c" * 64, "none")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a prompt goes."""
    return tmp_path / "prompt_embeddings.pt"


def test_round_trip_is_exact(path: Path) -> None:
    """Values, initialization and fingerprint come back; the file is a plain dict."""
    prompt = noise(5)
    save_prompt(path, PromptFile(prompt, "vocab", MARKS))
    found = load_prompt(path, expected=MARKS)
    assert torch.equal(found.embeddings, prompt)
    assert (found.initialization, found.fingerprint) == ("vocab", MARKS)
    content = torch.load(path, weights_only=True)
    assert sorted(content) == [
        "embedding_dim", "fingerprint", "format_version", "initialization", "prompt_embeddings",
        "prompt_length",
    ]  # fmt: skip
    assert (content["prompt_length"], content["embedding_dim"]) == (5, 32)


def test_the_same_prompt_gives_the_same_bytes(tmp_path: Path) -> None:
    """Whatever the file is called, and though the tensor is a view of a larger one."""
    whole = noise(9)
    for name, prompt in (("a.pt", whole[:4]), ("other.pt", whole[:4].clone())):
        save_prompt(tmp_path / name, PromptFile(prompt, "random", MARKS))
    first, second = ((tmp_path / name).read_bytes() for name in ("a.pt", "other.pt"))
    assert first == second and len(first) < 5000


@pytest.mark.parametrize("key", ["model", "embeddings", "tokenizer", "template", "lora"])
def test_what_does_not_match_is_refused(path: Path, key: str) -> None:
    """Each part of the fingerprint counts, and both sides are named."""
    save_prompt(path, PromptFile(noise(3), "random", MARKS))
    other = replace(MARKS, **{key: "something else"})
    with pytest.raises(CheckpointError) as caught:
        load_prompt(path, expected=other)
    message = str(caught.value)
    assert str(path) in message and key in message and "something else" in message
    assert str(getattr(MARKS, key))[:12] in message


def test_what_is_not_known_is_not_compared(path: Path) -> None:
    """A fingerprint without a template fits any template."""
    save_prompt(path, PromptFile(noise(3), "random", replace(MARKS, template=None)))
    load_prompt(path, expected=MARKS)


@pytest.mark.parametrize("kind", ["tensor", "dict"])
def test_older_files_load_with_a_warning(
    path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A bare tensor, or a dict without a fingerprint."""
    prompt = noise(3)
    torch.save(prompt if kind == "tensor" else {"prompt_embeddings": prompt}, path)
    assert torch.equal(load_prompt(path, expected=MARKS).embeddings, prompt)
    assert "does not say which model" in caplog.text


def truncated(path: Path) -> None:
    """Leave half of a good file."""
    save_prompt(path, PromptFile(noise(3), "random", MARKS))
    path.write_bytes(path.read_bytes()[:700])


def saved(content: Any) -> Callable[[Path], None]:
    """Make a writer of some content."""
    return lambda path: torch.save(content, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such file"),
        (truncated, "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (saved({"prompt": noise(2)}), "expected"),
        (saved([1, 2]), "expected"),
        (saved(noise(2)[0]), r"shape \[32\]"),
        (saved(torch.ones(2, 3, dtype=torch.long)), "no finite numbers"),
        (saved(torch.full((2, 3), float("nan"))), "no finite numbers"),
        (saved({"prompt_embeddings": noise(2), "prompt_length": 3}), "prompt_length says 3"),
        (saved({"prompt_embeddings": noise(2), "format_version": 9}), "format version 9"),
        (saved({"prompt_embeddings": noise(2), "fingerprint": {"lora": 3}}), "not text"),
    ],
)
def test_bad_files_are_one_error(path: Path, write: Callable[[Path], None], message: str) -> None:
    """Missing, damaged or something else: the file and what is wrong with it are named."""
    write(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_prompt(path)
    assert str(path) in str(caught.value)


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


def test_a_prompt_that_is_not_finite_is_not_written(path: Path) -> None:
    """And what stood there stays."""
    save_prompt(path, PromptFile(noise(3), "random", MARKS))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="not finite"):
        save_prompt(path, PromptFile(noise(3) / 0, "random", MARKS))
    assert path.read_bytes() == before


def test_a_tuner_comes_back_from_its_file(language: LanguageModel, path: Path) -> None:
    """Saved and put before the model again it has the values, and says how they began."""
    tuner = PromptTuner(language.model, language.tokenizer, 4, "vocab")
    tuner.save_prompt(path)
    again = PromptTuner.from_file(language.model, language.tokenizer, path)
    assert torch.equal(again.folded(), tuner.folded()) and again.initialization == "vocab"
    tuner.load_prompt(path, "named")
    assert torch.equal(tuner.prompt("named"), tuner.folded())


def test_the_fingerprint_sees_what_matters(language: LanguageModel) -> None:
    """Other embeddings, another template or adapter: another fingerprint; bfloat16: the same."""
    model, tokenizer = language.model, language.tokenizer
    plain = fingerprint_of(model, tokenizer, template="x")
    assert plain.differences(fingerprint_of(model, tokenizer, template="y"))
    assert plain.differences(fingerprint_of(model, tokenizer, template="x", lora="z"))
    weight = model.get_input_embeddings().weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight[5, 0] += 1
        changed = fingerprint_of(model, tokenizer, template="x")
        weight.copy_(before)
    assert [text.split()[0] for text in plain.differences(changed)] == ["embeddings"]
    model.to(torch.bfloat16)
    assert plain.differences(fingerprint_of(model, tokenizer, template="x")) == []
    model.to(torch.float32)
    with torch.no_grad():
        weight.copy_(before)
