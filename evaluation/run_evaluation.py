"""Compares caption methods: python evaluation/run_evaluation.py --split test."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # Run as a script: without an installation the clone is not on the path.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evaluation.options import EvaluationOptions, check_options, parse_arguments
from igrag.cli import config_overrides, quiet_start, run_command, setup_logging
from igrag.config import Config, ModelEntry, find_model
from igrag.errors import UsageError
from igrag.files import check_output_folder

if TYPE_CHECKING:  # torch and transformers take seconds to import: --help must not wait for them.
    from evaluation.dataset import EvaluationDataset
    from evaluation.results import EvaluationResult


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Reads the images, captions and scores them, saves the comparison, and prints the table."""
    options = check_options(arguments)
    config = Config.load(arguments.config, config_overrides(arguments))
    log = config.log_config
    setup_logging(log.level, verbose=arguments.verbose, file=log.file)
    check_output_folder(options.output_dir, option="--output_dir")
    model = find_model(config.models, arguments.model)
    if options.skip_metrics:
        _check_metrics(options)
    dataset = read_dataset(options)
    if options.results:
        result = evaluate_files(options, dataset)
    else:
        result = evaluate_methods(options, dataset, config, model)
    _report(result, options)
    return 0


def read_dataset(options: EvaluationOptions) -> "EvaluationDataset":
    """Reads the images to score."""
    from evaluation.dataset import check_images, read_coco, read_jsonl

    if options.data:
        return read_jsonl(options.data, image_dir=options.images, limit=options.limit)
    assert options.captions  # One of the two is always given.
    dataset = read_coco(options.captions, image_dir=options.images, limit=options.limit)
    if options.images:
        check_images(dataset)
    return dataset


def evaluate_files(options: EvaluationOptions, dataset: "EvaluationDataset") -> "EvaluationResult":
    """Scores captions from files."""
    from evaluation.coco_results import files_by_method, match_results, select_results
    from evaluation.overwrite_guard import check_not_overwritten, evaluation_identity
    from evaluation.results import EvaluationResult
    from evaluation.save_results import file_names
    from evaluation.scoring import score_methods

    results = select_results(options.results, options.methods)
    captions = {name: match_results(name, found, dataset) for name, found in results.items()}
    files = files_by_method(options.results)
    identity = evaluation_identity(dataset, files={name: [files[name]] for name in captions})
    if not options.overwrite:
        check_not_overwritten(options.output_dir, identity, names=file_names(()))
    baseline = "base" if "base" in captions else next(iter(captions))
    scores = score_methods(
        captions,
        dataset.references,
        baseline=baseline,
        seed=options.seed,
        skip=options.skip_metrics,
    )
    return EvaluationResult(dataset, scores, baseline, options.seed, identity)


def evaluate_methods(
    options: EvaluationOptions, dataset: "EvaluationDataset", config: Config, model: ModelEntry
) -> "EvaluationResult":
    """Captions the images by every method or checkpoint, and scores the captions."""
    from evaluation.methods import find_checkpoints, find_methods, selected_by_training
    from evaluation.overwrite_guard import check_not_overwritten
    from evaluation.results import EvaluationResult, GenerationRecord
    from evaluation.save_results import file_names
    from evaluation.scoring import score_methods
    from evaluation.selection import select_checkpoint
    from evaluation.setup import caption_dataset, config_identity, trained_paths

    if model.notice:
        print(f"note: {model.notice}", file=sys.stderr)
    if options.checkpoints:
        methods = find_checkpoints(options.checkpoints, trained_paths(config))
    else:
        methods = find_methods(trained_paths(config), options.methods)
    names = [method.name for method in methods]
    identity = config_identity(config, model.path, methods, dataset)
    if not options.overwrite:
        check_not_overwritten(options.output_dir, identity, names=file_names(names))
    generated = caption_dataset(config, model.path, methods, dataset)
    scores = score_methods(
        {name: found.captions for name, found in generated.items()},
        dataset.references,
        baseline=names[0],
        seed=options.seed,
        skip=options.skip_metrics,
    )
    generation = GenerationRecord(
        model=model.path,
        facts={method.name: method.facts for method in methods},
        seconds={name: found.seconds for name, found in generated.items()},
    )
    selection = None
    if options.checkpoints:
        trained = selected_by_training(methods)
        selection = select_checkpoint(scores, selected_by_training=trained, seed=options.seed)
    return EvaluationResult(
        dataset, scores, names[0], options.seed, identity, generation, selection
    )


def _check_metrics(options: EvaluationOptions) -> None:
    from evaluation.scoring import PRIMARY_METRIC
    from igrag.metrics import registered_metrics

    keys = [metric.key for metric in registered_metrics() if metric.key != PRIMARY_METRIC]
    for key in sorted(options.skip_metrics.difference(keys)):
        raise UsageError(f"--skip_metrics {key}: expected some of {','.join(keys)}")


def _report(result: "EvaluationResult", options: EvaluationOptions) -> None:
    """Saves all files, and prints the table and their paths."""
    from evaluation.save_results import save_results, table_text

    files = save_results(result, options.output_dir, report_images=options.report_images)
    print(table_text(result))
    for path in files:
        print(path)


if __name__ == "__main__":
    quiet_start()
    sys.exit(command())
