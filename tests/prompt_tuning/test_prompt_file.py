"""prompt_embeddings.pt: exact, the same bytes each time, and refused where it does not belong."""

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from igrag.captioning.language_model import LanguageModel
from igrag.errors import CheckpointError
from prompt_tuning.prompt_file import PromptFile, load_prompt, save_prompt
from prompt_tuning.prompt_tuner import PromptTuner
from tests.prompt_tuning.models import MARKS, make_tuner, noise


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


@pytest.mark.parametrize("key", ["model", "embeddings", "tokenizer", "template", "lora", "weights"])
def test_what_does_not_match_is_refused(path: Path, key: str) -> None:
    """Each part of the fingerprint counts, and both sides are named."""
    save_prompt(path, PromptFile(noise(3), "random", MARKS))
    other = replace(MARKS, **{key: "something else"})
    with pytest.raises(CheckpointError) as caught:
        load_prompt(path, expected=other)
    message = str(caught.value)
    assert str(path) in message and key in message and "something else" in message
    assert str(getattr(MARKS, key))[:12] in message


@pytest.mark.parametrize("key", ["embeddings", "template", "weights"])
@pytest.mark.parametrize("side", ["file", "loaded"])
def test_what_is_not_known_is_not_compared(
    path: Path, key: str, side: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Something that one side does not know is passed over, and named in a warning.

    The template only where the caller has one: to ask for none is no gap.
    """
    known, gap = MARKS, replace(MARKS, **{key: None})
    save_prompt(path, PromptFile(noise(3), "random", gap if side == "file" else known))
    load_prompt(path, expected=known if side == "file" else gap)
    told = [record.getMessage() for record in caplog.records]
    if (key, side) == ("template", "loaded"):
        assert told == []
    else:
        assert len(told) == 1 and f"without comparing {key}:" in told[0]


def test_what_is_known_on_both_sides_is_used_without_a_word(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that was compared in every part brings no warning."""
    save_prompt(path, PromptFile(noise(3), "random", MARKS))
    load_prompt(path, expected=MARKS)
    assert caplog.records == []


def test_a_file_without_the_weights_hash_is_accepted(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As files were written before there was one: it is named as not compared."""
    marks = {key: value for key, value in MARKS.to_dict().items() if key != "weights"}
    torch.save({"prompt_embeddings": noise(3), "fingerprint": marks}, path)
    load_prompt(path, expected=MARKS)
    assert "without comparing weights:" in caplog.text


@pytest.mark.parametrize("kind", ["tensor", "dict", "empty", "unknown"])
def test_older_files_load_with_a_warning(
    path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A bare tensor, a dict without a fingerprint, or with one that says nothing."""
    prompt = noise(3)
    marks: dict[str, Any] = {"empty": {}, "unknown": {"model": None, "clip": "x"}}
    content: dict[str, Any] = {"prompt_embeddings": prompt}
    if kind in marks:
        content["fingerprint"] = marks[kind]
    torch.save(prompt if kind == "tensor" else content, path)
    assert torch.equal(load_prompt(path, expected=MARKS).embeddings, prompt)
    assert "has no fingerprint of its model" in caplog.text


def test_a_prompt_that_is_not_finite_is_not_written(path: Path) -> None:
    """And what stood there stays."""
    save_prompt(path, PromptFile(noise(3), "random", MARKS))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="not finite"):
        save_prompt(path, PromptFile(noise(3) / 0, "random", MARKS))
    assert path.read_bytes() == before


def test_another_width_is_refused(
    language: LanguageModel, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where no fingerprint tells: the file, what it has and what the model has are named."""
    torch.save(noise(3, width=8), path)
    tuner = make_tuner(language, 4)
    for load in (
        lambda: PromptTuner.from_file(language.model, language.tokenizer, path),
        lambda: tuner.load_prompt(path, "named"),
    ):
        with pytest.raises(CheckpointError, match=r"prompt_embeddings\.pt: .*width 8.* 32"):
            load()


def test_half_precision_is_read_as_float32(path: Path) -> None:
    """A tensor that was saved in bfloat16 comes with the same values."""
    torch.save(noise(3).bfloat16(), path)
    found = load_prompt(path).embeddings
    assert found.dtype == torch.float32 and torch.equal(found, noise(3).bfloat16().float())


def test_a_failed_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk in the middle of it: what stood there stays, and nothing lies beside it."""
    save_prompt(path, PromptFile(noise(3), "random", MARKS))
    before = path.read_bytes()

    def half(self: Path, data: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", half)
        with pytest.raises(OSError, match="No space left"):
            save_prompt(path, PromptFile(noise(3, seed=1), "random", MARKS))
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_tuner_comes_back_from_its_file(language: LanguageModel, path: Path) -> None:
    """Saved and put before the model again it has the values, and says how they began."""
    tuner = make_tuner(language, 4, "vocab")
    tuner.save_prompt(path)
    again = PromptTuner.from_file(language.model, language.tokenizer, path)
    assert (
        torch.equal(again.plain_prompt(), tuner.plain_prompt()) and again.initialization == "vocab"
    )
    tuner.load_prompt(path, "named")
    assert torch.equal(tuner.prompt("named"), tuner.plain_prompt())
