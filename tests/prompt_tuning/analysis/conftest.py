"""A soft prompt of the tiny model, and how the commands of the analysis find the model and data."""

from collections.abc import Callable
from pathlib import Path

import pytest

from igrag.captioning.language_model import LanguageModel
from igrag.config import REPO_ROOT
from prompt_tuning.fingerprint import fingerprint_of
from prompt_tuning.prompt_file import PromptFile, save_prompt
from tests.examples import save_examples
from tests.prompt_tuning.models import noise

SavePrompt = Callable[..., Path]
LENGTH = 5


@pytest.fixture
def save(language: LanguageModel, tmp_path: Path) -> SavePrompt:
    """A function that saves a prompt with which the tiny model generates words."""
    fingerprint = fingerprint_of(language.model, language.tokenizer)

    def make(name: str = "prompt", *, seed: int = 1, length: int = LENGTH) -> Path:
        path = tmp_path / name / "prompt_embeddings.pt"
        embeddings = noise(length, seed=seed, scale=20.0)
        save_prompt(path, PromptFile(embeddings, "random", fingerprint))
        return path

    return make


@pytest.fixture
def words(tiny_t5: Path, tmp_path: Path, tiny_clip: Path) -> list[str]:
    """The options for the tiny model and its data."""
    config = tmp_path / "main.yaml"
    config.write_text(
        f"base: {REPO_ROOT / 'configs' / 'config.yaml'}\n"
        f"model_config: {{models: {{flan-t5: {{path: {tiny_t5}}}}}, attn_implementation: sdpa}}\n"
        f"retrieval_config: {{encoder: {tiny_clip}, top_k: 3}}\n"
        f"knowledge_base_config: {{path: {tmp_path / 'kb'}}}\n"
        "generation_config: {max_new_tokens: 6}\n"
    )
    train = save_examples(tmp_path / "train.jsonl", count=8, seed=0)
    val = save_examples(tmp_path / "val.jsonl", count=6, seed=1)
    settings = {
        "model.main_config": config,
        "data.train_file": train,
        "data.val_file": val,
        "training.per_device_train_batch_size": 4,
        "training.gradient_accumulation_steps": 1,
        "training.learning_rate": 0.3,
        "evaluation.max_new_tokens": 6,
    }
    pairs = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return ["--device", "cpu", "--examples", "4", *pairs]
