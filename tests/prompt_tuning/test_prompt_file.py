"""prompt_embeddings.pt: exact, of equal bytes, and refused for other models."""

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from igrag.captioning.language_model import LanguageModel
from igrag.errors import CheckpointError, OutputError
from prompt_tuning.prompt_file import PromptFile, load_prompt, save_prompt
from prompt_tuning.prompt_tuner import PromptTuner
from tests.prompt_tuning.models import MARKS, make_tuner, noise


def test_saved_prompt_is_loaded_exactly(path: Path) -> None:
    """Values, initialization and fingerprint are loaded; the file is a plain dict."""
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


def test_equal_prompts_give_equal_files(tmp_path: Path) -> None:
    """The bytes depend neither on the file's name nor on the tensor's storage."""
    whole = noise(9)
    for name, prompt in (("a.pt", whole[:4]), ("other.pt", whole[:4].clone())):
        save_prompt(tmp_path / name, PromptFile(prompt, "random", MARKS))
    first, second = ((tmp_path / name).read_bytes() for name in ("a.pt", "other.pt"))
    assert first == second and len(first) < 5000


@pytest.mark.parametrize("key", ["model", "embeddings", "tokenizer", "template", "lora", "weights"])
def test_prompt_of_another_fingerprint_is_refused(path: Path, key: str) -> None:
    """Each part of the fingerprint counts, and the error has both values."""
    save_prompt(path, PromptFile(noise(3), "random", MARKS))
    other = replace(MARKS, **{key: "something else"})
    with pytest.raises(CheckpointError) as caught:
        load_prompt(path, expected=other)
    message = str(caught.value)
    assert str(path) in message and key in message and "something else" in message
    assert str(getattr(MARKS, key))[:12] in message


@pytest.mark.parametrize("key", ["embeddings", "template", "weights"])
@pytest.mark.parametrize("side", ["file", "loaded"])
def test_unknown_part_of_a_fingerprint_is_warned_of(
    path: Path, key: str, side: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A part that only one fingerprint has is not compared, and named in a warning.

    A caller without a template gets no warning.
    """
    known, gap = MARKS, replace(MARKS, **{key: None})
    save_prompt(path, PromptFile(noise(3), "random", gap if side == "file" else known))
    load_prompt(path, expected=known if side == "file" else gap)
    warnings = [record.getMessage() for record in caplog.records]
    if (key, side) == ("template", "loaded"):
        assert warnings == []
    else:
        assert len(warnings) == 1 and f"without comparing {key}:" in warnings[0]


def test_complete_fingerprint_loads_without_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that was compared in every part brings no warning."""
    save_prompt(path, PromptFile(noise(3), "random", MARKS))
    load_prompt(path, expected=MARKS)
    assert caplog.records == []


def test_file_without_the_weights_hash_is_accepted(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Earlier versions saved no hash of the weights; a warning names what was not compared."""
    marks = {key: value for key, value in MARKS.to_dict().items() if key != "weights"}
    torch.save({"prompt_embeddings": noise(3), "fingerprint": marks}, path)
    load_prompt(path, expected=MARKS)
    assert "without comparing weights:" in caplog.text


@pytest.mark.parametrize("kind", ["tensor", "dict", "empty", "unknown"])
def test_file_without_a_fingerprint_loads_with_a_warning(
    path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A bare tensor, and a dict without a fingerprint or with an empty one, are loaded."""
    prompt = noise(3)
    marks: dict[str, Any] = {"empty": {}, "unknown": {"model": None, "clip": "x"}}
    content: dict[str, Any] = {"prompt_embeddings": prompt}
    if kind in marks:
        content["fingerprint"] = marks[kind]
    torch.save(prompt if kind == "tensor" else content, path)
    assert torch.equal(load_prompt(path, expected=MARKS).embeddings, prompt)
    assert "has no fingerprint of its model" in caplog.text


def test_prompt_that_is_not_finite_is_not_saved(path: Path) -> None:
    """The earlier file is kept."""
    save_prompt(path, PromptFile(noise(3), "random", MARKS))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="not finite"):
        save_prompt(path, PromptFile(noise(3) / 0, "random", MARKS))
    assert path.read_bytes() == before


def test_prompt_of_another_width_is_refused(
    language: LanguageModel, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The error has the file, its width and the model's, also without a fingerprint."""
    torch.save(noise(3, width=8), path)
    tuner = make_tuner(language, 4)
    for load in (
        lambda: PromptTuner.from_file(language.model, language.tokenizer, path),
        lambda: tuner.load_prompt(path, "named"),
    ):
        with pytest.raises(CheckpointError, match=r"prompt_embeddings\.pt: .*width 8.* 32"):
            load()


def test_half_precision_is_loaded_as_float32(path: Path) -> None:
    """A tensor that was saved in bfloat16 has the same values in float32."""
    torch.save(noise(3).bfloat16(), path)
    found = load_prompt(path).embeddings
    assert found.dtype == torch.float32 and torch.equal(found, noise(3).bfloat16().float())


def test_failed_save_keeps_the_earlier_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full leaves the earlier file, and no temporary one."""
    save_prompt(path, PromptFile(noise(3), "random", MARKS))
    before = path.read_bytes()

    def half(self: Path, data: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", half)
        with pytest.raises(OutputError, match="No space left"):
            save_prompt(path, PromptFile(noise(3, seed=1), "random", MARKS))
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_tuner_is_loaded_from_its_file(language: LanguageModel, path: Path) -> None:
    """The loaded tuner has the values and the initialization."""
    tuner = make_tuner(language, 4, "vocab")
    tuner.save_prompt(path)
    again = PromptTuner.from_file(language.model, language.tokenizer, path)
    assert (
        torch.equal(again.plain_prompt(), tuner.plain_prompt()) and again.initialization == "vocab"
    )
    tuner.load_prompt(path, "named")
    assert torch.equal(tuner.prompt("named"), tuner.plain_prompt())
