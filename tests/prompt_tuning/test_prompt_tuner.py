"""PromptTuner: one trainable tensor, a frozen model, and a prompt that is used everywhere."""

import doctest
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from igrag.captioning.language_model import LanguageModel, load_language_model
from igrag.captioning.shared_cross_attention import forward_from, generate_from
from igrag.config import REPO_ROOT
from prompt_tuning import prompt_tuner
from prompt_tuning.prompt_tuner import PromptTuner
from tests.prompt_tuning.models import (
    assert_same,
    batch_of,
    inputs_of,
    make_tuner,
    noise,
    row,
    trimmed,
    tuner_of,
)


def test_docstring_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading, wrapping, the loss and generation work as the class documents them."""
    monkeypatch.chdir(REPO_ROOT)
    assert doctest.testmod(prompt_tuner) == (0, 9)


def test_saved_prompt_loads_from_its_folder(language: LanguageModel, tmp_path: Path) -> None:
    """save_pretrained and from_pretrained take a folder; the output stays the same."""
    tuner = tuner_of(language, noise(6))
    tuner.save_pretrained(tmp_path)
    loaded = PromptTuner.from_pretrained(language.model, tmp_path)
    batch = batch_of(language.tokenizer)
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, tuner(**batch).logits)
    assert [path.name for path in tmp_path.iterdir()] == ["prompt_embeddings.pt"]


def generate(tuner: PromptTuner, batch: dict[str, Tensor], **options: Any) -> Tensor:
    """Generates greedily."""
    greedy: dict[str, Any] = {"max_new_tokens": 8, "num_beams": 1, "do_sample": False}
    return tuner.generate(**inputs_of(batch), **greedy, **options)


def test_only_the_prompt_is_trainable(language: LanguageModel) -> None:
    """A step changes the float32 parameter [P, H] and nothing else."""
    tuner = make_tuner(language, 6).train()
    before = {name: value.clone() for name, value in tuner.model.state_dict().items()}
    first = tuner.plain_prompt()
    named = [name for name, value in tuner.named_parameters() if value.requires_grad]
    assert named == ["prompt_embeddings"]
    assert tuner.prompt_embeddings.shape == (6, 32)
    optimizer = torch.optim.SGD(tuner.trainable_parameters(), lr=1.0)
    tuner(**batch_of(language.tokenizer)).loss.backward()
    optimizer.step()
    assert all(torch.equal(before[name], after) for name, after in tuner.model.state_dict().items())
    assert ((tuner.plain_prompt() - first).abs().sum(dim=1) > 0).all()


def test_prompt_of_a_bfloat16_model_is_float32(tiny_t5: Path) -> None:
    """The model stays bfloat16."""
    language = load_language_model(str(tiny_t5), device="cpu", dtype="bfloat16")
    tuner = make_tuner(language, 3)
    assert tuner.prompt_embeddings.dtype == torch.float32
    output = tuner(**batch_of(language.tokenizer))
    assert output.logits.dtype == torch.bfloat16
    output.loss.backward()
    assert tuner.prompt_embeddings.grad is not None
    assert tuner.prompt_embeddings.grad.dtype == torch.float32


def test_train_keeps_the_model_in_eval_mode(language: LanguageModel) -> None:
    """train() enables the model's dropout only with model_dropout."""
    tuner = make_tuner(language, 3).train()
    batch = batch_of(language.tokenizer)
    assert tuner.training and not any(module.training for module in tuner.model.modules())
    assert torch.equal(tuner(**batch).logits, tuner(**batch).logits)
    dropping = make_tuner(language, 3, model_dropout=True).train()
    assert not torch.equal(dropping(**batch).logits, dropping(**batch).logits)
    dropping.eval()
    assert not any(module.training for module in dropping.model.modules())


@pytest.mark.parametrize("access", ["context", "attribute"])
def test_disabled_tuner_equals_the_base_model(language: LanguageModel, access: str) -> None:
    """Logits and tokens are equal; afterwards the prompt is active again."""
    tuner = tuner_of(language, noise(5))
    batch = batch_of(language.tokenizer)
    model: Any = language.model
    with torch.no_grad():
        base, tuned = model(**batch).logits, tuner(**batch).logits
        tokens = model.generate(**inputs_of(batch), max_new_tokens=8, num_beams=1, do_sample=False)
        if access == "context":
            with tuner.disabled():
                found, generated = tuner(**batch).logits, generate(tuner, batch)
        else:
            tuner.enabled = False
            found, generated = tuner(**batch).logits, generate(tuner, batch)
            tuner.enabled = True
        assert torch.equal(found, base) and torch.equal(generated, tokens)
        assert torch.equal(tuner(**batch).logits, tuned) and not torch.equal(tuned, base)


def test_disabled_restores_the_earlier_state(language: LanguageModel) -> None:
    """The prompt is active again after an error; a disabled tuner stays disabled."""
    tuner = tuner_of(language, noise(5))
    with pytest.raises(RuntimeError, match="inside"), tuner.disabled():
        raise RuntimeError("inside")
    assert tuner.enabled
    tuner.enabled = False
    with tuner.disabled():
        assert not tuner.enabled
    assert not tuner.enabled


def test_without_a_mask_every_token_counts(language: LanguageModel) -> None:
    """A pad token inside of the text counts as text, with and without the prompt."""
    tuner = tuner_of(language, noise(5))
    batch = batch_of(language.tokenizer)
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    unmasked = {key: batch[key] for key in ("input_ids", "labels")}
    for tuner.enabled in (True, False):
        with torch.no_grad():
            assert torch.equal(tuner(**unmasked).logits, tuner(**batch).logits)


def test_generate_equals_the_argmax_of_forward(language: LanguageModel) -> None:
    """Each token is the argmax of forward's logits, on a padded batch."""
    tuner = tuner_of(language, noise(7, seed=2))
    batch = batch_of(language.tokenizer)
    tokens = generate(tuner, batch)
    so_far = torch.zeros(len(tokens), 1, dtype=torch.long)
    finished = torch.zeros(len(tokens), dtype=torch.bool)
    with torch.no_grad():
        for step in range(1, tokens.shape[1]):
            logits = tuner(**inputs_of(batch), decoder_input_ids=so_far).logits
            chosen = logits[:, -1].argmax(dim=-1).masked_fill(finished, 0)
            assert torch.equal(chosen, tokens[:, step])
            finished |= chosen == 1
            so_far = torch.cat([so_far, chosen[:, None]], dim=1)


def test_two_prompts_generate_different_tokens(language: LanguageModel) -> None:
    """Generated tokens depend on the prompt."""
    batch = batch_of(language.tokenizer)
    first, second = (
        generate(tuner_of(language, noise(8, seed=seed, scale=30)), batch) for seed in (1, 2)
    )
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("length", [1, 2, 7, 20, 100])
def test_padded_batch_equals_its_rows(language: LanguageModel, length: int, side: str) -> None:
    """Logits and tokens of a row depend neither on other rows nor on the side of padding."""
    tuner = tuner_of(language, noise(length))
    batch = batch_of(language.tokenizer, side=side)
    with torch.no_grad():
        together, tokens = tuner(**batch).logits, generate(tuner, batch)
        for place in range(3):
            alone = row(batch, place)
            assert_same(together[place], tuner(**alone).logits[0])
            assert trimmed(generate(tuner, alone)[0]) == trimmed(tokens[place])


@pytest.mark.parametrize("side", ["right", "left"])
def test_rows_with_different_prompts_equal_single_rows(language: LanguageModel, side: str) -> None:
    """Rows with prompts of different lengths, and with none, compute what they compute alone."""
    tuner = tuner_of(language, noise(4))
    tuner.add_prompt("long", noise(30, seed=1))
    tuner.add_prompt("short", noise(1, seed=2))
    batch = batch_of(language.tokenizer, side=side)
    for names in (["long", None, "default"], [None, "short", "long"], [None, None, None]):
        with torch.no_grad():
            together = tuner(**batch, prompts=names).logits
            tokens = generate(tuner, batch, prompts=names)
            for place, name in enumerate(names):
                alone = row(batch, place)
                assert_same(together[place], tuner(**alone, prompts=[name]).logits[0])
                single = generate(tuner, alone, prompts=[name])
                assert trimmed(single[0]) == trimmed(tokens[place])
            with tuner.disabled():
                base = tuner(**batch).logits
        for place, name in enumerate(names):
            assert (name is None) == bool((base[place] - together[place]).abs().max() < 1e-3)


def test_active_prompt_is_selected_by_name(language: LanguageModel) -> None:
    """It serves all rows; an unknown name or a wrong shape is refused."""
    tuner = tuner_of(language, noise(4))
    tuner.add_prompt("other", noise(9, seed=5))
    batch = batch_of(language.tokenizer)
    with torch.no_grad():
        expected = tuner(**batch, prompts=["other"] * 3).logits
        tuner.use("other")
        assert torch.equal(tuner(**batch).logits, expected)
    with pytest.raises(KeyError, match="no prompt of the name 'nobody', found other"):
        tuner.use("nobody")
    with pytest.raises(KeyError, match="no prompt of the name"):
        tuner(**batch, prompts=["default", "nobody", None])
    with pytest.raises(ValueError, match="found 2 prompts"):
        tuner(**batch, prompts=["default", "other"])
    with pytest.raises(ValueError, match=r"expected \[P, 32\]"):
        tuner.add_prompt("wide", noise(2, width=33))
    with pytest.raises(ValueError, match="trained prompt"):
        tuner.add_prompt("default", noise(2))


def test_encoder_states_give_the_loss_and_tokens_of_the_inputs(language: LanguageModel) -> None:
    """Loss and tokens from encoder states are those of forward and generate, with beams too."""
    tuner = tuner_of(language, noise(6))
    batch = batch_of(language.tokenizer)
    inputs = inputs_of(batch)
    with torch.no_grad():
        states, mask = tuner.encode(**inputs)
        assert states.shape == (3, 6 + batch["input_ids"].shape[1], 32)
        loss = forward_from(tuner.model, states, mask, labels=batch["labels"]).loss
        assert loss is not None and torch.equal(loss, tuner(**batch).loss)
        for num_beams in (1, 3):
            options: dict[str, Any] = {"max_new_tokens": 8, "num_beams": num_beams}
            tokens = generate_from(tuner.model, states, mask, do_sample=False, **options)
            assert torch.equal(tokens, tuner.generate(**inputs, do_sample=False, **options))


def test_invalid_prompt_length_and_name_are_refused(language: LanguageModel) -> None:
    """The error for a length below one or an unknown name says what was expected."""
    with pytest.raises(ValueError, match="at least 1"):
        make_tuner(language, 0)
    with pytest.raises(ValueError, match=r"found shape \[3, 33\], expected \[P, 32\]"):
        PromptTuner(language.model, noise(3, width=33))
    with pytest.raises(ValueError, match="random, text, vocab or file"):
        make_tuner(language, 3, "zeros")  # type: ignore[arg-type]
