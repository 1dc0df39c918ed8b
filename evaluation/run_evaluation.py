"""Compares caption methods: python evaluation/run_evaluation.py --split test."""
# PYTHON_ARGCOMPLETE_OK: argcomplete looks for this before it runs a script

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # Run as a script: without an installation the clone is not on the path.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evaluation.options import EvaluationOptions, check_options, parse_arguments
from igrag.cli import config_overrides, quiet_start, run_command, setup_logging
from igrag.config import Config, ModelEntry, find_model
from igrag.devices import agree_on_dtypes
from igrag.errors import UsageError
from igrag.output_lock import lock_folder
from igrag.processes import Processes, joined_processes

if TYPE_CHECKING:  # torch and transformers take seconds to import: --help must not wait for them.
    from evaluation.dataset import EvaluationDataset
    from evaluation.diversity import MeasuredDiversity
    from evaluation.instances import KnownObjects
    from evaluation.methods import Method
    from evaluation.results import EvaluationResult
    from evaluation.retrieval_quality import RetrievalQuality
    from evaluation.rows import Rows
    from evaluation.scoring import MethodScores
    from evaluation.selection import CheckpointSelection


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Evaluates into the output folder, which no other run may write meanwhile.

    Of several processes the first one writes and prints; all of them caption.
    """
    with joined_processes() as processes:
        options = check_options(arguments)
        config = Config.load(arguments.config, config_overrides(arguments))
        log = config.log_config
        setup_logging(log.level, verbose=arguments.verbose, file=log.file)
        agree_on_dtypes(processes)
        is_first = processes.ranks.is_first
        lock = lock_folder(options.output_dir, option="--output_dir")
        with lock if is_first else nullcontext():
            processes.from_first("output is locked", lambda: True)
            model = find_model(config.models, arguments.model)
            if options.skip_metrics:
                _check_metrics(options)
            evaluate(options, config, model, processes)
    return 0


def evaluate(
    options: EvaluationOptions, config: Config, model: ModelEntry, processes: Processes
) -> None:
    """Captions and scores the images, saves the comparison, and prints the table."""
    from evaluation.instances import find_objects

    is_first = processes.ranks.is_first
    if options.results and not is_first:  # The first process scores alone.
        return
    dataset = read_dataset(options)
    objects = find_objects(dataset, options.instances)
    result: EvaluationResult | None
    if options.results:
        result = evaluate_files(options, dataset, objects, config)
    else:
        result = evaluate_methods(options, dataset, objects, config, model, processes)
    if result is not None:
        _report(result, options)


def read_dataset(options: EvaluationOptions) -> "EvaluationDataset":
    """Reads the images to score."""
    from evaluation.dataset import check_images, read_coco, read_jsonl

    if options.data:
        return read_jsonl(options.data, image_dir=options.images, limit=options.limit)
    assert options.captions  # One of the two is always given.
    dataset = read_coco(
        options.captions,
        image_dir=options.images,
        limit=options.limit,
        split=options.caption_split,
        keep_rejected=options.keep_rejected,
    )
    if options.images:
        check_images(dataset)
    return dataset


def evaluate_files(
    options: EvaluationOptions,
    dataset: "EvaluationDataset",
    objects: "KnownObjects",
    config: Config,
) -> "EvaluationResult":
    """Scores captions from files."""
    from evaluation.coco_results import files_by_method, match_results, select_results
    from evaluation.language import find_tokenizer
    from evaluation.overwrite_guard import check_not_overwritten, evaluation_identity
    from evaluation.results import EvaluationResult
    from evaluation.rows import in_order, rows_of_files
    from evaluation.save_results import file_names
    from evaluation.significance import compared_with

    results = select_results(options.results, options.methods)
    captions = {name: match_results(name, found, dataset) for name, found in results.items()}
    rows = rows_of_files(dataset, captions, wanted=options.methods)
    by_method = files_by_method(options.results)
    files = {name: [by_method[name]] for name in captions} | {name: [] for name in rows.names}
    identity = evaluation_identity(dataset, files=files)
    if not options.overwrite:
        check_not_overwritten(options.output_dir, identity, names=file_names(()))
    baseline = "base" if "base" in captions else next(iter((*captions, *rows.names)))
    captions = {name: captions[name] for name in in_order(captions)}
    over = compared_with([*captions], options.against)
    tokenizer = find_tokenizer(options, dataset)
    scores = _score(
        options, dataset, objects, captions, rows, baseline, over, config, tokenizer=tokenizer
    )
    return EvaluationResult(
        dataset, scores, baseline, options.seed, identity,
        rows_left_out=rows.left_out,
        retrieval=_score_groups(options, dataset, objects, scores, config),
        diversity=_measure_diversity(config, dataset, scores),
        tokenizer=tokenizer,
    )  # fmt: skip


def evaluate_methods(
    options: EvaluationOptions,
    dataset: "EvaluationDataset",
    objects: "KnownObjects",
    config: Config,
    model: ModelEntry,
    processes: Processes,
) -> "EvaluationResult | None":
    """Captions the images by every method or checkpoint, and scores the captions.

    Returns:
        The evaluation, in the first process; None in the others.
    """
    from evaluation.human import HUMAN
    from evaluation.language import find_tokenizer
    from evaluation.overwrite_guard import check_not_overwritten
    from evaluation.results import EvaluationResult, GenerationRecord
    from evaluation.rows import in_order
    from evaluation.save_results import file_names
    from evaluation.setup import caption_dataset, config_identity
    from evaluation.significance import compared_with
    from igrag.from_config import for_process

    if model.notice and processes.ranks.is_first:
        print(f"note: {model.notice}", file=sys.stderr)
    methods = _find_methods(options, config)
    rows = _find_rows(options, dataset, config)
    names = in_order([*(method.name for method in methods), *rows.names])
    over = compared_with([name for name in names if name != HUMAN], options.against)
    identity = config_identity(config, model.path, methods, dataset, rows)
    if not options.overwrite:
        check_not_overwritten(options.output_dir, identity, names=file_names(names))
    captioned = caption_dataset(
        for_process(config, processes.ranks),
        model.path,
        methods,
        dataset,
        rows,
        processes,
        identity=identity,
        output=options.output_dir,
        seed=options.seed,
    )
    if not processes.ranks.is_first:
        return None
    captions = {name: captioned.captions[name] for name in names if name in captioned.captions}
    baseline = methods[0].name if methods else names[0]
    tokenizer = find_tokenizer(options, dataset)
    scores = _score(
        options, captioned.dataset, objects, captions, rows, baseline, over, config,
        tokenizer=tokenizer,
    )  # fmt: skip
    generation = GenerationRecord(
        model=model.path,
        facts={method.name: method.facts for method in methods},
        seconds=captioned.seconds,
        choice=captioned.choice,
    )
    return EvaluationResult(
        captioned.dataset, scores, baseline, options.seed, identity, generation,
        selection=_select_checkpoint(options, methods, scores) if options.checkpoints else None,
        rows_left_out=rows.left_out,
        # Of checkpoints only their order is of interest.
        retrieval=None if options.checkpoints
        else _score_groups(options, captioned.dataset, objects, scores, config),
        diversity=_measure_diversity(config, dataset, scores),
        tokenizer=tokenizer,
    )  # fmt: skip


def _find_methods(options: EvaluationOptions, config: Config) -> "list[Method]":
    """Finds the methods, or the checkpoints, that generate captions."""
    from evaluation.controls import add_controls
    from evaluation.methods import find_checkpoints, find_ensemble, find_methods
    from evaluation.rows import check_names
    from evaluation.setup import check_not_sampled, trained_paths

    paths = trained_paths(config)
    check_names(options.methods, paths.named)
    if options.checkpoints:
        methods = find_checkpoints(options.checkpoints, paths)
    else:
        methods = add_controls(find_methods(paths, options.methods), options.controls)
    if options.ensemble:
        check_not_sampled(config)
        methods.append(find_ensemble(options.ensemble, paths))
    return methods


def _select_checkpoint(
    options: EvaluationOptions, methods: "Sequence[Method]", scores: "Sequence[MethodScores]"
) -> "CheckpointSelection":
    """Selects the best of the checkpoints; the rows besides them are none."""
    from evaluation.methods import selected_by_training
    from evaluation.selection import select_checkpoint

    known = {method.name for method in methods}
    return select_checkpoint(
        [each for each in scores if each.name in known],
        selected_by_training=selected_by_training(methods),
        seed=options.seed,
    )


def _find_rows(options: EvaluationOptions, dataset: "EvaluationDataset", config: Config) -> "Rows":
    """Finds the rows besides the methods; checkpoints are compared without an instruction."""
    from evaluation.instructions import find_trial
    from evaluation.rows import INSTRUCTION
    from evaluation.setup import rows_of

    trial = None
    if not options.checkpoints and (options.methods is None or INSTRUCTION in options.methods):
        trial = find_trial(
            dataset,
            file=options.instructions,
            data=options.instruction_data,
            limit=options.instruction_limit,
        )
    return rows_of(config, dataset, wanted=options.methods, trial=trial)


def _score(
    options: EvaluationOptions,
    dataset: "EvaluationDataset",
    objects: "KnownObjects",
    captions: Mapping[str, Sequence[str]],
    rows: "Rows",
    baseline: str,
    over: Sequence[str],
    config: Config,
    *,
    tokenizer: str,
) -> "list[MethodScores]":
    """Scores all methods and rows, and tests each against some of them."""
    from evaluation.human import HUMAN
    from evaluation.scoring import score_methods
    from evaluation.setup import clip_metrics_of

    return score_methods(
        captions,
        dataset.references,
        baseline=baseline,
        seed=options.seed,
        skip=options.skip_metrics,
        extra=[*objects.metrics, *clip_metrics_of(config, dataset, skip=options.skip_metrics)],
        over=over,
        human=HUMAN in rows.names,
        tokenizer=tokenizer,
    )


def _score_groups(
    options: EvaluationOptions,
    dataset: "EvaluationDataset",
    objects: "KnownObjects",
    scores: "Sequence[MethodScores]",
    config: Config,
) -> "RetrievalQuality":
    """Scores groups of images by how good retrieval was for them."""
    from evaluation.retrieval_quality import score_groups
    from evaluation.setup import open_knowledge_base

    groupings, notes = objects.group(dataset, lambda: open_knowledge_base(config))
    return score_groups(
        groupings, scores, images=len(dataset.images), seed=options.seed, notes=notes
    )


def _measure_diversity(
    config: Config, dataset: "EvaluationDataset", scores: "Sequence[MethodScores]"
) -> "MeasuredDiversity":
    """Measures how diverse the captions of every method are, and how many of them are copies."""
    from evaluation.diversity import measure_diversity
    from evaluation.setup import read_seen

    return measure_diversity(scores, read_seen(config, dataset))


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
