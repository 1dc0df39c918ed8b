"""`training.compile`: when it is worthwhile, the same numbers, trainings without a compiler."""

import logging
import shutil
from copy import deepcopy
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch

from igrag.captioning.language_model import LanguageModel
from igrag.errors import ConfigError
from igrag.training.record import TrainingRecord
from prompt_tuning import compilation
from prompt_tuning.compilation import LONG_RUN, compile_encoder, is_worthwhile
from tests.prompt_tuning.training import Trainer

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler: g++")


@pytest.mark.parametrize(
    ("choice", "device", "fast", "micro_batches", "expected"),
    [
        ("auto", "cuda", False, LONG_RUN, True),
        ("auto", "cuda", False, LONG_RUN - 1, False),
        ("auto", "cpu", True, LONG_RUN, True),
        ("auto", "cpu", False, LONG_RUN, False),
        ("auto", "mps", True, LONG_RUN, False),
        (True, "cpu", False, 1, True),
        (False, "cuda", True, LONG_RUN, False),
    ],
)
def test_auto_compiles_long_trainings_on_fast_devices(
    choice: Any,
    device: str,
    fast: bool,
    micro_batches: int,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Elsewhere compiling costs more than it brings."""
    monkeypatch.setattr(compilation, "auto_dtype", lambda _: "bfloat16" if fast else "float32")
    found = is_worthwhile(choice, torch.device(device), micro_batches=micro_batches)
    assert found is expected


def test_training_goes_on_where_compiling_fails(
    language: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    """Auto warns and leaves the model as it was; true is an error that names the key."""

    def broken() -> None:
        raise RuntimeError("no working compiler\nand a long trace")

    with caplog.at_level(logging.WARNING):
        assert not compile_encoder(language.model, broken, required=False)
    assert "no working compiler" in caplog.text and "long trace" not in caplog.text
    blocks = language.model.get_encoder().block
    assert all(block._compiled_call_impl is None for block in blocks)
    with pytest.raises(ConfigError, match=r"training\.compile: true .* set it to false"):
        compile_encoder(language.model, broken, required=True)


@pytest.mark.slow
@needs_compiler
def test_compiled_block_computes_the_same(language: LanguageModel) -> None:
    """A block's output and gradient are the plain ones to rounding, for lengths that differ."""
    model = deepcopy(language.model)
    encoder = model.get_encoder()
    encoder.block = encoder.block[:1]

    def gradient(length: int) -> list[torch.Tensor]:
        torch.manual_seed(length)
        inputs = torch.randn(2, length, model.config.d_model, requires_grad=True)
        states = encoder(inputs_embeds=inputs, attention_mask=torch.ones(2, length))[0]
        return [states, *torch.autograd.grad(states.pow(2).sum(), inputs)]

    plain = [gradient(length) for length in (7, 12)]
    assert compile_encoder(model, lambda: gradient(9), required=True)
    assert encoder.block[0]._compiled_call_impl is not None
    for length, expected in zip((7, 12), plain, strict=True):
        torch.testing.assert_close(gradient(length), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_compiled_training_equals_the_plain_one(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses are the same, over batches of several shapes and a validation, without C++."""
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(compile_module, backend="eager"))
    few = {"training__max_steps": 3}
    plain = TrainingRecord.read(trainer.train("plain", **few) / "all_results.json")
    output = trainer.train("compiled", training__compile="true", **few)
    compiled = TrainingRecord.read(output / "all_results.json")
    theirs, ours = ([step.loss for step in each.history] for each in (plain, compiled))
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_compile_is_a_word_or_a_truth_value(trainer: Trainer, tmp_path: Path) -> None:
    """Anything else is an error before the model loads."""
    with pytest.raises(ConfigError, match=r"training\.compile"):
        trainer.train("run", training__compile="sometimes")
