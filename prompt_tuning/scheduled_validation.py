"""When a training validates, what it saves then, and whether it goes on."""

from accelerate import Accelerator

from igrag.training.checkpoints import has_stopped_improving, is_validated
from igrag.training.divergence import DivergenceGuard
from igrag.training.interruption import Interruption
from prompt_tuning.checkpoints import CheckpointFolder, TrainingState
from prompt_tuning.settings import PromptTrainingSettings
from prompt_tuning.training_log import TrainingLog
from prompt_tuning.validation import Validation


class ScheduledValidation:
    """Validates every `eval_steps` steps and after the last one; each time saves a checkpoint.

    Args:
        validation: Scores the prompt.
        state: What trains, and how far it has come.
        folder: For checkpoints; the main process writes them.
        log: Records and reports the results.
        guard: Ends a training whose validation loss diverged, before it is saved.
        accelerator: Connects the processes.
        interruption: Ends a validation at once.
        settings: eval_steps, by default an epoch, and early_stopping_patience.
        steps_per_epoch: Optimizer steps in an epoch.
    """

    def __init__(
        self,
        validation: Validation,
        state: TrainingState,
        folder: CheckpointFolder,
        log: TrainingLog,
        guard: DivergenceGuard,
        accelerator: Accelerator,
        interruption: Interruption,
        settings: PromptTrainingSettings,
        *,
        steps_per_epoch: int,
    ) -> None:
        self._validation, self._guard, self._interruption = validation, guard, interruption
        self._state, self._folder, self._log = state, folder, log
        self._accelerator = accelerator
        self._every = settings.evaluation.eval_steps or steps_per_epoch
        self._last = settings.training.total_steps(steps_per_epoch)
        self._patience = settings.evaluation.early_stopping_patience

    def is_due(self) -> bool:
        """Returns whether the steps so far end with a validation."""
        step = self._state.progress.step
        return step % self._every == 0 or step == self._last

    def was_interrupted(self) -> bool:
        """Returns whether the run that resumes was interrupted while it validated."""
        step = self._state.progress.step
        return bool(step) and self.is_due() and not is_validated(self._log.record, step)

    def validate(self) -> bool:
        """Validates and saves a checkpoint; returns whether to go on."""
        step, record = self._state.progress.step, self._log.record
        # Interrupted here, a run that resumes validates first.
        with self._interruption.at_once(alone=self._accelerator.num_processes == 1):
            result = self._validation.score(self._state.tuner, title=f"step {step}")
        self._guard.check_loss(step, result.loss)  # before it can be the best so far
        self._log.validation(result)
        if self._accelerator.is_main_process:
            captions = self._validation.coco_results(result.captions)
            self._folder.save(self._state, record, captions)
        self._accelerator.wait_for_everyone()  # No process goes on before the checkpoint exists.
        return not has_stopped_improving(record, self._patience)


def validate_untuned(
    validation: Validation, state: TrainingState, folder: CheckpointFolder, log: TrainingLog
) -> None:
    """Scores the model without the prompt: every checkpoint is compared with it."""
    with state.tuner.disabled():
        untuned = validation.score(state.tuner, title="untuned")
    log.validation(untuned)
    if log.is_main_process:
        folder.save_untuned(log.record, validation.coco_results(untuned.captions))
