r"""Build a knowledge base: encode captioned images with CLIP and save them with their captions.

    python scripts/build_knowledge_base.py --captions captions_train2017.json \
        --images train2017 --output knowledge_base

Finished parts are kept in OUTPUT.partial: after an interruption the same command continues.
Images that cannot be read are left out and listed at the end. Several processes share the work, on
one machine or on several that see one output folder, and make the same knowledge base as one does:

    torchrun --nproc_per_node 2 scripts/build_knowledge_base.py --captions ...
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from igrag.cli import (
    CommandParser,
    add_caption_options,
    add_common_options,
    add_config_options,
    at_least,
    config_overrides,
    run_command,
    setup_logging,
)
from igrag.config import DEFAULT_CONFIG, Config
from igrag.processes import EndedElsewhere, joined_processes

if TYPE_CHECKING:  # needs torch, which takes seconds to load
    from igrag.processes import Processes
    from igrag.retrieval.build import BuildReport

_LISTED = 10  # of the images left out, so many are printed; knowledge_base.json names them all


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Builds the knowledge base, or checks it, and reports what it holds and what was left out."""
    if arguments.verify:
        return _verify(arguments.output)
    if arguments.index == "faiss":
        from igrag.retrieval.faiss_index import import_faiss

        import_faiss()  # A missing extra is reported before the hours that encoding may take.
    if arguments.from_vectors:
        return _import(arguments)
    try:
        with joined_processes() as processes:
            report = _build(arguments, processes)
    except (KeyboardInterrupt, SystemExit) as error:
        if not isinstance(error, EndedElsewhere):
            print("interrupted: the same command continues from here", file=sys.stderr)
        raise
    if report is not None:
        _print_report(report, arguments.output)
        _make_index(arguments)
    return 0


def _make_index(arguments: argparse.Namespace) -> None:
    """Makes the index of what was built, where --index asks for it."""
    if arguments.index is not None:
        from igrag.commands.index import make_index

        make_index(arguments.output, arguments.index)


def _build(arguments: argparse.Namespace, processes: Processes) -> BuildReport | None:
    """Does this process's part of the build; the first one returns the report."""
    ranks = processes.ranks
    config = Config.load(arguments.config, config_overrides(arguments))
    setup_logging(config.log_config.level, verbose=arguments.verbose, file=config.log_config.file)
    from igrag.retrieval.build import build_planned
    from igrag.retrieval.build_plan import plan_build

    planned = plan_build(
        arguments.captions,
        arguments.images,
        arguments.output,
        limit=arguments.limit,
        force=arguments.overwrite_output_dir,
        split=arguments.caption_split,
        keep_rejected=arguments.keep_rejected,
        processes=processes,
    )
    with planned as plan:  # before torch and the model are loaded
        from igrag.retrieval.image_encoder import ImageEncoder

        encoder = ImageEncoder(
            config.retrieval_config.encoder,
            device=ranks.device(config.models.device),
            dtype=config.retrieval_config.encoder_dtype,
        )
        workers = ranks.cores() if arguments.workers is None else arguments.workers
        return build_planned(
            plan,
            encoder=encoder,
            batch_size=arguments.batch_size or config.retrieval_config.batch_size,
            workers=workers,
            reduced_decoding=arguments.reduced_decoding,
            processes=processes,
        )


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(__doc__ or "", earlier={"--force": "--overwrite_output_dir"})
    add = parser.add_argument
    add("--captions", type=Path, metavar="FILE",
        help="captions file: COCO's, nocaps', VizWiz's, Karpathy's, Flickr8k's, Flickr30k's or "
        "COCO-CN's")  # fmt: skip
    add("--images", type=Path, metavar="FOLDER",
        help="folder of its images; without --captions a folder of .tar files as WebDataset reads "
        "them, or of .parquet or .arrow files, which hold images with their captions")  # fmt: skip
    add("--from_vectors", type=Path, metavar="PATH",
        help="encode nothing: take the vectors of clip-retrieval's folder, of a Parquet file (id, "
        "file_name, captions, vector), or of a .npy file whose captions are the lines of "
        "--captions; --images then only checks the encoder")  # fmt: skip
    add("--output", type=Path, required=True, metavar="FOLDER", help="knowledge base to make")
    add("--verify", action="store_true",
        help="build nothing; compare the files of --output with their checksums")  # fmt: skip
    add("--overwrite_output_dir", action="store_true", help="replace an existing knowledge base")
    add_caption_options(parser)
    add("--limit", type=at_least(1), metavar="N", help="take only the first N images of the file")
    add("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE",
        help="names the encoder in retrieval_config (default: configs/config.yaml)")  # fmt: skip
    add("--batch_size", type=at_least(1), metavar="N",
        help="images encoded at once (default: retrieval_config.batch_size)")  # fmt: skip
    add("--workers", type=at_least(0), metavar="N",
        help="processes that read images, for each that encodes; 0: none of their own (default: "
        "the machine's cores, divided by the processes that encode there)")  # fmt: skip
    add("--reduced_decoding", action="store_true",
        help="decode large JPEGs at a half, a quarter or an eighth of their size: faster, and "
        "cosines change in the fourth digit")  # fmt: skip
    add("--index", choices=("faiss",),
        help="make its index, too, as igrag index does with --type")  # fmt: skip
    add_config_options(parser, dtype=False)
    add_common_options(parser)
    arguments = parser.parse_args(words)
    if not (arguments.images or arguments.verify or arguments.from_vectors):
        parser.error("the following arguments are required: --images")
    return arguments


def _verify(path: Path) -> int:
    """Checks a knowledge base as a whole and prints the result."""
    from igrag.retrieval.knowledge_base import KnowledgeBase

    knowledge_base, has_sums = KnowledgeBase.verify(path)
    found = "all files as they were written" if has_sums else "no checksums (an earlier version's)"
    print(f"{path}: {len(knowledge_base)} images, {knowledge_base.dimension} dimensions, {found}")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    """Makes a knowledge base of finished vectors and prints what it holds."""
    config = Config.load(arguments.config, config_overrides(arguments))
    setup_logging(config.log_config.level, verbose=arguments.verbose, file=config.log_config.file)
    from igrag.retrieval.finished_vectors import import_vectors
    from igrag.retrieval.image_encoder import ImageEncoder

    encoder = ImageEncoder(config.retrieval_config.encoder, device=config.models.device)
    report = import_vectors(
        arguments.from_vectors,
        arguments.output,
        encoder=encoder,
        captions=arguments.captions,
        images=arguments.images,
        force=arguments.overwrite_output_dir,
    )
    if not report.checked:
        print(f"note: that {encoder.identity.name} made the vectors is taken on trust; --images "
              "FOLDER encodes some images to check it", file=sys.stderr)  # fmt: skip
    _print_list("left out", [f"{image.file_name}: {image.reason}" for image in report.skipped])
    print(f"{arguments.output}: {report.count} images, {report.dimension} dimensions")
    _make_index(arguments)
    return 0


def _print_report(report: BuildReport, output: Path) -> None:
    """Prints the result on stdout and what was left out on stderr."""
    if report.resumed:
        print(f"continued an interrupted build after {report.resumed} images", file=sys.stderr)
    reasons = [f"{image.file_name}: {image.reason}" for image in report.skipped]
    _print_list("left out", reasons)
    _print_list("in the folder but not in the captions file", report.uncaptioned)
    print(f"{output}: {report.count} images, {report.dimension} dimensions")


def _print_list(what: str, lines: Sequence[str]) -> None:
    """Prints a warning and the first of its lines on stderr."""
    if not lines:
        return
    print(f"warning: {len(lines)} images {what}:", file=sys.stderr)
    for line in lines[:_LISTED]:
        print(f"  {line}", file=sys.stderr)
    if len(lines) > _LISTED:
        print(f"  ... and {len(lines) - _LISTED} more", file=sys.stderr)
