"""Models, prompts and batches for the tests of the soft prompt."""

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from igrag.captioning.language_model import LanguageModel, embedding_weight
from igrag.config.choices import Initialization, Reparameterization
from igrag.retrieval.vector_lookup import ImageVectors
from prompt_tuning.fingerprint import Fingerprint, fingerprint_of
from prompt_tuning.image_prompt import ImagePrompt, make_image_prompt
from prompt_tuning.initialization import make_initial_prompt
from prompt_tuning.prompt_tuner import PromptTuner
from prompt_tuning.reparameterization import make_parametrization
from tests.examples import ENCODER

TEXTS = (
    "a dog in the field",
    "generate a caption : a cat on two red kitchen table and a dog near the house",
    "two birds",
)
LABELS = ("a cat sits", "the large dog runs near a tree with a ball", "a bird")
MARKS = Fingerprint("t5, width 32", "a" * 64, "b" * 64, "c" * 64, "none", "e" * 64)


def noise(length: int, *, width: int = 32, seed: int = 0, scale: float = 3.0) -> Tensor:
    """Returns a prompt [P, H] that is large enough to change the output."""
    return torch.randn(length, width, generator=torch.Generator().manual_seed(seed)) * scale


def make_tuner(
    language: LanguageModel,
    prompt_length: int = 20,
    initialization: Initialization = "random",
    *,
    reparameterization: Reparameterization = "none",
    bottleneck: int = 64,
    sampled_embeddings: int = 128,
    model_dropout: bool = False,
    seed: int = 42,
    **options: Any,
) -> PromptTuner:
    """Prepends an initial prompt to the model; `options` are those of `make_initial_prompt`."""
    generator = torch.Generator().manual_seed(seed)
    weight = embedding_weight(language.model).detach()
    initial_prompt = make_initial_prompt(
        initialization, weight, language.tokenizer, prompt_length, generator=generator, **options
    )
    parametrization = make_parametrization(
        reparameterization,
        weight,
        language.tokenizer,
        bottleneck=bottleneck,
        sampled_embeddings=sampled_embeddings,
        generator=generator,
    )
    return PromptTuner(
        language.model,
        initial_prompt,
        initialization=initialization,
        parametrization=parametrization,
        model_dropout=model_dropout,
        fingerprint=fingerprint_of(language.model, language.tokenizer),
    )


def tuner_of(
    language: LanguageModel, embeddings: Tensor, image_prompt: ImagePrompt | None = None
) -> PromptTuner:
    """Prepends a given prompt to the model, in eval mode."""
    fingerprint = fingerprint_of(language.model, language.tokenizer)
    tuner = PromptTuner(
        language.model, embeddings, fingerprint=fingerprint, image_prompt=image_prompt
    )
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


class Inputs(TypedDict):
    """What the encoder takes: ids and mask [B, T]."""

    input_ids: Tensor
    attention_mask: Tensor


def inputs_of(batch: Mapping[str, Tensor]) -> Inputs:
    """Returns a batch without its labels."""
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


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


def vectors_of(count: int, *, dimension: int = 8, seed: int = 0) -> Tensor:
    """Returns unit vectors [count, D]."""
    drawn = torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=1)


def image_prompt_of(
    language: LanguageModel, *, image_tokens: int = 2, hidden: int = 6, seed: int = 0
) -> ImagePrompt:
    """Makes an image prompt whose tokens are large enough to change the output."""
    vectors = vectors_of(20, seed=seed).numpy()
    made = make_image_prompt(
        ImageVectors(vectors, np.arange(len(vectors)), ENCODER),
        embedding_weight(language.model),
        image_tokens=image_tokens,
        hidden=hidden,
        generator=torch.Generator().manual_seed(seed),
    )
    with torch.no_grad():
        made.output.weight.mul_(100)
    return made
