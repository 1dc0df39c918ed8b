"""What a setting may be, each list and bound once: for the schema, argparse's help and checks."""

from typing import Any, Literal, get_args

DType = Literal["auto", "float32", "bfloat16", "float16"]
Engine = Literal["torch", "ctranslate2"]
AttentionImplementation = Literal["eager", "sdpa"]
MixedPrecision = Literal["auto", "bf16", "fp32"]
AUTO = "auto"
Auto = Literal["auto"]
Initialization = Literal["random", "text", "vocab", "file"]
Reparameterization = Literal["none", "residual", "superpos"]
Optimizer = Literal["adamw", "adafactor"]
Schedule = Literal["constant", "linear", "cosine"]
IndexType = Literal["exact", "faiss", "milvus"]
IndexStorage = Literal["auto", "flat", "sq8", "pq"]
ObjectSource = Literal["none", "instances", "detector"]
# What accelerate and the library's Trainer report to; of aim, its own callback for the Trainer.
ReportTo = Literal[
    "none",
    "tensorboard",
    "wandb",
    "trackio",
    "swanlab",
    "mlflow",
    "comet_ml",
    "clearml",
    "dvclive",
    "aim",
]
Pruner = Literal["none", "median", "asha"]
LogLevel = Literal["debug", "info", "warning", "error"]
Tokenizer = Literal["auto", "ptb", "zh", "char"]
Split = Literal["train", "val", "dev", "test"]
MOST_SOFT_TOKENS = 10_000  # Prompts have tens of them; a mistake would fill the memory.


def words(choice: Any) -> tuple[str, ...]:
    """Returns the words of one of the lists above, as argparse takes them."""
    return get_args(choice)


def in_words(choice: Any) -> str:
    """Joins the words of a list: "auto, bf16 or fp32"."""
    *others, last = words(choice)
    return f"{', '.join(others)} or {last}"
