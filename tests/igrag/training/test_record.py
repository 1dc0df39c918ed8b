"""The record of a training run: its best checkpoint and its file."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from igrag.errors import CheckpointError
from igrag.training.record import (
    Evaluation,
    ModelFacts,
    TrainingRecord,
    TrainingStep,
)
from tests.trainings import evaluation, training

SCORES = {0: 0.08, 20: 0.31, 40: 0.46, 60: 0.44}


def test_best_is_the_highest_bleu4() -> None:
    """Neither the last nor the untuned one counts, only the highest of the checkpoints."""
    best = training(SCORES).best
    assert best is not None
    assert best.checkpoint == "checkpoint-40"


def test_equal_bleu4_is_decided_by_the_validation_loss() -> None:
    """Scores that are equal in four digits are noise; the lower loss wins, whatever the order."""
    record = training({})
    record.evaluations = [
        evaluation(20, 0.46004, loss=1.2),
        evaluation(40, 0.46001, loss=1.1),
        evaluation(60, 0.4599, loss=1.0),
    ]
    assert record.best == record.evaluations[1]


def test_equal_bleu4_and_loss_are_decided_by_the_step() -> None:
    """The earlier checkpoint is the best, in whatever order the record holds them."""
    best = training({40: 0.46, 20: 0.46, 60: 0.1}).best
    assert best is not None
    assert best.step == 20


def test_untuned_model_is_never_the_best() -> None:
    """Step 0 has no checkpoint to load, even if all training only made it worse."""
    record = training({0: 0.5, 20: 0.3})
    assert record.best == evaluation(20, 0.3)
    assert record.untuned == evaluation(0, 0.5)


def test_nothing_is_best_before_the_first_checkpoint() -> None:
    """At the beginning there is the untuned model alone, or not even that."""
    assert training({0: 0.08}).best is None
    assert training({}).best is None
    assert training({20: 0.3}).untuned is None


def test_trainable_percent_is_the_share_of_all_parameters() -> None:
    """100 of 4,000 parameters are 2.5 percent."""
    assert ModelFacts("t5", 4000, 100).trainable_percent == pytest.approx(2.5)


@pytest.mark.parametrize("scores", [SCORES, {0: 0.08}, {}])
def test_record_is_read_as_it_was_written(tmp_path: Path, scores: dict[int, float]) -> None:
    """The record that is read equals the one that was written."""
    record = training(scores, steps=60)
    record.best_folder = "checkpoints/best"
    record.model = replace(record.model, size_bytes=81_920)
    record.write(tmp_path / "all_results.json")
    assert TrainingRecord.read(tmp_path / "all_results.json") == record


def test_keys_of_all_results_json(tmp_path: Path) -> None:
    """all_results.json has these keys, derived values included."""
    record = training(SCORES, steps=60)
    record.best_folder = "checkpoints/best"
    record.write(tmp_path / "all_results.json")
    content = json.loads((tmp_path / "all_results.json").read_text(encoding="utf-8"))
    assert list(content) == [
        "format", "method", "config", "versions", "model", "data", "best_folder", "best",
        "untuned", "evaluations", "history", "training_seconds",
    ]  # fmt: skip
    assert content["format"] == 1
    assert content["model"]["trainable_percent"] == 2.5
    assert content["best"] == content["evaluations"][2] | {"folder": "checkpoints/best"}
    assert content["untuned"] == content["evaluations"][0]
    assert len(content["history"]) == 60


def test_record_without_the_project_version_is_read() -> None:
    """Records from before it was included have the libraries' versions alone."""
    content = training(SCORES).to_json()
    assert "igrag" not in content["versions"]
    assert TrainingRecord.from_json(content, path=Path("a.json")).versions == {"python": "3.11"}


def test_derived_figures_are_computed_again() -> None:
    """A best, untuned or percentage changed in the file changes nothing; without them it reads."""
    record = training(SCORES)
    content = record.to_json()
    content["best"]["bleu4"] = content["model"]["trainable_percent"] = 99
    del content["untuned"]
    assert TrainingRecord.from_json(content, path=Path("a.json")) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r'found \{"format": 2\}, expected a training record of format 1'),
        ({"method": "magic"}, "method: found \"magic\", expected 'prompt_tuning' or 'lora'"),
        ({"history": [{"step": 1}]}, r"history\[0\]\.epoch is missing"),
        ({"notes": ""}, "notes is unknown"),
        ({"training_seconds": "9"}, 'training_seconds: found "9", expected a valid number'),
        ({"evaluations": {}}, r"evaluations: found \{\}, expected a valid array"),
        ({"model": []}, r"model: found \[\], expected an object"),
    ],
)
def test_invalid_record_is_named_with_its_key(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """The error names the file, the key, what was found and what was expected."""
    file = tmp_path / "all_results.json"
    file.write_text(json.dumps(training(SCORES, steps=1).to_json() | change))
    with pytest.raises(CheckpointError, match=rf"all_results\.json: {message}"):
        TrainingRecord.read(file)


@pytest.mark.parametrize(("key", "value"), [("step", 1.5), ("step", True), ("bleu4", 46.0)])
def test_invalid_evaluation_is_named_with_its_key(key: str, value: float) -> None:
    """Inside an evaluation, no number is converted, nor taken for a percentage."""
    content = training(SCORES).to_json()
    content["evaluations"][2][key] = value
    with pytest.raises(CheckpointError, match=rf"a\.json: evaluations\[2\].*{key}"):
        TrainingRecord.from_json(content, path=Path("a.json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file, expected"),
        ('{"format": 1,', "not valid JSON"),
        ("[1]", r"found \[1\], expected a training record"),
    ],
)
def test_unreadable_record_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    """A missing, cut off or foreign file is named."""
    file = tmp_path / "all_results.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(CheckpointError, match=rf"all_results\.json.*{message}"):
        TrainingRecord.read(file)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_figures_must_be_finite(value: float) -> None:
    """JSON has no NaN: such a value is refused with its step."""
    with pytest.raises(ValueError, match=r"loss at step 40 is -?(nan|inf), expected a finite"):
        evaluation(40, 0.3, loss=value)
    with pytest.raises(ValueError, match=r"grad_norm at step 7 is -?(nan|inf), expected a finite"):
        TrainingStep(7, 0.1, 1.0, 0.3, grad_norm=value, seconds=1.0)


@pytest.mark.parametrize("name", ["bleu1", "bleu2", "bleu3", "bleu4"])
@pytest.mark.parametrize("value", [41.7, -0.1])
def test_bleu_must_be_from_0_to_1(name: str, value: float) -> None:
    """A score in percent would be the best of all."""
    scores = dict.fromkeys(("bleu1", "bleu2", "bleu3", "bleu4"), 0.5) | {name: value}
    with pytest.raises(ValueError, match=f"{name} at step 40 is {value}, expected 0 to 1"):
        Evaluation(step=40, epoch=1.0, loss=1.0, seconds=1.0, checkpoint=None, **scores)


@pytest.mark.parametrize("value", [math.inf, Path("data")])
def test_config_must_be_plain_json_data(tmp_path: Path, value: object) -> None:
    """What is not JSON is refused with the file's name, and the old file stays."""
    file = tmp_path / "all_results.json"
    record = training(SCORES)
    record.write(file)
    before = file.read_bytes()
    record.config = {"key": value}
    with pytest.raises(ValueError, match=r"all_results\.json: the record is not plain JSON"):
        record.write(file)
    assert file.read_bytes() == before
