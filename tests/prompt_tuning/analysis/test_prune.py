"""igrag prune: a shorter prompt, the curve of its quality, and a short training from it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from igrag.captioning.language_model import LanguageModel
from igrag.commands import main
from igrag.training.record import TrainingRecord
from prompt_tuning.prompt_file import load_prompt, save_prompt
from tests.command import one_error
from tests.examples import save_example_vectors
from tests.prompt_tuning.analysis.conftest import LENGTH, SavePrompt
from tests.prompt_tuning.models import image_prompt_of


@pytest.mark.parametrize("order", ["greedy", "one-shot"])
def test_prune_keeps_the_tokens_that_matter(
    save: SavePrompt, words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str],
    order: str,
) -> None:  # fmt: skip
    """The file has the kept rows of the prompt; the curve has every length in between."""
    output, path = tmp_path / "pruned", save()
    option = ["--one_shot"] if order == "one-shot" else []
    code = main(["prune", str(path), "--to", "3", "--output", str(output), *option, *words])
    captured = capfd.readouterr()
    assert code == 0, captured.err
    content = json.loads((output / "pruning.json").read_text())
    assert [each["prompt_length"] for each in content["lengths"]] == [5, 4, 3]
    assert content["order"] == order
    dropped = {each["dropped"] for each in content["lengths"][1:]}
    assert dropped | set(content["kept"]) == set(range(1, LENGTH + 1))
    whole, shorter = load_prompt(path), load_prompt(output / "prompt_embeddings.pt")
    kept = [number - 1 for number in content["kept"]]
    assert torch.equal(shorter.embeddings, whole.embeddings[kept])
    assert shorter.fingerprint == whole.fingerprint
    assert Image.open(output / "pruning.png").size == (1200, 840)
    assert len(captured.out.splitlines()) == 4 + 3


def test_pruned_prompt_is_trained_again(
    save: SavePrompt, words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """--retrain STEPS runs the training from the shorter prompt; its best prompt is the result."""
    output = tmp_path / "pruned"
    words = ["prune", str(save()), "--to", "3", "--output", str(output), "--retrain", "3", *words]
    code = main(words)
    captured = capfd.readouterr()
    assert code == 0, captured.err
    record = TrainingRecord.read(output / "retrained" / "all_results.json")
    assert record.history[-1].step == 3 and record.config["training"]["max_steps"] == 3
    best = load_prompt(output / "retrained" / "best_model")
    found = load_prompt(output / "prompt_embeddings.pt")
    assert torch.equal(found.embeddings, best.embeddings) and found.prompt_length == 3
    assert json.loads((output / "pruning.json").read_text())["retrained"]["steps"] == 3
    assert "retrained, 3 steps" in captured.out


def test_length_that_is_not_shorter_is_a_usage_error(
    save: SavePrompt, words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before the model is loaded, and without an output folder."""
    output = tmp_path / "pruned"
    assert main(["prune", str(save()), "--to", "5", "--output", str(output), *words]) == 2
    assert "--to 5: expected fewer than the 5" in one_error(capfd.readouterr().err)
    assert not output.exists()


def test_image_tokens_are_kept(
    language: LanguageModel, save: SavePrompt, words: list[str], tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Only learned tokens are dropped; vectors are those next to the validation examples."""
    path = save()
    seeing = replace(load_prompt(path), image_prompt=image_prompt_of(language))
    save_prompt(path, seeing)
    prune = ["prune", str(path), "--to", "4", "--output", str(tmp_path / "out"), *words]
    assert main(prune) == 1
    assert "val.jsonl:1: no vector of image 1" in one_error(capfd.readouterr().err)
    save_example_vectors(tmp_path / "val.jsonl")
    assert main(prune) == 0
    found = load_prompt(tmp_path / "out").image_prompt
    assert found is not None and seeing.image_prompt is not None
    assert torch.equal(found.output.weight, seeing.image_prompt.output.weight)
    capfd.readouterr()
    assert main([*prune, "--overwrite_output_dir", "--retrain", "3"]) == 2
    assert "has image tokens" in one_error(capfd.readouterr().err)
