"""Builds training data from captioned images: python lora_training/data_builder.py.

Each image becomes a line of train.jsonl or val.jsonl: a prompt with the captions of similar images
in the knowledge base, and one of the image's own captions as the target.
"""
# PYTHON_ARGCOMPLETE_OK: argcomplete looks for this before it runs a script

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # Run as a script: without an installation the clone is not on the path.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from igrag.cli import (
    CommandParser,
    add_common_options,
    add_config_options,
    quiet_start,
    run_command,
    setup_logging,
)

if __name__ == "__main__":
    quiet_start()  # before the imports that take a while

from igrag.config import DEFAULT_CONFIG, Config, find_model, quote
from igrag.errors import UsageError
from igrag.output_lock import lock_folder
from igrag.processes import Processes, joined_processes
from lora_training.settings import DEFAULT_SETTINGS, DataSettings, LoraSettings

if TYPE_CHECKING:  # torch and transformers take seconds to load
    from igrag.retrieval.image_encoder import ImageEncoder
    from igrag.retrieval.knowledge_base import KnowledgeBase
    from lora_training.chunks import SplitReport
    from lora_training.examples import ExampleBuilder
    from lora_training.splits import Split

EXIT_LEAKS = 1
# Keys that options of their own set.
_OPTIONS = {
    "data.sample_count": "sample_count",
    "data.train_ratio": "train_ratio",
    "data.seed": "seed",
    "data.output_data": "output_data",
    "training.seed": "seed",
    "training.output_dir": "output_dir",
    "training.report_to": "report_to",
}
_VAL_KEYS = ("data.val_captions_path", "data.val_images_path")
_NULLS = ("null", "~", "")  # as YAML writes it


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Builds or audits training data and returns the exit code."""
    with joined_processes() as processes:
        check_audit(arguments)
        if arguments.audit:
            return audit(arguments.audit)
        settings, config, model_path = load_settings(arguments)
        overwrite = overwrites_data(arguments)
        build_data(settings.data, config, model_path, processes, overwrite=overwrite)
    return 0


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = CommandParser("Build training data from captioned images.")
    add_data_options(parser)
    parser.add_argument(
        "--overwrite_output_dir", action="store_true", help="replace data of other settings"
    )
    return parser.parse_args(words)


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that building has here and in train_lora.py."""
    add = parser.add_argument
    add("--audit", type=Path, nargs="+", metavar="JSONL",
        help="only list prompts with their own caption; exit code 1 if there are any")  # fmt: skip
    add("--lora_config", type=Path, metavar="FILE",
        help="default: lora_training/config/lora_config.yaml")  # fmt: skip
    add("--main_config", type=Path, metavar="FILE", help="default: configs/config.yaml")
    add("--sample_count", type=int, metavar="N", help="number of images to sample")
    add("--train_ratio", type=float, metavar="R",
        help="split captions_path with this share of training images, "
        "instead of using val_captions_path")  # fmt: skip
    add("--seed", type=int, metavar="N", help="seed of the data and of the training")
    add("--output_data", type=Path, metavar="FOLDER",
        help="output folder of train.jsonl, val.jsonl and data.json")  # fmt: skip
    add(
        "--force_rebuild", action="store_true", help="as --overwrite_output_dir, for the data alone"
    )
    add_config_options(parser)
    add_common_options(parser)


def given_options(arguments: argparse.Namespace) -> set[str]:
    """Returns the names of the options that were given."""
    unset: tuple[object, ...] = (None, False)
    return {
        name
        for name, value in vars(arguments).items()
        if value != [] and not any(value is each for each in unset)
    }


def check_audit(arguments: argparse.Namespace) -> None:
    """Checks that --audit comes alone: another option would have no effect.

    Raises:
        UsageError: It does not.
    """
    others = given_options(arguments) - {"audit", "verbose", "debug"}
    if arguments.audit and others:
        raise UsageError(f"--audit and --{min(others)}: found both, expected --audit alone")


def overwrites_data(arguments: argparse.Namespace) -> bool:
    """Returns whether data of other settings may be replaced."""
    return bool(arguments.overwrite_output_dir or arguments.force_rebuild)


def load_settings(arguments: argparse.Namespace) -> tuple[LoraSettings, Config, str]:
    """Loads both configurations and starts the log.

    Returns:
        The LoRA settings, the main configuration, and the language model's folder or hub id.

    Raises:
        ConfigError: A file or an option is wrong.
        UsageError: Options contradict each other.
    """
    options = {
        key: name for key, name in _OPTIONS.items() if getattr(arguments, name, None) is not None
    }
    settings = LoraSettings.load(
        arguments.lora_config or DEFAULT_SETTINGS,
        _overrides(arguments, options),
        options={key: f"--{name}" for key, name in options.items()},
    )
    main_options = {"device": arguments.device, "dtype": arguments.dtype}
    config = Config.load(
        arguments.main_config or DEFAULT_CONFIG,
        [f"model_config.{key}={value}" for key, value in main_options.items() if value is not None],
    )
    model_path = find_model(config.models, settings.model.name, option="model.name").path
    setup_logging(config.log_config.level, verbose=arguments.verbose, file=config.log_config.file)
    return settings, config, model_path


def _overrides(arguments: argparse.Namespace, options: dict[str, str]) -> list[str]:
    overrides = list(arguments.set)
    for key, name in options.items():
        value = getattr(arguments, name)
        # A folder's name may look like anything in YAML: a number, a comment, null.
        overrides.append(f"{key}={quote(str(value)) if isinstance(value, Path) else value}")
    if arguments.train_ratio is None:
        return overrides
    for override in arguments.set:
        key, _, value = override.partition("=")
        if key.strip() in _VAL_KEYS and value.strip().lower() not in _NULLS:
            raise UsageError(
                f"--train_ratio and --set {override}: found both, expected one: either a share of "
                "captions_path validates, or images of their own"
            )
    return [*overrides, *(f"{key}=null" for key in _VAL_KEYS)]


def audit(paths: Sequence[Path]) -> int:
    """Lists the leaks of each file and returns the exit code."""
    from lora_training.examples import audit_leaks

    leaks = 0
    for path in paths:
        for leak in audit_leaks(path):
            leaks += 1
            print(f"{path}: example {leak.number} (image {leak.image_id}): {leak.caption}")
    print(f"{leaks} prompts contain their own target or reference.")
    return EXIT_LEAKS if leaks else 0


def build_data(
    data: DataSettings, config: Config, model_path: str, processes: Processes, *, overwrite: bool
) -> None:
    """Builds the data into the output folder, which no other run may write meanwhile.

    See `build_into`.
    """
    is_first = processes.ranks.is_first
    lock = lock_folder(data.output_data, option="--output_data") if is_first else nullcontext()
    with lock:
        build_into(data, config, model_path, processes, overwrite=overwrite)
        processes.from_first("data are built", lambda: True)


def build_into(
    data: DataSettings, config: Config, model_path: str, processes: Processes, *, overwrite: bool
) -> None:
    """Writes train.jsonl, val.jsonl, their vectors and data.json into the output folder.

    The first process writes them; all of them build their share of the examples.

    Args:
        data: Which images become examples, and the output folder.
        config: The configuration of captioning: knowledge base, template, maximum prompt length.
        model_path: Folder or hub id of the language model, for its tokenizer.
        processes: The run's.
        overwrite: Replace data of other settings.

    Raises:
        IgragError: Something is missing or damaged, or the folder holds other data.
    """
    from igrag import from_config
    from igrag.captioning.language_model import load_tokenizer
    from igrag.fingerprints import tokenizer_fingerprint
    from lora_training.dataset_folder import DatasetFolder, describe_build
    from lora_training.examples import ExampleBuilder
    from lora_training.splits import choose_images

    template = from_config.build_template(config.prompt_config)
    tokenizer = load_tokenizer(model_path)
    knowledge_base = from_config.open_knowledge_base(config)
    settings = describe_build(
        data,
        config,
        template=template.fingerprint(),
        tokenizer=tokenizer_fingerprint(tokenizer),
    )
    folder = DatasetFolder(data.output_data, settings)
    is_first = processes.ranks.is_first
    if processes.from_first("is built", lambda: not overwrite and folder.is_built()):
        if is_first:
            print(f"{folder.path}: already built with these settings")
        return
    splits = choose_images(data)
    builder = ExampleBuilder(
        knowledge_base,
        template,
        top_k=config.retrieval_config.top_k,
        count_tokens=lambda text: len(tokenizer(text)["input_ids"]),
        max_tokens=config.models.max_source_length,
        seed=data.seed,
        listed=data.retrieved or 0,
    )
    if not is_first:
        _write_splits(None, splits, config, builder, knowledge_base, processes)
        return
    with folder.unfinished() as new:
        reports = _write_splits(new, splits, config, builder, knowledge_base, processes)
        counts = {
            name: {"written": each.written, "reused": each.reused, "skipped": len(each.skipped)}
            for name, each in reports.items()
        }
        folder.replace_with(new, counts)
    for name, report in reports.items():
        print(
            f"{folder.path / name}.jsonl: {report.written} examples, "
            f"{report.reused} vectors from the knowledge base"
        )


def _write_splits(
    folder: Path | None,
    splits: Sequence[Split],
    config: Config,
    builder: ExampleBuilder,
    knowledge_base: KnowledgeBase,
    processes: Processes,
) -> dict[str, SplitReport]:
    """Writes SPLIT.jsonl of each split into a folder; the encoder is loaded only if needed.

    None as the folder builds this process's share for the first one, which writes.
    """
    from igrag import from_config
    from lora_training.chunks import Chunks, write_split
    from lora_training.examples import ImageObjects, ImageVectors

    device = processes.ranks.device(config.models.device)
    detector = from_config.build_detector(config.prompt_config.objects, device)

    @cache
    def get_encoder() -> ImageEncoder:
        return from_config.open_retrieval(config)[0]

    reports = {}
    for split in splits:
        vectors = ImageVectors(
            knowledge_base,
            split.folder,
            get_encoder=get_encoder,
            batch_size=config.retrieval_config.batch_size,
            workers=processes.ranks.cores(),
        )
        objects = ImageObjects(detector, split.folder)
        chunks = Chunks(split.images, vectors, objects, builder, split.name)
        if folder is None:
            for _ in chunks.in_order(processes):
                pass
            continue
        file = folder / f"{split.name}.jsonl"
        reports[split.name] = report = write_split(file, chunks, processes, resumable=True)
        _print_skipped(split, report)
    return reports


def _print_skipped(split: Split, report: SplitReport) -> None:
    for reason in report.skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    if report.unlisted:
        print(
            f"note: {split.name}: {report.unlisted} of {len(split.images)} images are not in "
            "prompt_config.objects.instances_path; their prompts show no objects",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(command())
