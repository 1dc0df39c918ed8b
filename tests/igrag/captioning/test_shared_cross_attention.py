"""Beams that share keys and values: the library's own tokens, with less work."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, T5ForConditionalGeneration

from igrag.captioning.generator import generate_tokens
from igrag.captioning.shared_cross_attention import (
    CrossAttentionCache,
    forward_from,
    generate,
    generate_from,
)
from tests.tiny import WORDS, save_t5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedModel:
    """A T5 of random weights."""
    path: Path = save_t5(tmp_path_factory.mktemp("t5"), words=WORDS.split(), seed=5)
    loaded: PreTrainedModel = T5ForConditionalGeneration.from_pretrained(path).eval()
    return loaded


@pytest.fixture
def inputs() -> dict[str, Tensor]:
    """Ids [3, 9] and their mask; the last row is shorter."""
    ids = torch.randint(3, 40, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[2, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@contextmanager
def counted_rows(model: PreTrainedModel) -> Iterator[list[int]]:
    """Lists the rows of each batch whose keys the decoder's first cross-attention computes."""
    rows: list[int] = []
    attention: Any = model.get_submodule("decoder.block.0.layer.1.EncDecAttention")
    key: nn.Module = attention.k
    hook = key.register_forward_hook(lambda _, inputs, output: rows.append(len(output)))
    try:
        yield rows
    finally:
        hook.remove()


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 1},
        {"num_beams": 4},
        {"num_beams": 4, "num_return_sequences": 2},
        {"num_beams": 1, "do_sample": True, "num_return_sequences": 3},
        {"num_beams": 3, "do_sample": True},
    ],
    ids=str,
)
def test_tokens_are_those_of_the_library(
    model: PreTrainedModel, inputs: dict[str, Tensor], options: dict[str, Any]
) -> None:
    """Greedy, beams, sampling and several captions a row give the library's tokens."""
    options = {"max_new_tokens": 12, **options}
    torch.manual_seed(0)
    expected = model.generate(**inputs, **options)  # type: ignore[operator]
    torch.manual_seed(0)
    assert torch.equal(generate(model, inputs, **options), expected)


def test_keys_are_computed_once_a_row(model: PreTrainedModel, inputs: dict[str, Tensor]) -> None:
    """Four beams need the keys of three rows; the library computes those of twelve."""
    options: dict[str, Any] = {"num_beams": 4, "max_new_tokens": 5}
    with counted_rows(model) as rows:
        model.generate(**inputs, **options)  # type: ignore[operator]
    assert rows == [12]
    with counted_rows(model) as rows:
        generate_tokens(model, **inputs, **options)  # type: ignore[arg-type]
    assert rows == [3]


def test_beam_search_copies_no_keys() -> None:
    """Another order of the beams leaves the tensors as they are."""
    cache = CrossAttentionCache()
    cache.update(torch.randn(6, 2, 5, 4), torch.randn(6, 2, 5, 4), 0)
    layer: Any = cache.layers[0]
    keys = layer.keys
    cache.reorder_cache(torch.tensor([1, 0, 2, 4, 4, 3]))
    assert layer.keys is keys


def test_keys_of_a_loss_serve_generation(model: PreTrainedModel, inputs: dict[str, Tensor]) -> None:
    """Generation after a forward pass computes no keys again, and generates the same tokens."""
    mask = inputs["attention_mask"]
    options: dict[str, Any] = {"num_beams": 2, "max_new_tokens": 8}
    labels = torch.randint(3, 40, (3, 6), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        states = model.get_encoder()(**inputs).last_hidden_state
        plain = forward_from(model, states, mask, labels=labels)
        shared = CrossAttentionCache()
        with counted_rows(model) as rows:
            output = forward_from(model, states, mask, keys_and_values=shared, labels=labels)
            tokens = generate_from(model, states, mask, keys_and_values=shared, **options)
    assert rows == [3]
    assert torch.equal(output.loss, plain.loss)
    assert torch.equal(tokens, generate(model, inputs, **options))
