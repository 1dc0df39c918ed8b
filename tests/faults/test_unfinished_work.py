"""Captions and training data of an interrupted command are kept, and the same command continues."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.partial_captions import PartialCaptions, captions_key
from igrag.captioning.caption_requests import CaptionRequest
from igrag.captioning.results_file import ResultsFile, open_results
from igrag.errors import UsageError
from igrag.processes import ALONE
from lora_training.unfinished_split import UnfinishedSplit

PROMPTS = {name: [f"{name} {number}" for number in range(150)] for name in ("base", "prompt")}


class InterruptedGenerator:
    """A caption generator that is interrupted before one of its calls."""

    def __init__(self, *, calls: int) -> None:
        self.left = calls
        self.captioned: list[str] = []

    def switch_to(self, model: Any) -> None:
        """Takes a model, which makes no difference."""

    def generate(self, prompts: Sequence[str], image_vectors: object = None) -> list[str]:
        """Returns the prompts in capitals."""
        if len(prompts) > 1:  # Not the warm-up.
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            self.captioned += prompts
        return [prompt.upper() for prompt in prompts]


def test_interrupted_evaluation_captions_nothing_twice(tmp_path: Path) -> None:
    """The second run generates what is missing, and has the captions of an uninterrupted one."""
    from evaluation.captioning import generate_captions

    path = tmp_path / "captions.partial.jsonl"
    models: Any = dict.fromkeys(PROMPTS)
    first: Any = InterruptedGenerator(calls=3)
    with pytest.raises(KeyboardInterrupt):
        generate_captions(first, models, PROMPTS, ALONE, partial=PartialCaptions(path, "key"))
    with path.open("a") as file:
        file.write('{"method": "half a li')  # As kill -9 leaves it.
    partial = PartialCaptions(path, "key")
    assert len(partial) == len(first.captioned) == 3 * 64
    second: Any = InterruptedGenerator(calls=99)
    generated = generate_captions(second, models, PROMPTS, ALONE, partial=partial)
    assert sorted([*first.captioned, *second.captioned]) == sorted(chain(*PROMPTS.values()))
    assert {name: list(each.captions) for name, each in generated.items()} == {
        name: [prompt.upper() for prompt in prompts] for name, prompts in PROMPTS.items()
    }
    assert len(PartialCaptions(path, "key")) == 300


def test_captions_of_another_evaluation_are_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Other prompts, settings or weights, or a file of something else: all is generated again."""
    path = tmp_path / "captions.partial.jsonl"
    PartialCaptions(path, "key").add("base", 0, ["a dog"], 1.0)
    assert len(PartialCaptions(path, "other")) == 0
    assert "left by an evaluation of something else" in caplog.text
    path.write_text('{"key": "other"}\n{"foreign": 1}\n')
    assert len(PartialCaptions(path, "other")) == 0
    weights = tmp_path / "prompt.pt"
    keys = set()
    for content, prompts in (("a", {}), ("b", {}), ("b", {"base": ["x"]})):
        weights.write_text(content)
        keys.add(captions_key({"model": "t5"}, [weights], prompts))
    assert len(keys) == 3


def add(results: ResultsFile, *names: str) -> None:
    """Adds results of images."""
    for name in names:
        results.add(json.dumps({"image": name, "caption": "a dog", "model": "t5"}))


def test_results_file_is_continued_behind_its_last_whole_line(tmp_path: Path) -> None:
    """Images that have a result are passed over; a line that was cut off is written again."""
    path = tmp_path / "results.jsonl"
    with open_results(path, resume=False) as results:
        assert results is not None
        add(results, "a.jpg", "b \udcff.jpg")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"image": "c.jp')
    with open_results(path, resume=True) as results:
        assert results is not None
        images = [Path(name) for name in ("a.jpg", "b \udcff.jpg", "c.jpg")]
        requests = [CaptionRequest(image) for image in images]
        assert results.remaining(requests) == requests[2:]
        results.check_settings(lambda _: {"model": "t5"})
        with pytest.raises(UsageError, match="results with model 't5', expected 'other'"):
            results.check_settings(lambda _: {"model": "other"})
        add(results, "c.jpg")
    assert path.read_bytes().startswith(whole)
    assert [json.loads(line)["image"] for line in path.read_bytes().splitlines()] == [
        "a.jpg",
        "b \udcff.jpg",
        "c.jpg",
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_results_file_is_not_overwritten(tmp_path: Path) -> None:
    """An existing file is continued only on request, and only if it has results."""
    path = tmp_path / "notes.txt"
    path.write_text("precious")
    for resume, message in ((False, "continue it with --resume"), (True, ":1: is no result of")):
        path.write_text("precious\n")
        with pytest.raises(UsageError, match=message), open_results(path, resume=resume):
            pytest.fail("it was opened")
        assert path.read_text() == "precious\n"


def test_examples_of_an_interrupted_build_are_continued(tmp_path: Path) -> None:
    """What is beyond the recorded progress is cut off, and the counts go on."""
    path, rows = tmp_path / "train.jsonl", np.eye(3, dtype=np.float32)
    with UnfinishedSplit(path, resumable=True) as split:
        split.append([{"caption": "ein Bär"}], rows[:1], images=2)
        split.progress.skipped.append("b.jpg: missing")
        split.save_progress()
        split.append([{"caption": "lost"}], rows[1:2], images=1)  # Killed before this is recorded.
    with UnfinishedSplit(path, resumable=True) as split:
        assert (split.progress.images, split.progress.written) == (2, 1)
        assert split.progress.skipped == ["b.jpg: missing"]
        split.append([{"caption": "a cat"}], rows[2:], images=1)
        split.save_progress()
    assert path.read_text(encoding="utf-8") == '{"caption": "ein Bär"}\n{"caption": "a cat"}\n'
    saved = path.with_suffix(".rows").read_bytes()
    assert saved == rows[[0, 2]].astype(np.float16).tobytes()
    path.unlink()  # Killed after it was moved to where it belongs.
    with UnfinishedSplit(path, resumable=True) as split:
        assert split.progress.images == 0
    assert path.read_bytes() == b""
