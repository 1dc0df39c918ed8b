"""Models, prompts and batches for the tests of the soft prompt."""

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from igrag.captioning.language_model import LanguageModel
from prompt_tuning.fingerprint import Fingerprint
from prompt_tuning.prompt_tuner import PromptTuner

TEXTS = (
    "a dog in the field",
    "generate a caption : a cat on two red kitchen table and a dog near the house",
    "two birds",
)
LABELS = ("a cat sits", "the large dog runs near a tree with a ball", "a bird")
MARKS = Fingerprint("t5, width 32", "a" * 64, "b" * 64, "c" * 64, "none", "e" * 64)


def noise(length: int, *, width: int = 32, seed: int = 0, scale: float = 3.0) -> Tensor:
    """Returns a prompt [P, H] that makes itself felt."""
    return torch.randn(length, width, generator=torch.Generator().manual_seed(seed)) * scale


def tuner_of(language: LanguageModel, embeddings: Tensor) -> PromptTuner:
    """Puts a given prompt before the model."""
    tuner = PromptTuner(language.model, language.tokenizer, len(embeddings))
    with torch.no_grad():
        tuner.prompt_embeddings.copy_(embeddings)
    return tuner.eval()


def batch_of(tokenizer: PreTrainedTokenizerBase, *, side: str = "right") -> dict[str, Tensor]:
    """Returns ids, mask [3, T] padded on a side, and labels [3, L] padded with -100."""
    tokenizer.padding_side = side
    source = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    tokenizer.padding_side = "right"
    target = tokenizer(list(LABELS), padding=True, return_tensors="pt")
    return {
        "input_ids": source["input_ids"],
        "attention_mask": source["attention_mask"],
        "labels": target["input_ids"].masked_fill(target["attention_mask"] == 0, -100),
    }


def row(batch: dict[str, Tensor], place: int) -> dict[str, Tensor]:
    """Returns one row alone, without its padding."""
    shown = batch["attention_mask"][place] == 1
    return {
        "input_ids": batch["input_ids"][place][shown][None],
        "attention_mask": batch["attention_mask"][place][shown][None],
        "labels": batch["labels"][place][None],
    }


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Checks that logits are equal but for rounding: to 1e-5 of the largest one."""
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def trimmed(tokens: Tensor) -> list[int]:
    """Returns generated ids up to the end token, without padding behind it."""
    ids: list[int] = tokens.tolist()
    return ids[: ids.index(1) + 1] if 1 in ids else ids
