"""igrag average: the mean of prompts of one shape that belong to the same model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from igrag.captioning.language_model import LanguageModel
from igrag.commands import main
from prompt_tuning.prompt_file import load_prompt, save_prompt
from tests.command import one_error
from tests.prompt_tuning.analysis.conftest import SavePrompt
from tests.prompt_tuning.models import image_prompt_of


def test_average_is_the_mean(save: SavePrompt, tmp_path: Path) -> None:
    """Files and folders are averaged; the result belongs to the same model."""
    paths = [save(f"seed{seed}", seed=seed) for seed in (1, 2, 3)]
    words = [str(paths[0]), str(paths[1].parent), str(paths[2])]
    assert main(["average", *words, "--output", str(tmp_path / "out")]) == 0
    found, prompts = load_prompt(tmp_path / "out"), [load_prompt(path) for path in paths]
    mean = torch.stack([each.embeddings for each in prompts]).mean(dim=0)
    assert torch.allclose(found.embeddings, mean, atol=1e-6)
    assert (found.fingerprint, found.initialization) == (prompts[0].fingerprint, "random")


def test_prompts_that_do_not_fit_are_errors(
    save: SavePrompt, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Another length, another model, one prompt alone, or an output that exists."""
    first, longer, other = save("a"), save("b", length=6), save("c")
    prompt = load_prompt(other)
    assert prompt.fingerprint is not None
    save_prompt(other, replace(prompt, fingerprint=replace(prompt.fingerprint, lora="0" * 64)))
    output = ["--output", str(tmp_path / "out")]
    for words, code, message in (
        ([first, longer], 1, "found shape [6, 32], expected [5, 32]"),
        ([first, other], 1, "was trained for something else"),
        ([first], 2, "found one prompt"),
    ):
        assert main(["average", *map(str, words), *output]) == code
        assert message in one_error(capfd.readouterr().err)
        assert not (tmp_path / "out").exists()
    assert main(["average", str(first), str(first), *output]) == 0
    assert main(["average", str(first), str(first), *output]) == 2
    assert main(["average", str(first), str(first), *output, "--overwrite_output_dir"]) == 0


def test_prompts_with_image_tokens_have_no_mean(
    language: LanguageModel, save: SavePrompt, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The mean of the learned tokens alone would be another prompt."""
    first = save("a")
    seeing = replace(load_prompt(first), image_prompt=image_prompt_of(language))
    save_prompt(tmp_path / "b.pt", seeing)
    words = [str(first), str(tmp_path / "b.pt"), "--output", str(tmp_path / "out")]
    assert main(["average", *words]) == 1
    assert "b.pt: has image tokens" in one_error(capfd.readouterr().err)
