"""Builds training data and trains a LoRA adapter: python lora_training/train_lora.py --all."""
# PYTHON_ARGCOMPLETE_OK: argcomplete looks for this before it runs a script

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # Run as a script: without an installation the clone is not on the path.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from igrag.cli import CommandParser, quiet_start, run_command

if __name__ == "__main__":
    quiet_start()  # before the imports that take a while

from igrag.config import Config, portable
from igrag.config.choices import ReportTo, in_words
from igrag.devices import agree_on_dtypes
from igrag.errors import UsageError
from igrag.files import ADAPTER_WEIGHTS
from igrag.output_lock import lock_folder
from igrag.processes import Processes, joined_processes
from igrag.training.checkpoints import CURVES_NAME, RESULTS_NAME
from lora_training.data_builder import (
    add_data_options,
    audit,
    build_data,
    check_audit,
    given_options,
    load_settings,
    overwrites_data,
)
from lora_training.settings import LoraSettings

if TYPE_CHECKING:  # torch and transformers take seconds to load
    from igrag.training.record import TrainingRecord
    from lora_training.checkpoints import AdapterFolder

_ACTIONS = {"build_data", "train", "all"}
# Options that only some actions use: with others they would have no effect.
_BUILD_OPTIONS = {"sample_count", "train_ratio", "force_rebuild"}
_TRAIN_OPTIONS = {"output_dir", "resume_from_checkpoint", "report_to"}
_EXIT_USAGE = 2


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Runs the actions that were given and returns the exit code."""
    with joined_processes() as processes:
        check_options(arguments)
        if arguments.audit:
            return audit(arguments.audit)
        if not (arguments.build_data or arguments.train or arguments.all):
            _build_parser().print_help(sys.stderr)
            return _EXIT_USAGE
        run_actions(arguments, processes)
    return 0


def run_actions(arguments: argparse.Namespace, processes: Processes) -> None:
    """Builds, trains, or both; all of the run's processes take part."""
    settings, config, model_path = load_settings(arguments)
    agree_on_dtypes(processes)
    builds, trains = arguments.build_data or arguments.all, arguments.train or arguments.all
    build = partial(
        build_data, settings.data, config, model_path, processes,
        overwrite=overwrites_data(arguments),
    )  # fmt: skip
    if not trains:
        build()
        return
    from lora_training.checkpoints import AdapterFolder

    options = settings.training
    folder = AdapterFolder(options.output_dir, save_total_limit=options.save_total_limit)

    def find_checkpoint() -> str | None:
        found = folder.checkpoint_for(
            arguments.resume_from_checkpoint, overwrite=arguments.overwrite_output_dir
        )
        return str(found) if found else None

    with ExitStack() as held:
        if processes.ranks.is_first:  # before building takes its time
            held.enter_context(lock_folder(options.output_dir, option="--output_dir"))
        found = processes.from_first("checkpoint", find_checkpoint)
        if builds:
            build()
        train(
            settings,
            config,
            model_path,
            files=settings.data.files(built=builds),
            folder=folder,
            checkpoint=Path(found) if found else None,
            is_first=processes.ranks.is_first,
        )


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    return _build_parser().parse_args(words)


def _build_parser() -> argparse.ArgumentParser:
    parser = CommandParser("Build training data and train a LoRA adapter.")
    add = parser.add_argument
    add("--build_data", action="store_true", help="build train.jsonl and val.jsonl")
    add("--train", action="store_true",
        help="train on them, or on the demo's where none were built")  # fmt: skip
    add("--all", action="store_true", help="build, then train on what was built")
    add("--output_dir", type=Path, metavar="FOLDER",
        help="output folder of checkpoints and all_results.json")  # fmt: skip
    add("--overwrite_output_dir", action="store_true",
        help="replace data of other settings, and an earlier run in the output folder")  # fmt: skip
    add("--resume_from_checkpoint", metavar="latest|PATH",
        help="resume from a checkpoint of the output folder")  # fmt: skip
    add("--report_to", metavar="NAME", help=f"where losses are logged: {in_words(ReportTo)}")
    add_data_options(parser)
    return parser


def check_options(arguments: argparse.Namespace) -> None:
    """Checks that every option that was given has an effect.

    Raises:
        UsageError: One has none.
    """
    check_audit(arguments)
    given = given_options(arguments)
    for options, actions in (
        (_BUILD_OPTIONS, {"build_data", "all"}),
        (_TRAIN_OPTIONS, {"train", "all"}),
    ):
        unused = sorted(given & options)
        if unused and given & _ACTIONS and not given & actions:
            names = " or ".join(f"--{action}" for action in sorted(actions, reverse=True))
            raise UsageError(f"--{unused[0]}: is only for {names}; leave it out")


def train(
    settings: LoraSettings,
    config: Config,
    model_path: str,
    *,
    files: tuple[Path, Path],
    folder: AdapterFolder,
    checkpoint: Path | None,
    is_first: bool = True,
) -> None:
    """Loads model and data, trains the adapter, and reports.

    Args:
        settings: The adapter and the training.
        config: The configuration of captioning: device, dtype, template.
        model_path: Folder or hub id of the base model.
        files: JSONL files of the training and of the validation examples.
        folder: The output folder.
        checkpoint: Its checkpoint to resume from; None starts a new run, which replaces an earlier
            one in the folder.
        is_first: Whether this is the first of the training's processes, which prints and writes.

    Raises:
        IgragError: Something is missing, damaged, or would train nothing.
    """
    from igrag.devices import tune_allocator
    from igrag.memory import explain_out_of_memory
    from igrag.training.batch_size import KEY
    from igrag.training.checkpoints import has_stopped_improving
    from lora_training import setup
    from lora_training.callbacks import RecordCallback, StoppedImproving
    from lora_training.trainer import AdapterTrainer

    tune_allocator()
    if checkpoint is not None:
        settings = setup.begun_settings(settings, checkpoint, notes=is_first)
    arguments = setup.trainer_arguments(
        settings.training, setup.find_device(config.models.device), validate_first=not checkpoint
    )
    language = setup.load_base_model(config.models, model_path, arguments.device)
    with arguments.main_process_first(local=True):  # It fills the cache of its machine.
        train_data, val_data = setup.load_examples(files, language.tokenizer, settings)
    model = setup.adapt(language, settings)
    settings = setup.fit_batch_size(
        settings, arguments, model, train_data, language.tokenizer, checkpoint
    )
    setup.check_examples(model, language.tokenizer, train_data, settings.training)
    record = setup.new_record(settings, language, model, arguments, files, train_data, val_data)
    if is_first:
        print_run(record, files, model.device)
        setup.note_other_prompts(train_data, files[0], config.prompt_config)
    base = setup.identify(language)
    if checkpoint is not None:
        base.check(checkpoint)
        record = setup.resume_record(record, checkpoint)
    if is_first:
        folder.rewind_to(checkpoint, record) if checkpoint else folder.clear()
    patience = settings.training.early_stopping_patience
    if not has_stopped_improving(record, patience):
        with RecordCallback(record, folder, patience=patience, writes=is_first) as callback:
            trainer = AdapterTrainer(
                model,
                arguments,
                train=train_data,
                val=val_data,
                tokenizer=language.tokenizer,
                base=base,
                callback=callback,
                model_dropout=settings.training.model_dropout,
                samples=setup.reported_samples(settings, val_data),
                more_callbacks=setup.tracker_callbacks(settings.training),
            )
            size = arguments.per_device_train_batch_size
            with suppress(StoppedImproving), explain_out_of_memory(KEY, size):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            trainer.report_files([folder.path / record.best_folder, folder.path / RESULTS_NAME])
    if is_first:
        print_results(record, folder)


def print_run(record: TrainingRecord, files: tuple[Path, Path], device: object) -> None:
    """Prints what will be trained, and on what."""
    from igrag.training.summary import run_header

    processes = record.config.get("processes", 1)
    where = f"{device}, {processes} processes" if processes > 1 else device
    print(f"{run_header(record, *map(portable, files))}, on {where}", flush=True)


def print_results(record: TrainingRecord, folder: AdapterFolder) -> None:
    """Prints the table of validations and the paths of the results."""
    from igrag.training.summary import run_footer

    best = folder.path / record.best_folder / ADAPTER_WEIGHTS
    print(run_footer(record, best, folder.path / RESULTS_NAME, folder.path / CURVES_NAME))


if __name__ == "__main__":
    sys.exit(command())
