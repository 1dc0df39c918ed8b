"""igrag explain: a table, a chart, and a page of what the decoder read."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from igrag.captioning.language_model import LanguageModel, embedding_weight
from igrag.commands import main
from prompt_tuning.analysis.vocabulary import nearest_entries
from tests.command import one_error
from tests.prompt_tuning.analysis.conftest import LENGTH, SavePrompt
from tests.tiny import CocoFolder


def test_table_of_every_soft_token(
    save: SavePrompt, words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Norm, nearest entries and the ablation of each, printed, as JSON and as a chart."""
    output = tmp_path / "explained"
    assert main(["explain", str(save()), "--output", str(output), *words]) == 0
    out = capfd.readouterr().out
    content = json.loads((output / "explained.json").read_text())
    assert (content["prompt_length"], content["examples"]) == (LENGTH, 4)
    lines = out.splitlines()
    assert len(lines) == 1 + LENGTH + 2 + 2 and "nearest entries" in lines[0]
    for token, line in zip(content["soft_tokens"], lines[1:], strict=False):
        assert len(token["nearest"]) == 5 and token["norm"] > 0
        assert f"{token['loss_change']:+.4f}" in line and token["nearest"][0]["token"] in line
    assert any(token["loss_change"] for token in content["soft_tokens"])
    assert Image.open(output / "explained.png").width > 600
    again = ["explain", str(save()), "--output", str(output), "--no_ablation", *words]
    assert main(again) == 2
    assert "--overwrite_output_dir" in one_error(capfd.readouterr().err)
    assert main([*again, "--overwrite_output_dir"]) == 0
    assert "loss" not in json.loads((output / "explained.json").read_text())


def test_page_of_what_the_decoder_read(
    save: SavePrompt, words: list[str], tmp_path: Path, knowledge_base: Path, coco: CocoFolder,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """One HTML file with each image, its words and its retrieved captions; nothing is fetched."""
    output = tmp_path / "explained"
    images = [str(coco.image(1)), str(coco.image(2))]
    code = main(
        ["explain", str(save()), "--output", str(output), "--no_ablation", *words,
         "--image", *images]
    )  # fmt: skip
    assert code == 0, capfd.readouterr().err
    page = (output / "attention.html").read_text("utf-8")
    assert page.count("<article>") == 2 and page.count("data:image/jpeg;base64,") == 2
    assert "A dog in field 1, way 0." in page and "caption 3" in page
    assert "where the decoder read, not why" in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    assert page.count("<tr") > 4


def test_prompt_of_another_model_is_refused(
    save: SavePrompt, words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As in captioning; nothing is written."""
    path = save()
    content = torch.load(path, weights_only=True)
    content["fingerprint"]["embeddings"] = "0" * 64
    torch.save(content, path)
    assert main(["explain", str(path), "--output", str(tmp_path / "out"), *words]) == 1
    assert "was trained for something else" in one_error(capfd.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_nearest_entry_of_a_token_is_the_token(language: LanguageModel) -> None:
    """A soft token in the direction of a word's embedding is nearest to it, whatever its norm."""
    weight, tokenizer = embedding_weight(language.model), language.tokenizer
    ids = [tokenizer.convert_tokens_to_ids(word) for word in ("dog", "field")]
    found = nearest_entries(weight[ids] * 7, weight, tokenizer, count=2)
    assert [each[0].token for each in found] == ["dog", "field"]
    assert all(each[0].cosine > 1 - 1e-5 and each[1].cosine < 0.99 for each in found)
    special = nearest_entries(weight[:1], weight, tokenizer, count=1)
    assert special[0][0].token != "<pad>"
