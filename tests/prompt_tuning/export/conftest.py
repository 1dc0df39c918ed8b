"""Models with one head each, and their prompts, for the tests of exports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from igrag.captioning.language_model import LanguageModel, load_language_model
from prompt_tuning.export import run_export
from prompt_tuning.fingerprint import NO_ADAPTER, adapter_hash, fingerprint_of
from prompt_tuning.prompt_file import PromptFile, save_prompt
from tests.examples import save_examples
from tests.prompt_tuning.models import noise
from tests.tiny import WORDS, save_t5

Export = Callable[..., int]
HEADS = ("tied", "tied, not scaled", "untied")


def change_head(folder: Path, head: str) -> Path:
    """Makes a tiny model's head one of `HEADS`: T5's, the tests' own, or Flan-T5's."""
    from transformers import AutoModelForSeq2SeqLM

    model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder)
    if head == "tied":
        model.config.scale_decoder_outputs = True
    elif head == "untied":
        torch.manual_seed(1)
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight))
    # Layers that count for more than the embedding of the last token, which a tied head repeats.
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith((".o.weight", ".wo.weight", ".q.weight")):
                weight.mul_(10)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model with each of the heads."""
    root = tmp_path_factory.mktemp("heads")
    return {
        head: change_head(save_t5(root / str(number), words=WORDS.split(), seed=2), head)
        for number, head in enumerate(HEADS)
    }


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Examples to compare on."""
    return save_examples(tmp_path_factory.mktemp("data") / "val.jsonl", count=12, seed=1)


def save_prompt_for(
    model: Path, path: Path, *, length: int = 5, lora: Path | None = None, seed: int = 0
) -> Path:
    """Saves a random prompt that belongs to a model, with or without an adapter."""
    language: LanguageModel = load_language_model(str(model), device="cpu", dtype="float32")
    marks = fingerprint_of(
        language.model, language.tokenizer, lora=adapter_hash(lora) if lora else NO_ADAPTER,
        weights=language.weights,
    )  # fmt: skip
    save_prompt(path, PromptFile(noise(length, seed=seed), "random", marks))
    return path


@pytest.fixture
def export(examples: Path) -> Export:
    """Runs igrag export on the examples, with captions of up to 8 tokens."""

    def run(prompt: Path, model: Path, output: Path, *words: object, beams: int = 1) -> int:
        return run_export.command([
            str(prompt), "--model", str(model), "--output", str(output),
            "--examples", str(examples), "--samples", "12", "--debug",
            "--set", "generation_config.max_new_tokens=8",
            "--set", f"generation_config.num_beams={beams}",
            *map(str, words),
        ])  # fmt: skip

    return run


def read_json(path: Path) -> Any:
    """Reads a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
