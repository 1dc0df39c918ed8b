"""The soft prompt as tokens: rows of the embedding matrix, and a tokenizer that puts them first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from igrag.captioning.exported_model import soft_tokens
from igrag.captioning.language_model import embedding_weight
from igrag.errors import ModelError
from igrag.files import read_json, write_json

_CLASS = "PreTrainedTokenizerFast"  # The name that versions 4 and 5 of transformers know.
_TEMPLATE = "TemplateProcessing"


def add_soft_tokens(model: PreTrainedModel, prompt: Tensor) -> bool:
    """Appends a prompt [P, H] to the model's embedding matrix [V, H], after all of its rows.

    The head gets rows, too: the same ones where it shares the matrix, else zeros. No generation may
    produce the new tokens, so that their logits do not matter.

    Args:
        model: T5 or a relative, in float32; changed.
        prompt: The prompt.

    Returns:
        Whether the head shares the matrix and scales its input, which are one setting
        (tie_word_embeddings) everywhere but in transformers 5.
    """
    changed: Any = model
    config = changed.config
    is_tied = changed.get_output_embeddings().weight is embedding_weight(model)
    # A copy: resizing changes the parameter itself.
    old_head: Tensor = changed.get_output_embeddings().weight.detach().clone()
    # Flan-T5 and mT5 do not scale; transformers 5 reads it from tie_word_embeddings: false.
    is_scaled: bool = getattr(config, "scale_decoder_outputs", False)
    vocabulary, width = old_head.shape
    changed.resize_token_embeddings(vocabulary + len(prompt), mean_resizing=False)
    with torch.no_grad():
        embedding_weight(model)[vocabulary:] = prompt
        if is_tied and is_scaled:
            return True
        if is_scaled:
            old_head = old_head * config.d_model**-0.5
            config.scale_decoder_outputs = False
        # Resizing shares the matrix in transformers 5, whether or not it was shared before.
        head = nn.Linear(width, vocabulary + len(prompt), bias=False)
        head.weight.copy_(torch.cat([old_head, old_head.new_zeros(prompt.shape)]))
        changed.set_output_embeddings(head)
    return False


def tokenizer_with_soft_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt_length: int, *, vocabulary: int, max_length: int
) -> PreTrainedTokenizerFast:
    """Returns a tokenizer that puts the soft tokens before each text.

    Rows of the embedding matrix that no token has, such as Flan-T5's last 28, get one, so that ids
    and rows agree in every runtime.

    Args:
        tokenizer: The base model's; not changed.
        prompt_length: Soft tokens, P; their ids follow all rows of the base model.
        vocabulary: Those rows, V.
        max_length: Longest text in tokens, without the soft tokens.

    Raises:
        ModelError: The tokenizer is not one of the tokenizers library with a template, or its ids
            have gaps.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"{tokenizer.name_or_path}: found a tokenizer without tokenizer.json, expected one; "
            "save it with AutoTokenizer's save_pretrained"
        )
    copy = Tokenizer.from_str(backend.to_str())
    copy.no_padding()
    copy.no_truncation()
    unused = [f"<unused_{index}>" for index in range(len(tokenizer), vocabulary)]
    names = soft_tokens(prompt_length)
    added = [AddedToken(name, special=True, normalized=False) for name in [*unused, *names]]
    copy.add_special_tokens(added)
    for expected, name in enumerate([*unused, *names], start=len(tokenizer)):
        if (found := copy.token_to_id(name)) != expected:
            raise ModelError(
                f"{tokenizer.name_or_path}: the token {name} gets the id {found}, expected "
                f"{expected}: its ids have gaps, or it has such a token already; use the base model"
            )
    state = json.loads(copy.to_str())
    first = len(tokenizer) + len(unused)
    ids = {name: first + index for index, name in enumerate(names)}  # As was just checked.
    _put_first(state, ids, tokenizer.name_or_path)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        pad_token=tokenizer.pad_token,
        eos_token=tokenizer.eos_token,
        unk_token=tokenizer.unk_token,
        model_max_length=max_length + prompt_length,
        clean_up_tokenization_spaces=False,
        # Version 4 of transformers would add token_type_ids, which T5 refuses.
        model_input_names=["input_ids", "attention_mask"],
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json, as earlier versions read them, too."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    # transformers 5 calls the class TokenizersBackend, which version 4 does not know.
    config = {**read_json(path), "tokenizer_class": _CLASS}
    splitting = read_json(folder / "tokenizer.json")["pre_tokenizer"] or {}
    if "add_prefix_space" in splitting:  # Version 4 sets it to false where it is not stated here.
        config["add_prefix_space"] = splitting["add_prefix_space"]
    write_json(path, config)


def save_model(model: PreTrainedModel, folder: Path, *, is_tied: bool) -> None:
    """Writes weights and configuration of a model of `add_soft_tokens`, which returns `is_tied`."""
    cast(Any, model).save_pretrained(folder)
    path = folder / "config.json"
    write_json(path, {**read_json(path), "tie_word_embeddings": is_tied})


def _put_first(state: dict[str, Any], ids: dict[str, int], name: str) -> None:
    """Puts special tokens before the text in the post-processor of a tokenizer.json."""
    processor = state["post_processor"]
    found = processor["type"] if processor else "none"
    if found != _TEMPLATE:
        raise ModelError(
            f"{name}: found the post-processor {found}, expected {_TEMPLATE}, which T5's have"
        )
    first = [{"SpecialToken": {"id": token, "type_id": 0}} for token in ids]
    for pieces in (processor["single"], processor["pair"]):
        pieces[:0] = first
    processor["special_tokens"] |= {
        token: {"id": token, "ids": [number], "tokens": [token]} for token, number in ids.items()
    }
