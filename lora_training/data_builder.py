"""Builds training data from captioned images: python lora_training/data_builder.py.

Each image becomes a line of train.jsonl or val.jsonl: a prompt with the captions of similar images
in the knowledge base, and one of the image's own captions as the target.
"""
# PYTHON_ARGCOMPLETE_OK: argcomplete looks for this before it runs a script

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from igrag.errors import DataError, UsageError
from igrag.output_lock import lock_folder
from lora_training.settings import DEFAULT_SETTINGS, DataSettings, LoraSettings

if TYPE_CHECKING:  # torch and transformers take seconds to load
    import numpy as np
    from numpy.typing import NDArray

    from igrag.data.coco import CaptionedImage
    from igrag.retrieval.image_encoder import ImageEncoder
    from igrag.retrieval.knowledge_base import KnowledgeBase
    from lora_training.examples import ExampleBuilder, ImageObjects, ImageVectors
    from lora_training.splits import Split
    from lora_training.unfinished_split import UnfinishedSplit

EXIT_LEAKS = 1
_CHUNK = 512  # Images in memory at a time, however many examples are built.
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
    check_audit(arguments)
    if arguments.audit:
        return audit(arguments.audit)
    settings, config, model_path = load_settings(arguments)
    build_data(settings.data, config, model_path, overwrite=overwrites_data(arguments))
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


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What was built of a split, and which images were left out."""

    written: int
    reused: int
    skipped: tuple[str, ...]


def build_data(data: DataSettings, config: Config, model_path: str, *, overwrite: bool) -> None:
    """Builds the data into the output folder, which no other process may write meanwhile.

    See `build_into`.
    """
    with lock_folder(data.output_data, option="--output_data"):
        build_into(data, config, model_path, overwrite=overwrite)


def build_into(data: DataSettings, config: Config, model_path: str, *, overwrite: bool) -> None:
    """Writes train.jsonl, val.jsonl, their vectors and data.json into the output folder.

    Args:
        data: Which images become examples, and the output folder.
        config: The configuration of captioning: knowledge base, template, maximum prompt length.
        model_path: Folder or hub id of the language model, for its tokenizer.
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
    if not overwrite and folder.is_built():
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
    with folder.unfinished() as new:
        reports = _write_splits(new, splits, config, builder, knowledge_base)
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
    folder: Path,
    splits: Sequence[Split],
    config: Config,
    builder: ExampleBuilder,
    knowledge_base: KnowledgeBase,
) -> dict[str, SplitReport]:
    """Writes SPLIT.jsonl of each split into a folder; the encoder is loaded only if needed."""
    from igrag import from_config
    from lora_training.examples import ImageObjects, ImageVectors

    detector = from_config.build_detector(config.prompt_config.objects, config.models.device)

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
        )
        objects = ImageObjects(detector, split.folder)
        reports[split.name] = build_split(
            folder / f"{split.name}.jsonl",
            split.images,
            vectors=vectors,
            builder=builder,
            split=split.name,
            objects=objects,
            resumable=True,
        )
        _print_skipped(split, reports[split.name], objects.unlisted)
    return reports


def _print_skipped(split: Split, report: SplitReport, unlisted: int) -> None:
    for reason in report.skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    if unlisted:
        print(
            f"note: {split.name}: {unlisted} of {len(split.images)} images are not in "
            "prompt_config.objects.instances_path; their prompts show no objects",
            file=sys.stderr,
        )


def build_split(
    path: Path,
    images: Sequence[CaptionedImage],
    *,
    vectors: ImageVectors,
    builder: ExampleBuilder,
    split: str,
    objects: ImageObjects | None = None,
    progress: bool = True,
    resumable: bool = False,
) -> SplitReport:
    """Writes one JSONL file in chunks, complete or not at all, or else resumably.

    The vectors of its images go next to it, see `igrag.retrieval.vector_files`.

    Args:
        path: The file to write.
        images: The images to build examples of.
        vectors: Returns their vectors.
        builder: Builds the examples.
        split: Name of the split, for the examples' metadata.
        objects: Returns the objects of their prompts; None for none.
        progress: Show a progress bar on stderr, if that is a terminal.
        resumable: Let the file grow under its own name, and continue what an interrupted call of
            the same arguments has left.

    Raises:
        DataError: No image was readable.
    """
    from igrag.files import atomic_path
    from lora_training.examples import ImageObjects
    from lora_training.unfinished_split import UnfinishedSplit

    objects = objects or ImageObjects(None, Path())
    with ExitStack() as stack:
        file = path if resumable else stack.enter_context(atomic_path(path))
        unfinished = stack.enter_context(UnfinishedSplit(file, resumable=resumable))
        report = _build_chunks(
            unfinished, images, vectors, objects, builder, split, progress=progress
        )
        if not report.written:
            first = next(iter(report.skipped), "no images")
            raise DataError(f"{split}: none of the images could be used ({first})")
        unfinished.save_vectors(path, vectors.encoder)
    return report


def _build_chunks(
    unfinished: UnfinishedSplit,
    images: Sequence[CaptionedImage],
    vectors: ImageVectors,
    objects: ImageObjects,
    builder: ExampleBuilder,
    split: str,
    *,
    progress: bool,
) -> SplitReport:
    """Builds the examples of the images that the file does not have yet."""
    from tqdm import tqdm

    done = unfinished.progress
    before = vectors.reused
    skips = [(reasons, len(reasons)) for reasons in (vectors.skipped, objects.skipped)]
    vectors.reused += done.reused
    vectors.skipped += done.skipped
    objects.skipped += done.objects_skipped
    objects.unlisted += done.unlisted
    with tqdm(
        total=len(images), initial=done.images, desc=split, unit="image", file=sys.stderr,
        disable=None if progress else True,  # None: hidden if stderr is no terminal
    ) as bar:  # fmt: skip
        for chunk in _chunks(images[done.images :]):
            examples, found = _build_chunk(chunk, vectors, objects, builder, split)
            unfinished.append(examples, found, images=len(chunk))
            done.reused, done.unlisted = vectors.reused - before, objects.unlisted
            done.skipped, done.objects_skipped = (reasons[start:] for reasons, start in skips)
            unfinished.save_progress()
            bar.update(len(chunk))
    skipped = tuple(reason for reasons, start in skips for reason in reasons[start:])
    return SplitReport(done.written, vectors.reused - before, skipped)


def _build_chunk(
    chunk: Sequence[CaptionedImage],
    vectors: ImageVectors,
    objects: ImageObjects,
    builder: ExampleBuilder,
    split: str,
) -> tuple[list[dict[str, Any]], NDArray[np.float32]]:
    """Builds the examples of a chunk's readable images; returns their vectors [examples, D] too."""
    readable, found = vectors(chunk)
    indices, shown = objects(readable)
    if not indices:
        return [], found[:0]
    images = [readable[index] for index in indices]
    return builder.build(images, found[indices], shown, split=split), found[indices]


def _chunks(images: Sequence[CaptionedImage]) -> Iterator[Sequence[CaptionedImage]]:
    for start in range(0, len(images), _CHUNK):
        yield images[start : start + _CHUNK]


if __name__ == "__main__":
    sys.exit(command())
