"""t5-mini's training: its tokenizer, its batches, and the learning rates of its weights."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from demo.train_t5 import (
    BATCH_SIZE,
    Plan,
    Training,
    new_model,
    parameter_groups,
    train_tokenizer,
    training_batches,
)
from igrag.data.batching import LABEL_IGNORED


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
    for batch in islice(training_batches(tokenizer, seed=2), 3):
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


def _training(tokenizer: PreTrainedTokenizerFast, steps: int) -> Training:
    torch.manual_seed(4)
    return Training(new_model(len(tokenizer)), tokenizer, seed=5, plan=Plan(steps, 2e-3))


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few examples a step, in float32 on any machine, and a checkpoint after every fourth step."""
    monkeypatch.setattr("demo.train_t5.BATCH_SIZE", 8)
    monkeypatch.setattr("demo.train_t5._POOL_BATCHES", 5)
    monkeypatch.setattr("demo.train_t5._LOG_EVERY", 4)
    monkeypatch.setattr("demo.train_t5.bfloat16_is_fast", lambda: False)


@pytest.mark.usefixtures("small_steps")
def test_few_steps_lower_the_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    """The loss falls from that of a guess among all tokens."""
    training = _training(tokenizer, 16)
    training.run()
    guess = torch.tensor(float(len(tokenizer))).log()
    assert training.losses[0] > 0.8 * guess
    assert training.losses[-1] < 0.8 * training.losses[0]


@pytest.mark.slow
@pytest.mark.usefixtures("small_steps")
def test_resume_equals_uninterrupted(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """A training that is stopped after its checkpoint goes on to the same weights."""
    whole, checkpoint = _training(tokenizer, 10), tmp_path / "work" / "t5.pt"
    whole.run(checkpoint)  # Its last checkpoint is that of step 8.
    resumed = _training(tokenizer, 10)
    resumed.resume(checkpoint)
    assert len(resumed.losses) == 8
    resumed.run()
    assert resumed.losses == whole.losses
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.usefixtures("small_steps")
def test_checkpoint_of_another_plan_is_refused(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """A checkpoint of other steps is named, not taken."""
    checkpoint = tmp_path / "t5.pt"
    _training(tokenizer, 4).run(checkpoint)
    with pytest.raises(ValueError, match=r"t5\.pt: of another training"):
        _training(tokenizer, 5).resume(checkpoint)
