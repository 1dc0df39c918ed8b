"""Trains a soft prompt: python prompt_tuning/prompt_training.py --train."""
# PYTHON_ARGCOMPLETE_OK: argcomplete looks for this before it runs a script

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # Run as a script: without an installation the clone is not on the path.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from igrag.cli import CommandParser, add_common_options, run, setup_logging
from igrag.config import Config, find_model, quote
from igrag.config.choices import DType, ReportTo, in_words, words
from igrag.devices import agree_on_dtypes
from igrag.errors import ConfigError
from igrag.output_lock import lock_folder
from igrag.processes import Ranks, joined_processes
from prompt_tuning.settings import DEFAULT_SETTINGS, PromptTrainingSettings

if TYPE_CHECKING:  # torch and transformers take seconds to load: --help must not wait for them.
    from accelerate import Accelerator

    from igrag.training.interruption import Interruption
    from prompt_tuning.checkpoints import CheckpointFolder, TrainingState
    from prompt_tuning.global_batches import GlobalBatches
    from prompt_tuning.training_log import TrainingLog
    from prompt_tuning.validation import Validation

_EXIT_USAGE = 2


def train(
    settings: PromptTrainingSettings,
    config: Config,
    *,
    resume: str | None = None,
    overwrite: bool = False,
) -> None:
    """Loads the frozen model and the data, trains the prompt, and reports.

    Args:
        settings: The training settings.
        config: What captioning uses: the model and the prompt template.
        resume: "latest" or a checkpoint's folder; None starts a new run.
        overwrite: Replace an earlier training in the output folder.
    """
    from igrag.devices import tune_allocator
    from igrag.training.checkpoints import has_stopped_improving
    from igrag.training.interruption import Interruption
    from prompt_tuning import run_record, setup, setup_examples
    from prompt_tuning.checkpoints import TrainingState
    from prompt_tuning.scheduled_validation import validate_untuned
    from prompt_tuning.training_log import TrainingLog

    tune_allocator()
    folder = setup.open_folder(settings)
    checkpoint = folder.checkpoint_for(resume, overwrite=overwrite)  # before anything is loaded
    accelerator = setup.start_accelerator(settings, config.models.device)
    language_model = setup.load_frozen_model(settings, config, accelerator)
    tokenizer = language_model.tokenizer
    train_set, val_set = setup_examples.load_examples(settings, tokenizer, accelerator)
    vectors = setup_examples.find_image_vectors(settings, config, train_set, val_set, accelerator)
    template = setup_examples.matching_template(
        settings, config.prompt_config, train_set, val_set, accelerator
    )
    tuner = setup.build_tuner(settings, config.prompt_config, language_model, template, vectors)
    settings = setup.fit_batch_size(
        settings, tuner, train_set, tokenizer, accelerator, checkpoint, vectors
    )
    sampler = setup_examples.build_sampler(
        settings, config, train_set, tokenizer, template, accelerator, vectors
    )
    batches = setup_examples.build_batches(
        settings, train_set, tokenizer, accelerator, vectors, sampler
    )
    optimizer, scheduler = setup.build_optimizer(settings, tuner, steps_per_epoch=len(batches))
    validation = setup.build_validation(settings, val_set, language_model, accelerator, vectors)
    setup.run_self_check(tuner, optimizer, batches, train_set, tokenizer, accelerator)
    setup.compile_model(settings, tuner, batches, accelerator)
    record = run_record.new_record(
        settings, language_model, tuner, train_set, val_set, accelerator, vectors
    )
    run_record.print_run(settings, record, batches, accelerator)

    state = TrainingState(tuner, optimizer, scheduler)
    if accelerator.is_main_process:
        folder.clear() if overwrite else folder.remove_leftovers()
    if checkpoint is not None:
        record = run_record.resume_record(checkpoint, record, folder)
        state.load(checkpoint)
    log = TrainingLog(
        record,
        state.progress,
        accelerator,
        steps_per_epoch=len(batches),
        total_steps=settings.training.total_steps(len(batches)),
        samples=setup_examples.reported_samples(settings, val_set),
    )
    if checkpoint is None:
        validate_untuned(validation, state, folder, log)
    elif accelerator.is_main_process:
        folder.save_results(record)
    # A run that was stopped early stays stopped when it is resumed.
    if not has_stopped_improving(record, settings.evaluation.early_stopping_patience):
        with log, Interruption(lambda: log.save_interruption(state, folder)) as interruption:
            run_epochs(state, batches, validation, folder, log, accelerator, settings, interruption)
    log.finish(folder)


def run_epochs(
    state: "TrainingState",
    batches: "GlobalBatches",
    validation: "Validation",
    folder: "CheckpointFolder",
    log: "TrainingLog",
    accelerator: "Accelerator",
    settings: PromptTrainingSettings,
    interruption: "Interruption",
) -> None:
    """The training loop: epochs, global batches (one optimizer step each), micro-batches.

    A step equals the step of one big batch up to rounding, however its examples are cut into
    micro-batches and shared by processes, the short last global batch of an epoch included
    (without `model_dropout`, which each process draws for itself).
    """
    import torch

    from igrag.captioning.language_model import embedding_weight
    from igrag.memory import explain_out_of_memory
    from igrag.training.batch_size import KEY
    from igrag.training.divergence import DivergenceGuard
    from igrag.training.shared_steps import any_process
    from prompt_tuning.optimization import GradientSum, seed_dropout, summed_loss
    from prompt_tuning.scheduled_validation import ScheduledValidation

    tuner, optimizer, scheduler = state.tuner, state.optimizer, state.scheduler
    progress, options = state.progress, settings.training
    parameters = tuner.trainable_parameters()  # the prompt alone: the model is frozen
    gradient_sum = GradientSum(parameters, accelerator)
    guard = DivergenceGuard(parameters, embedding_weight(tuner.model), log.record)
    scheduled = ScheduledValidation(
        validation, state, folder, log, guard, accelerator, interruption, settings,
        steps_per_epoch=len(batches),
    )  # fmt: skip
    total_steps, max_norm = options.total_steps(len(batches)), options.max_grad_norm or math.inf

    if scheduled.was_interrupted() and not scheduled.validate():
        return
    for epoch in range(progress.epoch, options.num_train_epochs):
        for global_batch in batches.of_epoch(epoch, start=progress.batch):
            if progress.step == total_steps:  # max_steps, before the end of the epochs
                return
            # A function of seed, step and process: a resumed run draws the same dropout.
            seed_dropout(tuner, options.seed, progress.step, accelerator.process_index)
            gradient_sum.zero()
            for batch in global_batch.micro_batches:
                with explain_out_of_memory(KEY, batches.micro_batch_size):
                    with accelerator.autocast():
                        # The sum over target tokens, divided by those of the global batch. The
                        # model's own loss is a mean over the micro-batch: averaging means would
                        # weigh a token of a micro-batch with few tokens more.
                        loss = summed_loss(tuner, batch) / global_batch.target_tokens
                    # Not loss.backward(), which adds up in the parameters' float32, where the
                    # result depends on the order; these are summed in float64, then rounded once.
                    gradient_sum.add(loss, torch.autograd.grad(loss, parameters))
            # Summed over the processes; sets every .grad, so that there is no zero_grad().
            global_loss = gradient_sum.all_reduce()
            guard.check_loss(progress.step + 1, global_loss)
            grad_norm = float(torch.nn.utils.clip_grad_norm_(parameters, max_norm))
            guard.check_gradient(progress.step + 1, grad_norm)
            optimizer.step()
            progress.advance(len(batches))
            guard.check_values(progress.step)
            log.step(
                global_loss,
                learning_rate=float(optimizer.param_groups[0]["lr"]),
                grad_norm=grad_norm,
            )
            scheduler.step()

            if scheduled.is_due() and not scheduled.validate():
                return
            interruption.check(partial(any_process, accelerator))


def main(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Runs the command and returns its exit code."""
    if not (arguments.train or arguments.validate_config):
        parser.print_help(sys.stderr)
        return _EXIT_USAGE
    settings = PromptTrainingSettings.load(arguments.config, _overrides(arguments))
    config = Config.load(settings.model.main_config, _main_overrides(arguments))
    find_model(config.models, settings.model.name, option="model.name")
    if arguments.validate_config:
        print(f"{arguments.config}: valid")
        return 0
    if not settings.prompt_tuning.enabled:
        raise ConfigError(
            f"{arguments.config}: prompt_tuning.enabled: found false, so no prompt is trained; "
            "set it to true, or give --set prompt_tuning.enabled=true"
        )
    setup_logging(config.log_config.level, verbose=arguments.verbose, file=config.log_config.file)
    with joined_processes() as processes, lock_training(settings, processes.ranks):
        agree_on_dtypes(processes)
        train(
            settings,
            config,
            resume=arguments.resume_from_checkpoint,
            overwrite=arguments.overwrite_output_dir,
        )
    return 0


@contextmanager
def lock_training(settings: PromptTrainingSettings, ranks: Ranks) -> Iterator[None]:
    """Holds the output folder; of several processes of one training the first one holds it."""
    if not ranks.is_first:
        yield
        return
    with lock_folder(settings.output_dir, option="--output_dir"):
        yield


def parse_arguments(
    typed: Sequence[str] | None = None,
) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    """Parses the command line; the parser is returned to print its help."""
    parser = CommandParser("Trains a soft prompt for a frozen language model.")
    add = parser.add_argument
    add("--train", action="store_true", help="train, and write checkpoints and best_model")
    add("--validate_config", action="store_true", help="check the configuration and exit")
    add("--config", type=Path, default=DEFAULT_SETTINGS, metavar="FILE",
        help="default: prompt_tuning/config/prompt_tuning.yaml")  # fmt: skip
    add("--output_dir", type=Path, metavar="FOLDER", help="for checkpoints and all_results.json")
    add("--overwrite_output_dir", action="store_true",
        help="replace an earlier training in the output folder")  # fmt: skip
    add("--resume_from_checkpoint", metavar="latest|PATH",
        help="resume from a checkpoint of the output folder")  # fmt: skip
    add("--report_to", choices=words(ReportTo), metavar="NAME",
        help=f"where losses are logged: {in_words(ReportTo)}")  # fmt: skip
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="override a key of the configuration for this run; may be repeated")  # fmt: skip
    add("--device", help="auto, cpu, cuda, cuda:N or mps")
    add("--dtype", help=f"of the frozen model: {in_words(DType)}")
    add("--seed", type=int, metavar="N", help="of the initial prompt and the order of examples")
    add_common_options(parser)
    return parser.parse_args(typed), parser


def command(typed: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    arguments, parser = parse_arguments(typed)
    return run(lambda: main(arguments, parser), debug=arguments.debug)


def _overrides(arguments: argparse.Namespace) -> list[str]:
    overrides = list(arguments.set)
    if arguments.output_dir is not None:
        overrides.append(f"output.output_dir={quote(str(arguments.output_dir))}")
    if arguments.report_to is not None:
        overrides.append(f"output.report_to={arguments.report_to}")
    if arguments.seed is not None:
        overrides.append(f"training.seed={arguments.seed}")
    keys = {override.partition("=")[0].strip() for override in overrides}
    if "output.output_dir" in keys and "prompt_tuning.weights_path" not in keys:
        # The configuration's best prompt belongs to its own output folder.
        overrides.append("prompt_tuning.weights_path=null")
    return overrides


def _main_overrides(arguments: argparse.Namespace) -> list[str]:
    options = {"device": arguments.device, "dtype": arguments.dtype}
    return [f"model_config.{key}={value}" for key, value in options.items() if value is not None]


if __name__ == "__main__":
    sys.exit(command())
