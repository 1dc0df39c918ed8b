"""The training of a prompt with image tokens: every guarantee of a plain prompt's holds for it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from igrag.captioning.language_model import LanguageModel, embedding_weight
from igrag.errors import ConfigError, DataError, UsageError
from igrag.retrieval.vector_lookup import ImageVectors
from prompt_tuning.image_prompt import make_image_prompt
from prompt_tuning.optimization import build_optimizer, build_scheduler, summed_loss
from prompt_tuning.prompt_file import load_prompt
from tests.examples import ENCODER, save_example_vectors, save_examples
from tests.launchers import TORCHRUN
from tests.prompt_tuning.models import batch_of, image_prompt_of, make_tuner, noise, tuner_of
from tests.prompt_tuning.test_resume import LATEST, checkpoints, interrupt
from tests.prompt_tuning.test_wiring import data_of, settings_of, tuner_for
from tests.prompt_tuning.training import Trainer, losses, record_of

PROMPT = "prompt_embeddings.pt"


@pytest.fixture
def seeing(trainer: Trainer) -> Trainer:
    """A trainer of a prompt with 2 image tokens, whose data have vectors."""
    for seed, path in enumerate(data_of(trainer)):
        save_example_vectors(path, seed=seed)
    trainer._settings |= {
        "prompt_tuning.image_tokens": 2,
        "prompt_tuning.image_hidden": 6,
        "prompt_tuning.image_learning_rate": 0.01,
    }
    return trainer


def state_of(path: Path) -> Mapping[str, Tensor]:
    """Returns the tensors of a saved image prompt."""
    image_prompt = load_prompt(path).image_prompt
    assert image_prompt is not None
    return image_prompt.state_dict()


def test_prompt_without_image_tokens_trains_the_same_bytes(trainer: Trainer) -> None:
    """Vectors next to the data change nothing, and neither do the settings of image tokens."""
    before = trainer.train("before")
    for path in data_of(trainer):
        save_example_vectors(path)
    after = trainer.train("after", prompt_tuning__image_tokens=0, prompt_tuning__image_hidden=9)
    assert checkpoints(before) == checkpoints(after)
    for name in ("checkpoint-3", "checkpoint-10"):
        states = [torch.load(run / name / "training_state.pt") for run in (before, after)]
        assert [list(state["prompt"]) for state in states] == [["prompt_embeddings"]] * 2
        assert [len(state["optimizer"]["param_groups"]) for state in states] == [1, 1]


def test_image_tokens_are_drawn_after_the_prompt(seeing: Trainer) -> None:
    """The learned part starts as that of a plain prompt of the same seed."""
    plain = tuner_for(seeing, prompt_tuning__image_tokens=0)
    tuner = tuner_for(seeing)
    assert torch.equal(tuner.plain_prompt(), plain.plain_prompt())
    assert plain.image_prompt is None and tuner.image_prompt is not None
    other = tuner_for(seeing, training__seed=7).image_prompt
    assert other is not None
    assert not torch.equal(tuner.image_prompt.output.bias, other.output.bias)


def test_image_prompt_has_a_learning_rate_of_its_own(language: LanguageModel) -> None:
    """Both groups follow one schedule, and together they hold all that is trained."""
    tuner = tuner_of(language, noise(3), image_prompt_of(language))
    assert tuner.image_prompt is not None
    optimizer = build_optimizer(
        tuner.trainable_parameters(), "adamw", learning_rate=0.3, weight_decay=0.0,
        image_parameters=tuner.image_prompt.parameters(), image_learning_rate=0.01,
    )  # fmt: skip
    scheduler = build_scheduler(optimizer, "linear", warmup_ratio=0.0, total_steps=4)
    optimizer.step()
    scheduler.step()
    rates = [(len(group["params"]), group["lr"]) for group in optimizer.param_groups]
    assert rates == [(1, pytest.approx(0.225)), (4, pytest.approx(0.0075))]


def test_finished_training_has_a_prompt_with_image_tokens(seeing: Trainer) -> None:
    """Its file, its record and the parameters that are counted have both parts."""
    output = seeing.train()
    first, best = (output / name / PROMPT for name in ("checkpoint-3", "best_model"))
    prompt = load_prompt(best, encoder=ENCODER)
    assert prompt.embeddings.shape == (4, 32)
    assert prompt.image_prompt is not None and prompt.image_prompt.image_tokens == 2
    last = state_of(output / "checkpoint-10" / PROMPT)
    for name, value in state_of(first).items():
        assert torch.equal(value, last[name]) == (name in ("mean", "deviation")), name
    record = record_of(output)
    assert record.model.trainable_parameters == 4 * 32 + (8 * 6 + 6) + (6 * 64 + 64)
    assert record.config["resolved"]["image_encoder"] == ENCODER.to_json()
    assert {"train_vectors_sha256", "val_vectors_sha256"} <= set(record.data)
    assert len(set(losses(output))) == 10


def test_accumulation_equals_one_big_batch_with_image_tokens(seeing: Trainer) -> None:
    """Micro-batches of 2 train the image prompt as one batch of 16 does."""
    runs = [
        seeing.train(
            name,
            training__per_device_train_batch_size=size,
            training__gradient_accumulation_steps=steps,
            training__learning_rate=0.01,
            training__num_train_epochs=1,
            evaluation__eval_steps="null",
        )
        for name, size, steps in (("micro", 2, 8), ("big", 16, 1))
    ]
    assert losses(runs[0]) == pytest.approx(losses(runs[1]), rel=1e-6)
    micro, big = (state_of(run / "checkpoint-3" / PROMPT) for run in runs)
    for name, value in micro.items():
        torch.testing.assert_close(value, big[name], atol=1e-5, rtol=0)


@pytest.mark.slow
def test_resumed_image_training_equals_uninterrupted_one(
    seeing: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both parts and both groups of the optimizer are restored, bit for bit."""
    whole = seeing.train("whole")
    interrupt(seeing, "parts", monkeypatch, after=5)
    parts = seeing.train("parts", *LATEST)
    assert checkpoints(parts) == checkpoints(whole)
    assert losses(parts) == losses(whole)


@pytest.mark.slow
def test_resume_with_other_vectors_is_refused(seeing: Trainer) -> None:
    """The vectors are data: others under the same ids make another training."""
    seeing.train()
    train = data_of(seeing)[0]
    save_example_vectors(train, encoder=replace(ENCODER, name="moved"))
    seeing.train("run", *LATEST)
    save_example_vectors(train, seed=9)
    with pytest.raises(UsageError, match=r"other data: train_vectors_sha256 was"):
        seeing.train("run", *LATEST)


@pytest.mark.slow
def test_two_processes_train_image_tokens_as_one(seeing: Trainer) -> None:
    """The same global batches give the same losses and the same image prompt."""
    two = seeing.start("two", launcher=TORCHRUN, training__gradient_accumulation_steps=1)
    one = seeing.train("one", training__gradient_accumulation_steps=2)
    _, stderr = two.communicate(timeout=300)
    assert two.returncode == 0, stderr
    outputs = [one, seeing.output / "two"]
    assert losses(outputs[0]) == pytest.approx(losses(outputs[1]), abs=1e-5)
    first, second = (state_of(output / "checkpoint-10" / PROMPT) for output in outputs)
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=1e-4, rtol=0)


def test_missing_vectors_name_the_line_and_the_fix(trainer: Trainer, knowledge_base: Path) -> None:
    """Neither next to the data nor where data.image_vectors names is one of the image."""
    tokens = {"prompt_tuning__image_tokens": 2}
    with pytest.raises(DataError, match=r"train\.jsonl:1: no vector of image 1; .*data_builder"):
        tuner_for(trainer, **tokens)
    with pytest.raises(DataError, match=r"train\.jsonl:13: no vector of image 13 in .*kb; "):
        tuner_for(trainer, **tokens, data__image_vectors=knowledge_base)


def test_validation_vectors_of_another_encoder_are_refused(seeing: Trainer) -> None:
    """Training and validation examples need vectors of one encoder."""
    save_example_vectors(data_of(seeing)[1], encoder=replace(ENCODER, weights_fingerprint="0"))
    with pytest.raises(DataError, match=r"val\.vectors\.npy: found vectors .* weights 0 against f"):
        tuner_for(seeing)


def test_vectors_of_a_knowledge_base_train(seeing: Trainer, knowledge_base: Path) -> None:
    """Examples from elsewhere find theirs by image_id; one path is a list of one."""
    train, val = data_of(seeing)
    for path in (train, val):
        save_examples(path, count=12 if path == train else 5, seed=path == val)
        path.with_suffix(".vectors.json").unlink()
        path.with_suffix(".vectors.npy").unlink()
    loaded = settings_of(seeing, data__image_vectors=knowledge_base)
    assert loaded.data.image_vectors == [knowledge_base]
    assert str(knowledge_base) in json.dumps(loaded.to_plain())  # as all_results.json has it
    tuner = tuner_for(seeing, data__image_vectors=f"[{knowledge_base}]")
    assert tuner.encoder is not None and tuner.encoder.name == "clip-8"
    assert tuner.encoder != ENCODER


def test_negative_number_of_image_tokens_is_refused(trainer: Trainer) -> None:
    """The error names the key and the value."""
    with pytest.raises(ConfigError, match=r"prompt_tuning\.image_tokens: found -1, expected"):
        settings_of(trainer, prompt_tuning__image_tokens=-1)


@pytest.mark.slow
def test_right_vector_beats_a_shuffled_one(language: LanguageModel) -> None:
    """Where only the image decides between captions, a trained prompt needs the image's vector."""
    batch = batch_of(language.tokenizer)
    batch["input_ids"] = batch["input_ids"][:1].expand(3, -1)  # One prompt for all images.
    batch["attention_mask"] = batch["attention_mask"][:1].expand(3, -1)
    vectors = torch.eye(8)[:3]
    image_prompt = make_image_prompt(
        ImageVectors(vectors.numpy(), np.arange(3), ENCODER),
        embedding_weight(language.model),
        image_tokens=4,
        hidden=16,
        generator=torch.Generator().manual_seed(0),
    )
    tuner = make_tuner(language, 4)
    tuner.image_prompt = image_prompt
    optimizer = build_optimizer(
        tuner.trainable_parameters(), "adamw", learning_rate=0.3, weight_decay=0.0,
        image_parameters=image_prompt.parameters(), image_learning_rate=0.03,
    )  # fmt: skip

    def loss_of(vectors: Tensor) -> Tensor:
        inputs: dict[str, Any] = {**batch, "image_vectors": vectors}
        return summed_loss(tuner, inputs) / (batch["labels"] != -100).sum()

    first = float(loss_of(vectors).detach())
    for _ in range(60):
        optimizer.zero_grad()
        loss_of(vectors).backward()
        optimizer.step()
    with torch.no_grad():
        right, shuffled = float(loss_of(vectors)), float(loss_of(vectors.roll(1, 0)))
        zero = float(loss_of(image_prompt.mean.expand(3, -1)))
    assert right < first
    assert right + 0.3 < min(shuffled, zero), (first, right, shuffled, zero)
