"""Runs the trials of a study, several at a time, until it is complete or the time is up."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import yaml
from optuna.trial import TrialState

from igrag.files import atomic_path
from igrag.training.checkpoints import has_stopped_improving
from igrag.training.record import Evaluation, TrainingRecord
from prompt_tuning.sweep.runs import TrainingProcess
from prompt_tuning.sweep.settings import Sweep, format_value
from prompt_tuning.sweep.study import RUN_NAME, SETTINGS_NAME, ClaimedTrial, SweepStudy

_POLL = 0.2  # seconds


class RunningTrial:
    """A trial whose training runs; each of its validations is reported to the study once.

    Args:
        claimed: The trial.
        process: Its training.
        patience: Validations without a new best after which the training stops by itself.
    """

    def __init__(
        self, claimed: ClaimedTrial, process: TrainingProcess, *, patience: int | None
    ) -> None:
        self.claimed = claimed
        self._process = process
        self._patience = patience
        frozen = claimed.trial.study.get_trials(deepcopy=False)[claimed.trial.number]
        self._reported = max(frozen.intermediate_values, default=0)

    def poll(self) -> TrialState | None:
        """Reports new validations, and ends the trial where it has ended or is pruned.

        Returns:
            Its final state; None while it runs.
        """
        code = self._process.poll()  # first: what it has written by then is all
        record = self._process.record()
        if record and self._is_pruned(record):
            return self._end(TrialState.PRUNED, record)
        if code is None:
            return None
        if code == 0 and record and record.best:
            return self._end(TrialState.COMPLETE, record)
        self.claimed.trial.set_user_attr("error", self._process.failure())
        return self._end(TrialState.FAIL, record)

    def stop(self) -> None:
        """Ends its process, and leaves the trial to be resumed."""
        self._process.stop()
        self.claimed.lock.release()

    def _is_pruned(self, record: TrainingRecord) -> bool:
        # By number, not by step: trials may have other batch sizes, and then other steps.
        tuned = [found for found in record.evaluations if found.checkpoint]
        for number, evaluation in enumerate(tuned, start=1):
            if number <= self._reported:
                continue
            self.claimed.trial.report(evaluation.bleu4, number)
            self._reported = number
            # Whether a trial is pruned must not depend on how early its end is noticed.
            if not self._is_last(evaluation, record) and self.claimed.trial.should_prune():
                return True
        return False

    def _is_last(self, evaluation: Evaluation, record: TrainingRecord) -> bool:
        epochs = record.config["training"]["num_train_epochs"]
        stopped = has_stopped_improving(record, self._patience)
        return evaluation.epoch >= epochs or (stopped and evaluation is record.evaluations[-1])

    def _end(self, state: TrialState, record: TrainingRecord | None) -> TrialState:
        trial = self.claimed.trial
        best = record.best if record else None
        if record and best:
            trial.set_user_attr("best_step", best.step)
            trial.set_user_attr("training_seconds", record.training_seconds)
            if record.untuned:
                trial.set_user_attr("untuned_bleu4", record.untuned.bleu4)
        value = best.bleu4 if best and state == TrialState.COMPLETE else None
        self._process.stop()
        trial.study.tell(trial, value, state)
        self.claimed.lock.release()
        return state


def run_trials(
    study: SweepStudy,
    sweep: Sweep,
    *,
    jobs: int,
    minutes: float | None,
    options: Sequence[str] = (),
) -> None:
    """Runs trials until the study is complete, or the time is up.

    However it ends, every training ends with it; trials that are not finished are resumed by the
    next call.

    Args:
        study: The study.
        sweep: What is searched.
        jobs: Trainings at a time.
        minutes: Time budget; None: no limit.
        options: Further options of every training (--device, --dtype).
    """
    deadline = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    running: list[RunningTrial] = []
    try:
        while time.monotonic() < deadline:
            while len(running) < jobs and (claimed := study.claim()):
                running.append(_start(claimed, sweep, jobs=jobs, options=options))
            if not running:
                return
            for trial in list(running):
                state = trial.poll()
                if state is not None:
                    running.remove(trial)
                    _print_result(study, trial.claimed, state)
            time.sleep(_POLL)
        print(f"the time is up; {len(running)} trials continue with the next call", file=sys.stderr)
    finally:
        for trial in running:
            trial.stop()


def write_settings(path: Path, sweep: Sweep, values: dict[str, object], *, comment: str) -> None:
    """Writes a training configuration: the sweep's own, changed to a trial's values."""
    nested: dict[str, object] = {"base": str(sweep.settings.config.resolve())}
    for key, value in {**sweep.fixed, **values}.items():
        *sections, last = key.split(".")
        target = nested
        for section in sections:
            target = target.setdefault(section, {})  # type: ignore[assignment]
        target[last] = value
    text = yaml.safe_dump(nested, sort_keys=False, allow_unicode=True)
    with atomic_path(path) as temporary:
        temporary.write_text(f"# {comment}\n{text}", encoding="utf-8")


def _start(
    claimed: ClaimedTrial, sweep: Sweep, *, jobs: int, options: Sequence[str]
) -> RunningTrial:
    number, path = claimed.trial.number, claimed.folder / SETTINGS_NAME
    write_settings(path, sweep, dict(claimed.values), comment=f"Trial {number} of a sweep.")
    shown = ", ".join(f"{key}={format_value(value)}" for key, value in claimed.values.items())
    verb = "resumes" if claimed.resumed else "starts"
    print(f"trial {number} {verb}: {shown}", file=sys.stderr, flush=True)
    # Several trainings share the cores, unless the user has shared them out.
    cores = max(1, (os.cpu_count() or 1) // jobs)
    threads = cores if jobs > 1 and "OMP_NUM_THREADS" not in os.environ else None
    process = TrainingProcess(
        claimed.folder / RUN_NAME, ["--config", str(path), *options], threads=threads
    )
    return RunningTrial(
        claimed, process, patience=sweep.training.evaluation.early_stopping_patience
    )


def _print_result(study: SweepStudy, claimed: ClaimedTrial, state: TrialState) -> None:
    trial = study.trials[claimed.trial.number]
    if state == TrialState.FAIL:
        text = f"failed: {trial.user_attrs['error']}"
    elif state == TrialState.PRUNED:
        count = len(trial.intermediate_values)
        text = f"stopped early, BLEU-4 {trial.value:.4f} at validation {count}"
    else:
        best = study.best
        remark = ", the best so far" if best and best.number == trial.number else ""
        text = f"BLEU-4 {trial.value:.4f}{remark}"
    print(f"trial {trial.number}: {text}", file=sys.stderr, flush=True)
