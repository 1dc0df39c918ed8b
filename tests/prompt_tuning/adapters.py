"""LoRA adapters for the tests of the soft prompt."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM

from igrag.captioning.language_model import LanguageModel, load_language_model


def save_adapter(folder: Path, model: Path, *, seed: int = 3, alpha: int = 64) -> Path:
    """Saves an adapter that changes the output visibly."""
    torch.manual_seed(seed)
    config = LoraConfig(
        r=4,
        lora_alpha=alpha,
        target_modules=["q", "v"],
        init_lora_weights=False,
        task_type="SEQ_2_SEQ_LM",
    )
    base = AutoModelForSeq2SeqLM.from_pretrained(model)
    get_peft_model(base, config).save_pretrained(str(folder))
    return folder


def load_adapted(model: Path, adapter: Path, *, merge: bool = False) -> LanguageModel:
    """Loads the tiny model with an adapter."""
    return load_language_model(
        str(model), device="cpu", dtype="float32", lora_path=adapter, merge_lora=merge
    )
