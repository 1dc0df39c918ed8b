"""The cost of a method, from its training record and its files."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from evaluation.training_facts import (
    NOTHING_TRAINED,
    TrainingFacts,
    adapter_facts,
    both_facts,
    prompt_facts,
)
from igrag.errors import CheckpointError
from igrag.training.record import ModelFacts
from tests.trainings import training


def save_prompt_bytes(folder: Path) -> Path:
    """Writes a file of 1,500 bytes."""
    folder.mkdir(parents=True)
    (folder / "prompt_embeddings.pt").write_bytes(bytes(1500))
    return folder / "prompt_embeddings.pt"


def save_adapter_bytes(folder: Path) -> Path:
    """Writes an adapter of 900 bytes, and the model card that PEFT adds."""
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(bytes(700))
    (folder / "adapter_config.json").write_bytes(bytes(200))
    (folder / "README.md").write_bytes(bytes(5000))
    return folder


def test_cost_of_prompt(tmp_path: Path) -> None:
    """Parameters and time are from the record, the size is that of the file."""
    training({0: 0.1, 20: 0.4}, steps=40).write(tmp_path / "all_results.json")
    best = prompt_facts(save_prompt_bytes(tmp_path / "best_model"))
    assert best == TrainingFacts(100, 4000, 10.0, 1500)
    assert best.trainable_percent == 2.5
    early = prompt_facts(save_prompt_bytes(tmp_path / "checkpoint-20"))
    assert early.training_seconds == 5.0


def test_cost_of_adapter(tmp_path: Path) -> None:
    """The size of an adapter is that of the files that are loaded."""
    record = replace(training({5: 0.4}, steps=8), method="lora", best_folder="best")
    record.write(tmp_path / "all_results.json")
    assert adapter_facts(save_adapter_bytes(tmp_path / "best")) == TrainingFacts(
        100, 4000, 2.0, 900
    )


def test_cost_without_record_is_the_size(tmp_path: Path) -> None:
    """Without a record only the size is known."""
    facts = prompt_facts(save_prompt_bytes(tmp_path / "best_model"))
    assert facts == TrainingFacts(size_bytes=1500) and facts.trainable_percent is None


@pytest.mark.parametrize(("method", "folder"), [("lora", "best_model"), ("prompt_tuning", "mine")])
def test_record_of_another_training_is_ignored(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    method: Literal["prompt_tuning", "lora"],
    folder: str,
) -> None:
    """A record of another method, or without this checkpoint, is ignored with a warning."""
    replace(training({5: 0.4}, steps=5), method=method).write(tmp_path / "all_results.json")
    assert prompt_facts(save_prompt_bytes(tmp_path / folder)) == TrainingFacts(size_bytes=1500)
    assert "is not the record of" in caplog.text


def test_damaged_record_is_an_error(tmp_path: Path) -> None:
    """A damaged record is an error."""
    (tmp_path / "all_results.json").write_text('{"format": 1, "method": ')
    with pytest.raises(CheckpointError, match=r"all_results\.json:1: not valid JSON"):
        prompt_facts(save_prompt_bytes(tmp_path / "best_model"))


def test_cost_of_prompt_on_adapter(tmp_path: Path) -> None:
    """A prompt on an adapter has the cost of both; the model counts once."""
    record = replace(training({5: 0.4}, steps=8), method="lora", best_folder="best")
    record.model = ModelFacts("t5", total_parameters=4300, trainable_parameters=300)
    record.write(tmp_path / "all_results.json")
    adapter = adapter_facts(save_adapter_bytes(tmp_path / "best"))
    prompt = TrainingFacts(100, 4400, 10.0, 1500)
    assert both_facts(adapter, prompt) == TrainingFacts(400, 4400, 12.0, 2400)
    assert both_facts(adapter, TrainingFacts(size_bytes=1)) == TrainingFacts(size_bytes=901)


def test_base_model_has_no_cost() -> None:
    """The trained share of the base model is known to be 0."""
    assert NOTHING_TRAINED.trainable_percent == 0.0
