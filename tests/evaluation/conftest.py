"""The command on tiny models, with random soft prompts and adapters."""

from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.methods import TrainedPaths
from tests.evaluation.evaluator import Evaluator
from tests.trainings import training

# Saves a prompt file for the tiny model: path, seed, and the adapter's folder if it is for one.
SavePrompt = Callable[..., Path]


@pytest.fixture
def save_prompt(tiny_t5: Path) -> SavePrompt:
    """A function that saves prompts which change the captions."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    from prompt_tuning.fingerprint import NO_ADAPTER, adapter_hash, fingerprint_of
    from prompt_tuning.prompt_file import PromptFile
    from prompt_tuning.prompt_file import save_prompt as save

    model = AutoModelForSeq2SeqLM.from_pretrained(tiny_t5)
    tokenizer = AutoTokenizer.from_pretrained(tiny_t5)

    def make(path: Path, *, seed: int = 1, adapter: Path | None = None) -> Path:
        lora = adapter_hash(adapter) if adapter else NO_ADAPTER
        noise = torch.randn(5, 32, generator=torch.Generator().manual_seed(seed)) * 20
        save(path, PromptFile(noise, "random", fingerprint_of(model, tokenizer, lora=lora)))
        return path

    return make


@pytest.fixture
def adapter(tmp_path: Path, tiny_t5: Path) -> Path:
    """The folder of an adapter that changes the captions."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSeq2SeqLM

    torch.manual_seed(5)
    config = LoraConfig(r=8, lora_alpha=400, target_modules=["q", "v"], init_lora_weights=False)
    model = AutoModelForSeq2SeqLM.from_pretrained(tiny_t5)
    get_peft_model(model, config).save_pretrained(str(tmp_path / "lora" / "best"))
    return tmp_path / "lora" / "best"


@pytest.fixture
def paths(tmp_path: Path, adapter: Path, save_prompt: SavePrompt) -> TrainedPaths:
    """A prompt, an adapter, and a prompt on the adapter."""
    return TrainedPaths(
        prompt=save_prompt(tmp_path / "prompt" / "best_model" / "prompt_embeddings.pt"),
        prompt_on_lora=save_prompt(
            tmp_path / "both" / "best_model" / "prompt_embeddings.pt", adapter=adapter
        ),
        lora=adapter,
    )


@pytest.fixture
def checkpoints(tmp_path: Path, save_prompt: SavePrompt) -> Path:
    """The output folder of a training of 20 steps whose second checkpoint was the best."""
    folder = tmp_path / "training"
    for step in (5, 10, 20):
        save_prompt(folder / f"checkpoint-{step}" / "prompt_embeddings.pt", seed=step)
    save_prompt(folder / "best_model" / "prompt_embeddings.pt", seed=10)
    training({0: 0.1, 5: 0.2, 10: 0.4, 20: 0.3}, steps=20).write(folder / "all_results.json")
    return folder


@pytest.fixture
def untrained(
    knowledge_base: Path, tiny_clip: Path, tiny_t5: Path, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> Evaluator:  # fmt: skip
    """The command with nothing trained."""
    settings = [
        f"retrieval_config.encoder={tiny_clip}",
        "retrieval_config.top_k=3",
        f"model_config.models.flan-t5.path={tiny_t5}",
        f"knowledge_base_config.path={knowledge_base}",
        "generation_config.max_new_tokens=6",
        f"prompt_tuning.weights_path={tmp_path / 'none.pt'}",
        f"lora_config.weights_path={tmp_path / 'none'}",
    ]
    return Evaluator(settings, tmp_path / "results", capfd)


@pytest.fixture
def evaluator(untrained: Evaluator, paths: TrainedPaths) -> Evaluator:
    """The command with all methods trained."""
    untrained.settings += [
        f"prompt_tuning.weights_path={paths.prompt}",
        f"prompt_tuning.weights_path_with_lora={paths.prompt_on_lora}",
        f"lora_config.weights_path={paths.lora}",
    ]
    return untrained
