"""t5-mini's training: its tokenizer, its batches, and the learning rates of its weights."""

from contextlib import nullcontext
from itertools import islice
from random import Random

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from demo.language.tasks import mixture
from demo.train_t5 import (
    BATCH_SIZE,
    LABEL_IGNORED,
    Round,
    _batches,
    new_model,
    parameter_groups,
    train_round,
    train_tokenizer,
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer as t5-mini has it, from few examples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("demo.train_t5._TOKENIZER_EXAMPLES", 2000)
        return train_tokenizer(1)


def test_tokenizer_decodes_any_text(tokenizer: PreTrainedTokenizerFast) -> None:
    """No character is unknown, and a text is decoded as it was but for its runs of spaces."""
    text = "- A brown dog,\n  naïve 图 🐕!"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert ids[-1] == tokenizer.eos_token_id
    assert (
        str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
        == "- A brown dog, naïve 图 🐕!"
    )


def test_padding_is_masked_in_sources_and_labels(tokenizer: PreTrainedTokenizerFast) -> None:
    """A batch masks the padding of its texts, and leaves that of its answers out of the loss."""
    examples = mixture(Random(2))
    for batch in islice(_batches(examples, tokenizer, Random(3)), 3):
        assert len(batch["input_ids"]) == BATCH_SIZE
        assert torch.equal(batch["attention_mask"] == 0, batch["input_ids"] == 0)
        assert (batch["labels"] != 0).all()
        ends = (batch["labels"] == tokenizer.eos_token_id).sum(1)
        assert (ends == 1).all()
        assert (batch["labels"] == LABEL_IGNORED).any()


def test_query_weights_have_their_own_learning_rate(tokenizer: PreTrainedTokenizerFast) -> None:
    """Every weight is trained once; the queries' learning rate is smaller by their scale."""
    model = new_model(len(tokenizer))
    others, queries = parameter_groups(model, 2e-3)
    held = [*others["params"], *queries["params"]]
    assert {id(parameter) for parameter in held} == {id(each) for each in model.parameters()}
    assert len(held) == len(list(model.parameters()))
    # Self-attention of 3 + 3 layers, and the decoder's attention to the source.
    assert len(queries["params"]) == 9
    assert others["lr"] == 2e-3
    smaller = others["params"][1].std() / queries["params"][0].std()  # a key's to a query's
    assert others["lr"] / queries["lr"] == pytest.approx(smaller.item(), rel=0.1)


def test_few_steps_lower_the_loss(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss falls from that of a guess among all tokens."""
    monkeypatch.setattr("demo.train_t5.BATCH_SIZE", 16)
    # In float32: bfloat16 takes minutes on machines that emulate it.
    monkeypatch.setattr(torch, "autocast", lambda *_: nullcontext())
    torch.manual_seed(4)
    model = new_model(len(tokenizer)).train()
    batches = _batches(mixture(Random(5)), tokenizer, Random(6))
    losses = train_round(model, batches, Round(12, 2e-3, composed=0.0))
    guess = torch.tensor(float(len(tokenizer))).log()
    assert losses[0] > 0.8 * guess
    assert losses[-1] < 0.8 * losses[0]
