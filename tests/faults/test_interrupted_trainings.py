"""A training that a signal ends loses nothing: it saves, and resumes to the same result."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from igrag.training.record import TrainingRecord
from lora_training.trainer import AdapterTrainer
from prompt_tuning.validation import Validation
from tests.faults.lost_outputs import DEADLINE, LATEST, TRAINERS, start, training_results
from tests.finished_runs import FinishedRuns, Trainer, skip_curves
from tests.prompt_tuning.conftest import make_trainer as make_prompt_trainer
from tests.prompt_tuning.training import Trainer as PromptTrainer

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}


@pytest.fixture(autouse=True)
def _fast_and_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    skip_curves(monkeypatch)


@pytest.fixture(scope="module", params=TRAINERS)
def trainer(
    request: pytest.FixtureRequest, tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory
) -> Trainer:
    """A trainer of ten steps with validations after 3, 6, 9 and 10, of each of the recipes."""
    return TRAINERS[request.param](tiny_t5, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def whole_runs(trainer: Trainer) -> FinishedRuns:
    """Runs that nothing interrupted."""
    return FinishedRuns(trainer)


def send_after_step(patch: pytest.MonkeyPatch, number: int, *, step: int) -> None:
    """Sends a signal to this process within the computation of a step."""
    clip, calls = torch.nn.utils.clip_grad_norm_, []

    def clip_and_send(*arguments: Any, **options: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == step:
            signal.raise_signal(number)
        return clip(*arguments, **options)

    patch.setattr(torch.nn.utils, "clip_grad_norm_", clip_and_send)


def send_in_validation(patch: pytest.MonkeyPatch, number: int, *, step: int) -> None:
    """Sends a signal within the validation after a step."""
    prompt, adapter = Validation._score_batch, AdapterTrainer._score_batch
    calls = []

    def score_and_send(method: Any) -> Any:
        def call(self: Any, *arguments: Any, **options: Any) -> Any:
            calls.append(1)
            # Ten examples in batches of four; the untuned model's validation comes first.
            if len(calls) == 2 + 3 * (step // 3):
                signal.raise_signal(number)
            return method(self, *arguments, **options)

        return call

    patch.setattr(Validation, "_score_batch", score_and_send(prompt))
    patch.setattr(AdapterTrainer, "_score_batch", score_and_send(adapter))


@pytest.fixture
def handlers() -> Iterator[None]:
    """Fails if a training leaves a handler behind; tests that nohup runs see SIGHUP, too."""
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    before = [signal.getsignal(number) for number in CODES]
    yield
    assert [signal.getsignal(number) for number in CODES] == before
    signal.signal(signal.SIGHUP, hang_up)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(
    ("number", "send", "step"),
    [
        pytest.param(signal.SIGTERM, send_after_step, 5, id="SIGTERM_in_a_step"),
        pytest.param(signal.SIGINT, send_in_validation, 6, id="SIGINT_in_a_validation"),
        pytest.param(signal.SIGHUP, send_after_step, 6, id="SIGHUP_before_a_validation",
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_interrupted_training_resumes_to_the_same_result(
    trainer: Trainer,
    whole_runs: FinishedRuns,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: int,
    send: Callable[..., None],
    step: int,
) -> None:
    """The step is finished and saved, which is never the best, and nothing is different."""
    whole = whole_runs.copy_to(tmp_path / "whole")
    name = f"parts_{step}_{number}"
    expected = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    with monkeypatch.context() as patch, pytest.raises(expected) as ended:
        send(patch, number, step=step)
        trainer.train(name)
    assert getattr(ended.value, "code", 130) == CODES[signal.Signals(number)]
    output = trainer.output / name
    saved = output / f"checkpoint-{step}"
    assert f"{saved}: saved; --resume_from_checkpoint latest" in capfd.readouterr().err
    record = TrainingRecord.read(saved / "training_record.json")
    assert len(record.history) == step
    assert saved.name not in [each.checkpoint for each in record.evaluations]
    trainer.train(name, *LATEST)
    assert training_results(output) == training_results(whole)
    assert not list(output.glob(".*"))


@pytest.mark.slow
def test_second_ctrl_c_ends_a_training_at_once(tiny_t5: Path, tmp_path: Path) -> None:
    """It waits for no step, shows no traceback and saves nothing; two signals in one are one."""
    trainer = make_prompt_trainer(tiny_t5, tmp_path)
    assert isinstance(trainer, PromptTrainer)
    code = (
        "import os, signal, sys, time, torch\n"
        "from prompt_tuning import prompt_training\n"
        "clip, calls = torch.nn.utils.clip_grad_norm_, []\n"
        "def clip_slowly(*arguments):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 4:\n"
        "        print('step', file=sys.stderr, flush=True)\n"
        "        time.sleep(600)\n"
        "    return clip(*arguments)\n"
        "torch.nn.utils.clip_grad_norm_ = clip_slowly\n"
        "sys.exit(prompt_training.command(sys.argv[1:]))\n"
    )
    process = start(["-c", code, *trainer.words(tmp_path / "run")])
    assert process.stderr is not None
    while process.stderr.readline() != "step\n":
        assert process.poll() is None
    started = time.monotonic()
    for pause in (0.0, 0.0, 1.5):  # The second one comes with the first, as `timeout` sends it.
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=DEADLINE)
    assert (process.returncode, shown) == (130, "error: interrupted\n"), sys.platform
    assert time.monotonic() - started < DEADLINE / 2
    assert not (tmp_path / "run" / "checkpoint-4").exists()
    assert not list((tmp_path / "run").glob(".*"))
