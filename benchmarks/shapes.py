"""Models of Flan-T5's shapes with random weights, and examples of real lengths to train them on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TOKENIZER = ROOT / "demo" / "models" / "t5-mini"
SHAPES: dict[str, dict[str, Any]] = {
    "small": {"d_model": 512, "d_ff": 1024, "num_layers": 8, "num_heads": 6},
    "base": {"d_model": 768, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
    "large": {"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16},
    "tiny": {"d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 2},  # To try it out.
}
LORA: dict[str, Any] = {
    "r": 16, "lora_alpha": 32, "lora_dropout": 0.1, "target_modules": ["q", "v"],
}  # fmt: skip
_VOCABULARY, _HEAD_WIDTH = 32_128, 64
# As the end token, one that is hardly ever chosen: every caption has the same length.
NEVER_CHOSEN = _VOCABULARY - 1


def save_model(folder: Path, shape: str) -> None:
    """Saves a T5 of a Flan-T5's shape with random weights, and a tokenizer."""
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    untyped: dict[str, Any] = {"decoder_start_token_id": 0, "eos_token_id": NEVER_CHOSEN}
    config = T5Config(
        vocab_size=_VOCABULARY, d_kv=_HEAD_WIDTH, feed_forward_proj="gated-gelu",
        **SHAPES[shape], **untyped,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TOKENIZER, trust_remote_code=False).save_pretrained(folder)


def save_adapter(folder: Path, model: Path) -> None:
    """Saves a LoRA adapter with random weights for a saved model, in PEFT's format."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSeq2SeqLM

    config = LoraConfig(task_type=TaskType.SEQ_2_SEQ_LM, init_lora_weights=False, **LORA)
    base = AutoModelForSeq2SeqLM.from_pretrained(model, trust_remote_code=False)
    get_peft_model(base, config).save_pretrained(str(folder), save_embedding_layers=False)


def write_examples(path: Path, count: int, *, seed: int, spread: bool = True) -> None:
    """Writes examples whose sources and targets have the lengths of real ones.

    Every word is one token, so that lengths are what they are drawn to be. Without `spread` each
    example has the mean length.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    sources = np.clip(random.gamma(6, 260 / 6, count), 60, 512).astype(int)
    targets = np.clip(random.normal(14, 3.5, count), 8, 30).astype(int)
    if not spread:
        sources[:], targets[:] = 260, 14
    with path.open("w", encoding="utf-8") as file:
        for source, target in zip(sources, targets, strict=True):
            line = {"prompt": " ".join(["dog"] * (source - 1)), "caption": "dog " * (target - 1)}
            file.write(json.dumps(line) + "\n")


def training_options(
    folder: Path, settings: Mapping[str, object], *, main_config: str = "model.main_config"
) -> list[str]:
    """Returns the options of a training command for the folder's model and its examples.

    Args:
        folder: It has model/, train.jsonl and val.jsonl; the captioning configuration is written
            there.
        settings: Further keys of --set.
        main_config: What names the captioning configuration: a key of --set, or an option.
    """
    config = folder / "config.yaml"
    config.write_text(
        f"base: {ROOT / 'configs' / 'config.yaml'}\n"
        f"model_config:\n  models:\n    flan-t5:\n      path: {folder / 'model'}\n",
        encoding="utf-8",
    )
    every = {
        "data.train_file": folder / "train.jsonl",
        "data.val_file": folder / "val.jsonl",
        **settings,
    }
    if main_config.startswith("--"):
        named = [main_config, str(config)]
    else:
        named = ["--set", f"{main_config}={config}"]
    return named + [word for key, value in every.items() for word in ("--set", f"{key}={value}")]
