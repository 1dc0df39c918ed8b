"""igrag export --format transformers: a plain T5 generates what the PromptTuner does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from igrag.captioning.language_model import load_language_model
from igrag.config import REPO_ROOT
from prompt_tuning.export import run_export
from prompt_tuning.export.tokens import add_soft_tokens, save_tokenizer, tokenizer_with_soft_tokens
from tests.prompt_tuning.adapters import save_adapter
from tests.prompt_tuning.export.conftest import HEADS, Export, read_json, save_prompt_for
from tests.prompt_tuning.models import TEXTS, image_prompt_of, noise, tuner_of

FORMAT = ("--format", "transformers")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("length", [1, 20, 100])
@pytest.mark.parametrize("beams", [1, 4])
def test_exported_model_generates_the_same_tokens(
    models: dict[str, Path], tmp_path: Path, export: Export, head: str, length: int, beams: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The command itself compares: it ends with 0 where all captions are equal."""
    prompt = save_prompt_for(models[head], tmp_path / "p.pt", length=length)
    assert export(prompt, models[head], tmp_path / "out", *FORMAT, beams=beams) == 0
    assert "12 of 12" in capsys.readouterr().out.splitlines()[2]
    assert read_json(tmp_path / "out" / "export.json")["prompt_length"] == length


@pytest.mark.parametrize("head", HEADS)
def test_adapter_is_merged(
    models: dict[str, Path], tmp_path: Path, export: Export, head: str
) -> None:
    """With --lora the weights are those of the adapted model, and no adapter is in the folder."""
    adapter = save_adapter(tmp_path / "lora", models[head])
    prompt = save_prompt_for(models[head], tmp_path / "p.pt", lora=adapter)
    assert export(prompt, models[head], tmp_path / "out", *FORMAT, "--lora", adapter) == 0
    assert not list((tmp_path / "out").glob("adapter*"))
    merged = load_language_model(
        str(models[head]), device="cpu", dtype="float32", lora_path=adapter
    ).model.state_dict()
    saved = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").state_dict()
    name = "encoder.block.0.layer.0.SelfAttention.q.weight"
    assert torch.equal(saved[name], merged[name])


@pytest.mark.parametrize("head", HEADS)
def test_logits_equal_the_tuners(models: dict[str, Path], head: str) -> None:
    """Those of the base model's tokens are the PromptTuner's, up to rounding."""
    language = load_language_model(str(models[head]), device="cpu", dtype="float32")
    inputs = language.tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    labels = torch.tensor([[5, 6, 7]] * len(TEXTS))
    prompt = noise(3)
    vocabulary = language.model.config.vocab_size
    with torch.inference_mode(False), torch.no_grad():
        wanted = tuner_of(language, prompt)(**inputs, labels=labels).logits
        tokenizer = tokenizer_with_soft_tokens(
            language.tokenizer, 3, vocabulary=vocabulary, max_length=512
        )
        add_soft_tokens(language.model, prompt)
        extended = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
        model: Any = language.model
        found = model(**extended, labels=labels).logits[..., :vocabulary]
    assert extended["input_ids"][:, :3].tolist() == [[vocabulary + i for i in range(3)]] * 3
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_readme_lines_run(
    models: dict[str, Path], tmp_path: Path, export: Export,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The code of the folder's README generates, and is what the command prints."""
    monkeypatch.setattr(run_export, "_TEXT", TEXTS[1])
    prompt = save_prompt_for(models["untied"], tmp_path / "p.pt")
    assert export(prompt, models["untied"], tmp_path / "out", *FORMAT, beams=4) == 0
    printed = capsys.readouterr().out
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert found is not None and found[1].replace('"out', f'"{tmp_path}/out') in printed
    monkeypatch.chdir(tmp_path)
    exec(found[1], {})
    assert capsys.readouterr().out.strip()
    settings = read_json(tmp_path / "out" / "generation_config.json")
    assert (settings["num_beams"], settings["max_new_tokens"]) == (4, 8)


def test_folder_is_read_by_other_versions(
    models: dict[str, Path], tmp_path: Path, export: Export
) -> None:
    """The head is tied where tie_word_embeddings is true alone; the tokenizer has its old name."""
    for head in HEADS:
        prompt = save_prompt_for(models[head], tmp_path / "p.pt")
        assert export(prompt, models[head], tmp_path / head, *FORMAT) == 0
        config = read_json(tmp_path / head / "config.json")
        assert config["tie_word_embeddings"] is (head == "tied")
        tokenizer = read_json(tmp_path / head / "tokenizer_config.json")
        assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
        assert tokenizer["model_input_names"] == ["input_ids", "attention_mask"]


def test_space_before_the_first_word_is_stated(tmp_path: Path) -> None:
    """Version 4 of transformers would drop it from tokenizer.json, and change the first token."""
    base = AutoTokenizer.from_pretrained(REPO_ROOT / "demo" / "models" / "t5-mini")
    tokenizer = tokenizer_with_soft_tokens(base, 2, vocabulary=len(base), max_length=512)
    save_tokenizer(tokenizer, tmp_path)
    assert read_json(tmp_path / "tokenizer_config.json")["add_prefix_space"] is True
    ids = AutoTokenizer.from_pretrained(tmp_path)("Generate a caption")["input_ids"]
    assert ids == [len(base), len(base) + 1, *base("Generate a caption")["input_ids"]]


def test_long_texts_keep_their_length(
    models: dict[str, Path], tmp_path: Path, export: Export
) -> None:
    """The soft tokens come on top of max_source_length, as in the PromptTuner."""
    prompt = save_prompt_for(models["tied"], tmp_path / "p.pt")
    assert export(prompt, models["tied"], tmp_path / "out", *FORMAT) == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.model_max_length == 512 + 5
    ids = tokenizer("dog " * 600, truncation=True)["input_ids"]
    assert len(ids) == 512 + 5 and ids[-1] == tokenizer.eos_token_id


def test_unused_rows_get_tokens(models: dict[str, Path]) -> None:
    """A padded embedding matrix, such as Flan-T5's, keeps its rows; the soft tokens follow."""
    language = load_language_model(str(models["tied"]), device="cpu", dtype="float32")
    size = len(language.tokenizer)
    tokenizer = tokenizer_with_soft_tokens(
        language.tokenizer, 2, vocabulary=size + 3, max_length=512
    )
    assert len(tokenizer) == size + 5
    assert tokenizer.convert_ids_to_tokens([size + 2, size + 3]) == [
        f"<unused_{size + 2}>",
        "<soft_0>",
    ]


def test_image_prompt_is_refused(
    models: dict[str, Path], tmp_path: Path, export: Export, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tokens depend on the image; the error names what works."""
    language = load_language_model(str(models["tied"]), device="cpu", dtype="float32")
    tuner = tuner_of(language, noise(3), image_prompt_of(language))
    tuner.save_prompt(tmp_path / "p.pt")
    assert export(tmp_path / "p.pt", models["tied"], tmp_path / "out", *FORMAT) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "2 soft tokens that are made of each image" in error and "engine: torch" in error
    assert not (tmp_path / "out").exists()


def test_wrong_export_is_an_error_and_leaves_nothing(
    models: dict[str, Path], tmp_path: Path, export: Export,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One that generates something else is not kept."""
    from prompt_tuning.export import exporter

    def wrong(model: Any, prompt: torch.Tensor) -> bool:
        return add_soft_tokens(model, prompt * 0)

    monkeypatch.setattr(exporter, "add_soft_tokens", wrong)
    prompt = save_prompt_for(models["untied"], tmp_path / "p.pt", length=20)
    assert export(prompt, models["untied"], tmp_path / "out", *FORMAT) == 1
    assert "not exported" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_only_an_export_is_replaced(
    models: dict[str, Path], tmp_path: Path, export: Export, capsys: pytest.CaptureFixture[str]
) -> None:
    """An existing folder is replaced if asked for, and if it is an export."""
    prompt = save_prompt_for(models["tied"], tmp_path / "p.pt")
    output = tmp_path / "out"
    assert export(prompt, models["tied"], output, *FORMAT) == 0
    assert export(prompt, models["tied"], output, *FORMAT) == 2
    assert export(prompt, models["tied"], output, *FORMAT, "--overwrite_output_dir") == 0
    (output / "export.json").unlink()
    assert export(prompt, models["tied"], output, *FORMAT, "--overwrite_output_dir") == 2


def test_prompt_of_another_adapter_is_refused(
    models: dict[str, Path], tmp_path: Path, export: Export, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prompt that was trained on an adapter needs --lora."""
    adapter = save_adapter(tmp_path / "lora", models["tied"])
    prompt = save_prompt_for(models["tied"], tmp_path / "p.pt", lora=adapter)
    assert export(prompt, models["tied"], tmp_path / "out", *FORMAT) == 1
    assert "was trained for something else: lora" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (("--format", "onnx"), "optimum-cli export onnx"),
        ((*FORMAT, "--quantization", "int8"), "expected --format ctranslate2"),
    ],
)
def test_what_cannot_be_written_is_a_usage_error(
    models: dict[str, Path], tmp_path: Path, export: Export,
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], fix: str,
) -> None:  # fmt: skip
    """The error names what works."""
    assert export(tmp_path / "p.pt", models["tied"], tmp_path / "out", *words) == 2
    assert fix in capsys.readouterr().err.splitlines()[-1]
