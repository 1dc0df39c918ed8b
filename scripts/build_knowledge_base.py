#!/usr/bin/env python
r"""Build a knowledge base: encode captioned images with CLIP and save them with their captions.

    python scripts/build_knowledge_base.py --captions captions_train2017.json \
        --images train2017 --output knowledge_base

Finished batches are kept in OUTPUT.partial: after an interruption the same command continues.
Images that cannot be read are left out and listed at the end.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from igrag.cli import quiet_start, run, setup_logging

if __name__ == "__main__":
    quiet_start()  # before the imports that take a while

from igrag.config import DEFAULT_CONFIG, Config, load_config

if TYPE_CHECKING:  # needs torch, which takes seconds to load
    from igrag.retrieval.build import BuildReport

LISTED = 10  # of the images left out, so many are printed; knowledge_base.json names them all


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the arguments and the configuration, build, report."""
    arguments = parse_arguments(argv)
    device = [f"model_config.device={arguments.device}"] if arguments.device else []
    config = load_config(Config, arguments.config, [*arguments.overrides, *device])
    setup_logging(config.log_config.level, verbose=arguments.verbose, file=config.log_config.file)
    from igrag.retrieval.build_plan import plan_build

    plan = plan_build(  # before torch and the model are loaded
        arguments.captions,
        arguments.images,
        arguments.output,
        limit=arguments.limit,
        force=arguments.force,
    )
    from igrag.retrieval.build import carry_out
    from igrag.retrieval.image_encoder import ImageEncoder

    encoder = ImageEncoder(
        config.retrieval_config.encoder,
        device=config.models.device,
        dtype=config.retrieval_config.encoder_dtype,
    )
    try:
        report = carry_out(
            plan,
            encoder=encoder,
            batch_size=arguments.batch_size or config.retrieval_config.batch_size,
            workers=arguments.workers,
        )
    except (KeyboardInterrupt, SystemExit):
        print("interrupted: the same command continues from here", file=sys.stderr)
        raise
    print_report(report, arguments.output)
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Defines and read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--captions", type=Path, required=True, metavar="FILE", help="COCO captions file")
    add("--images", type=Path, required=True, metavar="FOLDER", help="folder of its images")
    add("--output", type=Path, required=True, metavar="FOLDER", help="knowledge base to make")
    add("--force", action="store_true", help="rebuild an existing knowledge base")
    add("--limit", type=positive, metavar="N", help="take only the first N images of the file")
    add(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help="names the encoder in retrieval_config (default: configs/config.yaml)",
    )
    add(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one value of the configuration; may be repeated",
    )
    add("--device", help="auto, cpu, cuda, ... (default: model_config.device)")
    add(
        "--batch-size",
        type=positive,
        metavar="N",
        help="images encoded at once (default: retrieval_config.batch_size)",
    )
    add(
        "--workers",
        type=natural,
        metavar="N",
        default=min(4, os.cpu_count() or 1),
        help="processes that read images; 0 reads in the main one (default: %(default)s)",
    )
    add("--verbose", action="store_true", help="log what is done")
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


def natural(text: str) -> int:
    """Reads a whole number of at least 0."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text}: expected at least 0")
    return number


def positive(text: str) -> int:
    """Reads a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected at least 1")
    return number


def print_report(report: BuildReport, output: Path) -> None:
    """Prints the result on stdout and what was left out on stderr."""
    if report.resumed:
        print(f"continued an interrupted build after {report.resumed} images", file=sys.stderr)
    reasons = [f"{image.file_name}: {image.reason}" for image in report.skipped]
    print_list("left out", reasons)
    print_list("in the folder but not in the captions file", report.uncaptioned)
    print(f"{output}: {report.count} images, {report.dimension} dimensions")


def print_list(what: str, lines: Sequence[str]) -> None:
    """Prints a warning and the first of its lines on stderr."""
    if not lines:
        return
    print(f"warning: {len(lines)} images {what}:", file=sys.stderr)
    for line in lines[:LISTED]:
        print(f"  {line}", file=sys.stderr)
    if len(lines) > LISTED:
        print(f"  ... and {len(lines) - LISTED} more", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(main, debug="--debug" in sys.argv))
