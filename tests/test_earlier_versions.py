"""What version 0.1 made still works: its configurations, soft prompts, adapters and checkpoints.

Everything goes through the typed commands, whatever the modules behind them are called. How the
files were made, and what is compared how closely, says tests/fixtures/version_0_1/README.md.
"""

import json
import os
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.forked_commands import run_forked

ROOT = Path(__file__).resolve().parent.parent
# From the root, where the commands run: a checkpoint's record names its data so.
OLD = Path("tests") / "fixtures" / "version_0_1"
CONFIG = OLD / "configs" / "config.yaml"
IMAGES = ("input/bus_street.jpg", "input/butterfly_garden.jpg")
TRAINED = (
    f"prompt_tuning.weights_path={OLD}/prompt/best_model/prompt_embeddings.pt",
    f"prompt_tuning.weights_path_with_lora={OLD}/prompt_on_lora/best_model/prompt_embeddings.pt",
    f"lora_config.weights_path={OLD}/lora/best",
)
KNOWLEDGE_BASE = f"knowledge_base_config.path={OLD}/knowledge_base"
GREEDY = "generation_config.num_beams=1"
BOTH_ON = ("prompt_tuning.enabled=true", "lora_config.enabled=true")
# The settings of version 0.1's trainings; resuming refuses others.
PROMPT_TRAINING = (
    f"model.main_config={CONFIG}",
    f"data.train_file={OLD}/data/train.jsonl",
    f"data.val_file={OLD}/data/val.jsonl",
    "training.num_train_epochs=2",
    "training.per_device_train_batch_size=2",
    "training.learning_rate=0.3",
    "evaluation.eval_steps=36",
)
LORA_TRAINING = (
    f"data.output_data={OLD}/data",
    "lora.r=2",
    "lora.target_modules=[v]",
    "lora.lora_dropout=0",
    "training.num_train_epochs=2",
    "training.per_device_train_batch_size=2",
    "training.learning_rate=0.01",
    "training.eval_steps=36",
)
LAST = "checkpoint-48"
# Of losses, scores and trained numbers: far above what processors round differently, and far below
# what another step changes.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """What version 0.1 wrote."""
    content: dict[str, Any] = json.loads((ROOT / OLD / "expected.json").read_text("utf-8"))
    return content


def words_of(*words: object, settings: tuple[str, ...]) -> list[str]:
    """Spells out a command's words."""
    return [*map(str, words), *(word for each in settings for word in ("--set", each))]


def run(script: str, *words: object, settings: tuple[str, ...] = ()) -> None:
    """Runs a training in the root as its users type it, in a process of its own."""
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    command = [script, *words_of(*words, settings=settings)]
    done = run_forked(command, folder=ROOT, environment=environment)
    assert done.returncode == 0, done.stderr


class Typed:
    """Runs scripts in the root with words as typed, but in this process.

    Starting another one takes longer than captioning two images does.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def __call__(self, script: str, *words: object, settings: tuple[str, ...] = ()) -> str:
        """Returns what is printed on stdout."""
        self._monkeypatch.chdir(ROOT)
        self._monkeypatch.setattr(sys, "argv", [script, *words_of(*words, settings=settings)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(script, run_name="__main__")
        out, err = self._capfd.readouterr()
        assert ended.value.code == 0, err
        return out

    def captions(self, *words: str, settings: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """Captions the images with version 0.1's files, and returns what is said of each."""
        out = self(
            "main.py", "--i", *IMAGES, "--json", "--device", "cpu", "--config", CONFIG, *words,
            settings=(KNOWLEDGE_BASE, *TRAINED, *settings),
        )  # fmt: skip
        return {found["image"]: found for found in map(json.loads, out.splitlines())}


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typed:
    """Runs commands that caption or check."""
    return Typed(monkeypatch, capfd)


def check_steps(folder: Path, expected: dict[str, Any]) -> None:
    """Checks that a resumed training has every step and validation of an uninterrupted one."""
    record = json.loads((folder / "all_results.json").read_text("utf-8"))
    assert [step["step"] for step in record["history"]] == [*range(1, 49)]
    found = {str(each["step"]): each for each in record["evaluations"]}
    assert list(found) == list(expected["validations"])
    first = expected["validations"]["36"]  # The last one before the interruption.
    assert {key: found["36"][key] for key in first} == pytest.approx(first, abs=TOLERANCE)


def read_prompt(path: Path) -> Tensor:
    """Reads the vectors [P, D] of a soft prompt's file."""
    vectors: Tensor = torch.load(path, weights_only=True)["prompt_embeddings"]
    return vectors


@pytest.mark.parametrize(("decoding", "settings"), [("beams", ()), ("greedy", (GREEDY,))])
def test_every_method_captions_the_same(
    decoding: str, settings: tuple[str, ...], typed: Typed, expected: dict[str, Any]
) -> None:
    """The old knowledge base, prompts and adapter give the same prompts and captions."""
    found = typed.captions("--compare", settings=settings)
    assert {image: found[image]["prompt"] for image in found} == expected["prompts"]
    captions = {image: found[image]["captions"] for image in found}
    assert captions == expected["captions"][decoding]


def test_merged_adapter_captions_the_same(typed: Typed, expected: dict[str, Any]) -> None:
    """The old adapter, merged into the weights with the old prompt before them, does as beside."""
    found = typed.captions(settings=BOTH_ON)
    captions = {image: found[image]["caption"] for image in found}
    beams = expected["captions"]["beams"]
    assert captions == {image: beams[image]["lora+prompt"] for image in beams}


@pytest.mark.slow
def test_evaluation_writes_the_same_captions(
    tmp_path: Path, typed: Typed, expected: dict[str, Any]
) -> None:
    """Four examples in the old format, captioned by every method with the old files."""
    typed(
        "evaluation/run_evaluation.py", "--data", OLD / "data" / "val.jsonl", "--meteor", "off",
        "--output_dir", tmp_path, "--device", "cpu", "--config", CONFIG,
        settings=(*TRAINED, GREEDY),
    )  # fmt: skip
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    captions = {
        method: {str(entry["image_id"]): entry["caption"] for entry in entries}
        for method, entries in results.items()
    }
    assert captions.keys() - expected["evaluation"].keys() == {"nearest", "instruction"}
    assert captions == expected["evaluation"] | {
        name: captions[name]
        for name in ("nearest", "instruction")  # Rows that are new.
    }


@pytest.mark.parametrize("name", ["prompt_tuning.yaml", "on_lora.yaml"])
def test_configuration_is_accepted(name: str, typed: Typed) -> None:
    """A copy of the old file is valid as it is; the other two are used as they are here."""
    file = OLD / "configs" / name
    assert "valid" in typed(
        "prompt_tuning/prompt_training.py", "--validate_config", "--config", file
    )


@pytest.mark.slow
def test_prompt_training_resumes(tmp_path: Path, expected: dict[str, Any]) -> None:
    """From the old checkpoint, in the middle of an epoch, to the last step.

    Batches are grouped otherwise since, so that the steps after it are not those of version 0.1.
    """
    folder = tmp_path / "prompt"
    shutil.copytree(ROOT / OLD / "prompt", folder)
    run(
        "prompt_tuning/prompt_training.py", "--train", "--resume_from_checkpoint", "latest",
        "--output_dir", folder, "--device", "cpu",
        "--config", OLD / "configs" / "prompt_tuning.yaml", settings=PROMPT_TRAINING,
    )  # fmt: skip
    check_steps(folder, expected["trainings"]["prompt"])
    before = read_prompt(ROOT / OLD / "prompt" / "checkpoint-36" / "prompt_embeddings.pt")
    found = read_prompt(folder / LAST / "prompt_embeddings.pt")
    assert found.shape == before.shape and not torch.allclose(before, found, rtol=0, atol=0.1)


@pytest.mark.slow
def test_adapter_training_resumes(tmp_path: Path, expected: dict[str, Any]) -> None:
    """From the old checkpoint, in the middle of an epoch, to the last step."""
    folder = tmp_path / "lora"
    shutil.copytree(ROOT / OLD / "lora", folder)
    # Its model lies here since the demo has another one.
    for name in ("base_model.json", "training_record.json"):
        file = folder / "checkpoint-36" / name
        moved = file.read_text("utf-8").replace("demo/models/t5-mini", f"{OLD}/t5-mini")
        file.write_text(moved, "utf-8")
    run(
        "lora_training/train_lora.py", "--train", "--resume_from_checkpoint", "latest",
        "--output_dir", folder, "--device", "cpu", "--main-config", CONFIG,
        "--lora-config", OLD / "configs" / "lora_config.yaml", settings=LORA_TRAINING,
    )  # fmt: skip
    check_steps(folder, expected["trainings"]["lora"])
    before = load_file(ROOT / OLD / "lora" / "checkpoint-36" / "adapter_model.safetensors")
    found = load_file(folder / LAST / "adapter_model.safetensors")
    assert before.keys() == found.keys() and any(
        not torch.equal(before[name], found[name]) for name in before
    )
