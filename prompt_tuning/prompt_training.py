"""Trains a soft prompt: python prompt_tuning/prompt_training.py --train."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# Python puts this script's folder on the path, not the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from igrag.cli import run, setup_logging
from igrag.config import Config, find_model, quote
from prompt_tuning.settings import DEFAULT_SETTINGS, PromptTrainingSettings, TrainingSettings

if TYPE_CHECKING:  # torch and transformers take seconds to load: --help must not wait for them.
    from prompt_tuning.checkpoints import Progress
    from prompt_tuning.global_batches import Window
    from prompt_tuning.reporting import StepReporter
    from prompt_tuning.setup import Training

_EXIT_USAGE = 2


def main(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Does what the arguments ask for and returns the exit code."""
    if not (arguments.train or arguments.validate_config):
        parser.print_help(sys.stderr)
        return _EXIT_USAGE
    settings = PromptTrainingSettings.load(arguments.config, _overrides(arguments))
    config = Config.load(settings.model.main_config, _main_overrides(arguments))
    find_model(config.models, settings.model.name)
    if arguments.validate_config:
        print(f"{arguments.config}: valid")
        return 0
    setup_logging(config.log_config.level, verbose=arguments.verbose, file=config.log_config.file)
    train(settings, config, arguments.resume_from_checkpoint)
    return 0


def train(settings: PromptTrainingSettings, config: Config, resume: str | None) -> None:
    """Prepares, trains and reports.

    Args:
        settings: What to train, and how.
        config: What captioning uses: the model and the prompt template.
        resume: "latest" or a checkpoint's folder; None starts a new run.
    """
    from igrag.devices import tune_allocator
    from igrag.training.checkpoints import has_stopped_improving
    from prompt_tuning import reporting
    from prompt_tuning.checkpoints import CheckpointFolder
    from prompt_tuning.setup import prepare
    from prompt_tuning.sitting import begin, restore

    tune_allocator()
    output, evaluation = settings.output, settings.evaluation
    folder = CheckpointFolder(output.output_dir, save_total_limit=evaluation.save_total_limit)
    checkpoint = folder.checkpoint_for(resume)
    training = prepare(settings, config, folder)
    reporting.announce(training)
    progress = begin(training) if checkpoint is None else restore(training, checkpoint)
    if not has_stopped_improving(training.record, evaluation.early_stopping_patience):
        epochs = settings.training.num_train_epochs
        with reporting.StepReporter(training, progress, epochs=epochs) as reporter:
            optimize(training, progress, settings, reporter)
    reporting.conclude(training)


def optimize(
    training: "Training",
    progress: "Progress",
    settings: PromptTrainingSettings,
    reporter: "StepReporter",
) -> None:
    """The loop: epochs, in them windows of micro-batches, and one step for each window.

    A step is what one big batch would give, the short last window of an epoch included.
    """
    from igrag.training.checkpoints import has_stopped_improving
    from prompt_tuning.sitting import validate_and_save

    options, evaluation = settings.training, settings.evaluation
    per_epoch = len(training.windows)
    total = per_epoch * options.num_train_epochs
    for epoch in range(progress.epoch, options.num_train_epochs):
        for window in training.windows.of_epoch(epoch, skip=progress.window):
            loss, norm = update(training, window, options, step=progress.step)
            progress.advance(per_epoch)
            reporter.report(loss, norm)
            training.scheduler.step()
            if progress.step % (evaluation.eval_steps or per_epoch) and progress.step < total:
                continue
            validate_and_save(training, progress)
            if has_stopped_improving(training.record, evaluation.early_stopping_patience):
                return


def update(
    training: "Training", window: "Window", options: TrainingSettings, *, step: int
) -> tuple[float, float]:
    """Makes the step number `step`; returns the window's loss and its gradient's norm."""
    from prompt_tuning.optimization import clip_gradient, seed_dropout, window_gradient

    accelerator, tuner = training.accelerator, training.tuner
    seed_dropout(tuner, options.seed, step, accelerator.process_index)
    loss = window_gradient(tuner, window, training.gradient, accelerator)
    norm = clip_gradient(tuner, options.max_grad_norm)
    training.optimizer.step()
    return loss, norm


def parse_arguments(
    words: Sequence[str] | None = None,
) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    """Reads the command line; the parser comes along to print its help."""
    parser = argparse.ArgumentParser(
        prog="prompt_training.py", description="Train a soft prompt.", allow_abbrev=False
    )
    add = parser.add_argument
    add("--train", action="store_true", help="train, and write checkpoints and best_model")
    add("--validate_config", action="store_true", help="check the configuration, and no more")
    add("--config", type=Path, default=DEFAULT_SETTINGS, metavar="FILE",
        help="default: prompt_tuning/config/prompt_tuning.yaml")  # fmt: skip
    add("--output_dir", type=Path, metavar="FOLDER", help="for checkpoints and all_results.json")
    add("--resume_from_checkpoint", metavar="latest|PATH",
        help="go on from a checkpoint of the output folder")  # fmt: skip
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="change a key of the config for this run; may be given again")  # fmt: skip
    add("--device", help="auto, cpu, cuda, cuda:N or mps")
    add("--dtype", help="of the frozen model: auto, float32, bfloat16 or float16")
    add("--seed", type=int, metavar="N", help="of the first prompt and the order of examples")
    add("--verbose", action="store_true", help="tell more on stderr")
    add("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args(words), parser


def _overrides(arguments: argparse.Namespace) -> list[str]:
    overrides = list(arguments.set)
    if arguments.output_dir is not None:
        overrides.append(f"output.output_dir={quote(str(arguments.output_dir))}")
    if arguments.seed is not None:
        overrides.append(f"training.seed={arguments.seed}")
    return overrides


def _main_overrides(arguments: argparse.Namespace) -> list[str]:
    options = {"device": arguments.device, "dtype": arguments.dtype}
    return [f"model_config.{key}={value}" for key, value in options.items() if value is not None]


if __name__ == "__main__":
    parsed, help_parser = parse_arguments()
    sys.exit(run(lambda: main(parsed, help_parser), debug=parsed.debug))
