"""A sweep's study: which trials there are, and which one a process runs next.

OUTPUT/
  journal.log        Optuna's journal: every trial with its settings and validations
  trials/0007/       a trial: settings.yaml, and the training's own output folder
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from igrag.errors import UsageError
from igrag.training.changes import differences
from prompt_tuning.sweep.settings import Choice, Range, Sweep, SweepSettings

TRIALS_NAME, SETTINGS_NAME, RUN_NAME = "trials", "settings.yaml", "run"
_JOURNAL_NAME, _LOCK_NAME, _STUDY_NAME = "journal.log", ".study.lock", "sweep"
_DESCRIPTION = "description"  # attribute of the study: everything that its results depend on


@dataclass(frozen=True, slots=True)
class ClaimedTrial:
    """A trial that this process runs, and no other one.

    Attributes:
        trial: Optuna's trial.
        values: Key -> value of the search space.
        folder: Its folder.
        lock: Held until the trial has ended; the system releases it if the process is killed.
        resumed: Whether an earlier process has begun it.
    """

    trial: Trial
    values: Mapping[str, Any]
    folder: Path
    lock: FileLock
    resumed: bool


class SweepStudy:
    """The study in an output folder; processes share it, and a later one continues it.

    Args:
        folder: The output folder, which need not exist yet.
        sweep: What is searched.
        description: Everything that a trial's result depends on besides the searched values.

    Raises:
        UsageError: The folder holds a study of something else.
    """

    def __init__(self, folder: Path, sweep: Sweep, description: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._sweep = sweep
        self._lock = FileLock(folder / _LOCK_NAME)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path = str(folder / _JOURNAL_NAME)
        journal_lock = JournalFileOpenLock(path)  # Symbolic links need rights on some systems.
        with self._lock:
            _drop_torn_line(Path(path), journal_lock)
            self.study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(path, lock_obj=journal_lock)),
                study_name=_STUDY_NAME,
                load_if_exists=True,
                direction="maximize",
                pruner=_make_pruner(sweep.settings),
            )
            self._check_description(dict(description))

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, in the order of their numbers."""
        return self.study.get_trials(deepcopy=False)

    @property
    def ranked(self) -> list[FrozenTrial]:
        """The complete trials, the highest BLEU-4 first; in four digits, as checkpoints are."""
        complete = [each for each in self.trials if each.state == TrialState.COMPLETE]
        return sorted(complete, key=lambda trial: -round(trial.value or 0.0, 4))

    @property
    def best(self) -> FrozenTrial | None:
        """The complete trial of the highest BLEU-4, the first of equal ones; None without any."""
        return next(iter(self.ranked), None)

    def trial_folder(self, number: int) -> Path:
        """Returns the folder of a trial."""
        return self.folder / TRIALS_NAME / f"{number:04}"

    def claim(self) -> ClaimedTrial | None:
        """Returns the next trial of this process: one that no process runs any more, or a new one.

        Returns:
            The trial; None where the study has all its trials, although others may still run.
        """
        with self._lock:
            trials = self.trials
            for begun in trials:
                if begun.state == TrialState.RUNNING and (lock := self._try_lock(begun.number)):
                    self._seed(begun.number)
                    return self._claimed(Trial(self.study, begun._trial_id), lock, resumed=True)
            if len(trials) >= self._sweep.settings.trials:
                return None
            trial = self.study.ask()
            lock = self._try_lock(trial.number)
            assert lock is not None, f"trial {trial.number} is new"
            self._seed(trial.number)
            return self._claimed(trial, lock, resumed=False)

    def _claimed(self, trial: Trial, lock: FileLock, *, resumed: bool) -> ClaimedTrial:
        # What the trial already has is returned, not drawn again.
        values = {
            key: _suggest(trial, key, searched) for key, searched in self._sweep.parameters.items()
        }
        return ClaimedTrial(trial, values, self.trial_folder(trial.number), lock, resumed)

    def _try_lock(self, number: int) -> FileLock | None:
        folder = self.trial_folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        with suppress(Timeout):
            lock.acquire(timeout=0)
            return lock
        return None

    def _seed(self, number: int) -> None:
        """Makes a trial's draw depend on the seed, its number and the results before it alone.

        So an interrupted sweep draws what an uninterrupted one would, and two processes never
        draw the same.
        """
        settings = self._sweep.settings
        self.study.sampler = TPESampler(
            seed=(settings.seed * 1_000_003 + number) % 2**32,
            n_startup_trials=settings.startup_trials,
            constant_liar=True,  # Values that others try now are not tried at the same time.
        )

    def _check_description(self, description: dict[str, Any]) -> None:
        existing = self.study.user_attrs.get(_DESCRIPTION)
        if existing is None:
            self.study.set_user_attr(_DESCRIPTION, description)
            return
        changed = [text for _, text in differences(existing, description)]
        if changed:
            raise UsageError(
                f"{self.folder}: holds a sweep with other settings: {'; '.join(changed)}; "
                "continue it with the same, or give another --output_dir"
            )


def _suggest(trial: Trial, key: str, searched: Range | list[Choice]) -> Any:
    if isinstance(searched, list):
        return trial.suggest_categorical(key, searched)
    low, high, step, log = searched.low, searched.high, searched.step, searched.log
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(key, low, high, step=int(step or 1), log=log)
    return trial.suggest_float(key, low, high, step=step, log=log)


def _make_pruner(settings: SweepSettings) -> BasePruner:
    warmup = settings.pruner_warmup_validations
    if settings.pruner == "median":
        return MedianPruner(settings.pruner_startup_trials, n_warmup_steps=warmup)
    if settings.pruner == "asha":
        return SuccessiveHalvingPruner(min_resource=max(1, warmup), reduction_factor=2)
    return NopPruner()


def _drop_torn_line(path: Path, lock: JournalFileOpenLock) -> None:
    """Removes a last line that a killed process did not finish: the next one would join it."""
    if not path.is_file():
        return
    lock.acquire()
    try:
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            with path.open("r+b") as journal:
                journal.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()
