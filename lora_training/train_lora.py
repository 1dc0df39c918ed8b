"""Builds the training data: python lora_training/train_lora.py --build-data."""

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

# Python puts this script's folder on the path, not the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from igrag.cli import run, setup_logging
from igrag.config import DEFAULT_CONFIG, Config, find_model
from lora_training.settings import DEFAULT_SETTINGS, DataSettings, LoraSettings

_EXIT_USAGE = 2
_EXIT_LEAKS = 1


def main(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Does what the arguments ask for and returns the exit code."""
    if arguments.audit:
        return audit(arguments.audit)
    if not arguments.build_data:
        parser.print_help(sys.stderr)
        return _EXIT_USAGE
    settings = LoraSettings.load(arguments.lora_config, _overrides(arguments))
    config = Config.load(arguments.main_config, _main_overrides(arguments))
    setup_logging(config.log_config.level, verbose=arguments.verbose, file=config.log_config.file)
    return build_data(settings.data, config, force=arguments.force_rebuild)


def parse_arguments(
    words: Sequence[str] | None = None,
) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    """Reads the command line; the parser comes along to print its help."""
    parser = argparse.ArgumentParser(
        prog="train_lora.py", description="Build the training data.", allow_abbrev=False
    )
    add = parser.add_argument
    add("--build-data", action="store_true", help="write train.jsonl and val.jsonl")
    add("--audit", type=Path, nargs="+", metavar="JSONL",
        help="list prompts that hold their own answer; exit 1 if there are any")  # fmt: skip
    add("--lora-config", type=Path, default=DEFAULT_SETTINGS, metavar="FILE",
        help="default: lora_training/config/lora_config.yaml")  # fmt: skip
    add("--main-config", type=Path, default=DEFAULT_CONFIG, metavar="FILE",
        help="default: configs/config.yaml")  # fmt: skip
    add("--sample-count", type=int, metavar="N", help="pictures to take")
    add("--train-ratio", type=float, metavar="R",
        help="split captions_path so, instead of using val_captions_path")  # fmt: skip
    add("--seed", type=int, metavar="N")
    add("--output-data", type=Path, metavar="FOLDER")
    add("--force-rebuild", action="store_true", help="replace data that is there")
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="change a key of the LoRA config for this run; may be given again")  # fmt: skip
    add("--device", help="auto, cpu, cuda, cuda:N or mps")
    add("--verbose", action="store_true", help="tell more on stderr")
    add("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args(words), parser


def build_data(data: DataSettings, config: Config, *, force: bool) -> int:
    """Writes train.jsonl, val.jsonl and data.json into the output folder."""
    from igrag import assembly
    from igrag.image_encoder import ImageEncoder
    from igrag.knowledge_base import KnowledgeBase
    from igrag.language_model import load_tokenizer
    from igrag.tokenised_data import tokenizer_fingerprint
    from lora_training import data_output
    from lora_training.data_builder import PictureVectors, build_split
    from lora_training.example_builder import ExampleBuilder

    template = assembly.build_template(config.prompt_config)
    tokenizer = load_tokenizer(find_model(config.models, None).path)
    retrieval = config.retrieval_config
    knowledge_base = KnowledgeBase.open(config.knowledge_base_config.path)
    record = data_output.describe(
        data,
        template,
        top_k=retrieval.top_k,
        max_tokens=config.models.max_source_length,
        tokenizer=tokenizer_fingerprint(tokenizer),
        knowledge_base=config.knowledge_base_config.path,
    )
    if data_output.is_built(data.output_data, record, force=force):
        print(f"{data.output_data}: already built so (--force-rebuild builds anew)")
        return 0
    sides = data_output.choose_images(data)

    @cache
    def get_encoder() -> ImageEncoder:
        return assembly.open_retrieval(config)[0]

    builder = ExampleBuilder(
        knowledge_base,
        template,
        top_k=retrieval.top_k,
        count_tokens=lambda text: len(tokenizer(text)["input_ids"]),
        max_tokens=config.models.max_source_length,
        seed=data.seed,
    )
    data_output.forget(data.output_data)
    reports = {}
    for side in sides:
        vectors = PictureVectors(
            knowledge_base, side.folder, get_encoder=get_encoder, batch_size=retrieval.batch_size
        )
        path = data.output_data / f"{side.name}.jsonl"
        report = build_split(path, side.images, vectors=vectors, builder=builder, split=side.name)
        reports[side.name] = report
        print(f"{path}: {report.written} examples, {report.reused} vectors from the knowledge base")
        for reason in report.skipped:
            print(f"skipped: {reason}", file=sys.stderr)
    data_output.record(data.output_data, record, reports)
    return 0


def audit(paths: Sequence[Path]) -> int:
    """Lists the leaks of each file."""
    from lora_training.leak_audit import audit_leaks

    leaks = 0
    for path in paths:
        for leak in audit_leaks(path):
            leaks += 1
            print(f"{path}: example {leak.number} (image {leak.image_id}): {leak.caption}")
    print(f"{leaks} prompts hold their own target or reference.")
    return _EXIT_LEAKS if leaks else 0


def _overrides(arguments: argparse.Namespace) -> list[str]:
    overrides = list(arguments.set)
    options = {
        "sample_count": arguments.sample_count,
        "train_ratio": arguments.train_ratio,
        "seed": arguments.seed,
        "output_data": arguments.output_data,
    }
    overrides += [f"data.{key}={value}" for key, value in options.items() if value is not None]
    if arguments.train_ratio is not None:
        overrides += ["data.val_captions_path=null", "data.val_images_path=null"]
    return overrides


def _main_overrides(arguments: argparse.Namespace) -> list[str]:
    return [] if arguments.device is None else [f"model_config.device={arguments.device}"]


if __name__ == "__main__":
    parsed, help_parser = parse_arguments()
    sys.exit(run(lambda: main(parsed, help_parser), debug=parsed.debug))
