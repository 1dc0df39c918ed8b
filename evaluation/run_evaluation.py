"""Compares methods of captioning: python evaluation/run_evaluation.py --split test."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

# Python puts this script's folder on the path, not the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evaluation.options import Request, check, overrides, parse_arguments
from igrag.cli import run, setup_logging
from igrag.config import Config, ModelEntry, find_model
from igrag.files import check_output_folder

if TYPE_CHECKING:  # torch and transformers take seconds to load: --help must not wait for them.
    from evaluation.dataset import Split
    from evaluation.results import Outcome


def main(arguments: argparse.Namespace) -> int:
    """Reads the images, captions and scores them, writes the comparison, and prints the table."""
    request = check(arguments)
    config = Config.load(arguments.config, overrides(arguments))
    log = config.log_config
    setup_logging(log.level, verbose=arguments.verbose, file=log.file)
    check_output_folder(request.output_dir, option="--output_dir")
    model = find_model(config.models, arguments.model)
    split = read_split(request)
    if request.results:
        outcome = score_files(request, split)
    else:
        outcome = score_methods(request, split, config, model)
    report(outcome, request)
    return 0


def read_split(request: Request) -> "Split":
    """Reads the images to score."""
    from evaluation.dataset import check_files, read_coco, read_jsonl

    if request.data:
        return read_jsonl(request.data, image_dir=request.images, limit=request.limit)
    assert request.captions  # One of the two is always there.
    split = read_coco(request.captions, image_dir=request.images, limit=request.limit)
    if request.images:
        check_files(split)
    return split


def score_files(request: Request, split: "Split") -> "Outcome":
    """Scores captions that are there already."""
    from evaluation.overwrite_guard import identify, refuse_to_replace
    from evaluation.results import score_outcome
    from evaluation.results_files import choose_results, match_results, methods_of
    from evaluation.save_results import names_of_files

    results = choose_results(request.results, request.methods)
    captions = {name: match_results(name, found, split) for name, found in results.items()}
    files = methods_of(request.results)
    identity = identify(split, files={name: [files[name]] for name in captions})
    if not request.force:
        refuse_to_replace(request.output_dir, identity, names=names_of_files(()))
    reference = "base" if "base" in captions else next(iter(captions))
    return score_outcome(
        split,
        captions,
        reference=reference,
        seed=request.seed,
        identity=identity,
        meteor=request.meteor,
    )


def score_methods(request: Request, split: "Split", config: Config, model: ModelEntry) -> "Outcome":
    """Captions the images with every method or checkpoint, and scores what they wrote."""
    from evaluation.assembly import caption_split, identity_of, paths_of
    from evaluation.methods import chosen_by_training, find_checkpoints, find_methods
    from evaluation.overwrite_guard import refuse_to_replace
    from evaluation.results import Origin, score_outcome
    from evaluation.save_results import names_of_files
    from evaluation.selection import judge

    if model.notice:
        print(f"note: {model.notice}", file=sys.stderr)
    if request.checkpoints:
        candidates = find_checkpoints(request.checkpoints, paths_of(config))
    else:
        candidates = find_methods(paths_of(config), request.methods)
    names = [candidate.name for candidate in candidates]
    identity = identity_of(config, model.path, candidates, split)
    if not request.force:
        refuse_to_replace(request.output_dir, identity, names=names_of_files(names))
    written = caption_split(config, model.path, candidates, split)
    outcome = score_outcome(
        split,
        {name: found.captions for name, found in written.items()},
        reference=names[0],
        seed=request.seed,
        identity=identity,
        meteor=request.meteor,
        origin=Origin(
            model=model.path,
            facts={candidate.name: candidate.facts for candidate in candidates},
            seconds={name: found.seconds for name, found in written.items()},
        ),
    )
    if request.checkpoints is None:
        return outcome
    chosen = chosen_by_training(candidates)
    return replace(outcome, verdict=judge(outcome.scores[1:], chosen=chosen, seed=request.seed))


def report(outcome: "Outcome", request: Request) -> None:
    """Writes all files, and prints the table and where they are."""
    from evaluation.save_results import publish, table_text

    written = publish(outcome, request.output_dir, report_images=request.report_images)
    print(table_text(outcome))
    for path in written:
        print(path)


if __name__ == "__main__":
    parsed = parse_arguments()
    sys.exit(run(lambda: main(parsed), debug=parsed.debug))
