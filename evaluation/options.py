"""The command line of run_evaluation.py, checked before anything is loaded."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from igrag.cli import (
    CommandParser,
    add_caption_options,
    add_common_options,
    add_config_options,
    at_least,
)
from igrag.config import DEFAULT_CONFIG, choices
from igrag.config.paths import default_root
from igrag.data.examples import split_file
from igrag.errors import DataError, UsageError

OUTPUT_DIR = default_root() / "evaluation" / "results"
# The demo data, scored if no other is given.
_DEMO = default_root() / "demo"
_DATA, _IMAGES = _DEMO / "data", _DEMO / "coco"
_SPLIT, _REPORT_IMAGES = "test", 500
_INSTRUCTION_LIMIT = 100  # images: each costs a caption by every instruction
# Rows of `evaluation.controls` -> the options that add them.
CONTROLS = {"shuffled": "shuffle_image_vectors", "zero": "zero_image_vectors"}
# Options of earlier versions -> today's.
_FORMER_OPTIONS = {
    "--force": "--overwrite_output_dir",
    "--pictures": "--images",
    "--report_pictures": "--report_images",
}
_EXAMPLES = """\
examples:
  python evaluation/run_evaluation.py                            the test split of the demo data
  python evaluation/run_evaluation.py --methods nearest,human    only what needs no language model
  python evaluation/run_evaluation.py --data lora_training/data --split val
  python evaluation/run_evaluation.py --config configs/coco_flan_t5.yaml \\
      --captions captions_val2017.json --images val2017
  python evaluation/run_evaluation.py --captions captions_val2017.json --results mine.json
  python evaluation/run_evaluation.py --split val --checkpoints prompt_tuning/checkpoints
"""


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """The checked options.

    Attributes:
        captions: A COCO captions file; None if `data` is given.
        data: A JSONL file; None if `captions` is given.
        images: The folder of the images, if known.
        instances: COCO's instances files of the images and of the knowledge base.
        results: Caption files to score instead of generating captions.
        methods: The methods to compare; None for all that are available.
        ensemble: Files of soft prompts that are one more method, their logits averaged.
        instructions: YAML file of instructions for the row `instruction`; None for the package's.
        instruction_data: JSONL file that the instruction is chosen on; None for the default.
        instruction_limit: Choose it on the first images of that file, so many.
        checkpoints: Output folder of a training whose checkpoints to compare instead.
        limit: Score only the first images, so many.
        output_dir: The output folder.
        report_images: Maximum number of images in the report.
        seed: Seed of the bootstrap.
        skip_metrics: Keys of metrics to leave out.
        overwrite: Replace another evaluation in the output folder.
        caption_split: The split of the captions file to score, where it has some.
        keep_rejected: Score against references that the captions file marks as rejected.
        against: Methods that the others are tested against, besides those that need no training.
        controls: Rows besides each method with image tokens, see `evaluation.controls`.
        tokenizer: Splits captions into the tokens that are scored; "auto" goes by the references.
    """

    captions: Path | None
    data: Path | None
    images: Path | None
    instances: tuple[Path, ...]
    results: tuple[Path, ...]
    methods: tuple[str, ...] | None
    instructions: Path | None
    instruction_data: Path | None
    instruction_limit: int
    checkpoints: Path | None
    limit: int | None
    output_dir: Path
    report_images: int
    seed: int
    skip_metrics: frozenset[str]
    overwrite: bool
    caption_split: str | None = None
    keep_rejected: bool = False
    controls: tuple[str, ...] = ()
    tokenizer: str = "auto"
    ensemble: tuple[Path, ...] = ()
    against: tuple[str, ...] = ()


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(
        "Caption images by every trained method, score the captions, and compare the methods in a\n"
        "table, a chart and a report.",
        prog="run_evaluation.py", earlier=_FORMER_OPTIONS, epilog=_EXAMPLES,
    )  # fmt: skip
    _add_data(parser)
    _add_methods(parser)
    _add_output(parser)
    add = parser.add_argument
    add("--model", metavar="NAME|PATH", help="a name from the configuration, a folder or a hub id")
    add("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE",
        help="default: configs/config.yaml")  # fmt: skip
    add_config_options(parser)
    add_common_options(parser)
    return parser.parse_args(words)


def check_options(arguments: argparse.Namespace) -> EvaluationOptions:
    """Checks the options and fills in the defaults.

    Raises:
        UsageError: Options that contradict one another, or need another one.
        DataError: The folder of a split is missing.
    """
    _check_combinations(arguments)
    data, images = arguments.data, arguments.images
    if arguments.captions is None:
        split = arguments.split or _SPLIT
        if data is None:
            data, images = _DATA, images or _IMAGES / split
        if data.is_dir():
            data = split_file(data, split)
        elif arguments.split:
            _raise_no_folder(data, split)
    skip = frozenset(_list(arguments.skip_metrics))
    skip |= {"meteor"} if arguments.meteor == "off" else set()
    return EvaluationOptions(
        captions=arguments.captions,
        data=data,
        images=images,
        instances=tuple(arguments.instances or default_instances(data or arguments.captions)),
        results=tuple(arguments.results),
        methods=_names(arguments.methods),
        instructions=arguments.instructions,
        instruction_data=arguments.instruction_data,
        instruction_limit=arguments.instruction_limit,
        checkpoints=arguments.checkpoints,
        limit=arguments.limit,
        output_dir=arguments.output_dir or _default_folder(arguments),
        report_images=arguments.report_images,
        seed=arguments.seed,
        skip_metrics=skip,
        overwrite=arguments.overwrite_output_dir,
        caption_split=arguments.caption_split,
        keep_rejected=arguments.keep_rejected,
        controls=tuple(name for name in CONTROLS if getattr(arguments, CONTROLS[name])),
        tokenizer=arguments.tokenizer,
        ensemble=tuple(arguments.ensemble),
        against=_list(arguments.against or ""),
    )


def default_instances(scored: Path) -> list[Path]:
    """Returns the instances files of the demo's images for its own data; none for others."""
    if _DEMO not in scored.resolve().parents:
        return []
    split = scored.name.partition(".")[0].removeprefix("captions_")
    names = dict.fromkeys((split, "train"))  # The knowledge base has the training images.
    files = [_DEMO / "coco" / "annotations" / f"instances_{name}.json" for name in names]
    return [path for path in files if path.is_file()] if files[0].is_file() else []


def _add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    add = group.add_argument
    add("--split", choices=choices.words(choices.Split),
        help="which file of --data (default: test)")  # fmt: skip
    add("--data", type=Path, metavar="PATH",
        help="JSONL with prompts, or a folder of SPLIT.jsonl (default: demo/data)")  # fmt: skip
    add("--captions", type=Path, metavar="FILE",
        help="COCO captions file, or another that build_knowledge_base.py reads: caption its "
        "images, with retrieval")  # fmt: skip
    add("--images", type=Path, metavar="FOLDER",
        help="folder of the images, for --captions and for the report")  # fmt: skip
    add("--instances", type=Path, nargs="+", metavar="FILE",
        help="COCO's instances files of the images and of the knowledge base: score whether "
        "captions name an image's main category, and by how good retrieval was (default: those of "
        "the demo for its data)")  # fmt: skip
    add("--results", type=Path, nargs="+", default=[], metavar="FILE",
        help="score these captions (COCO's results format) instead of generating some")  # fmt: skip
    add_caption_options(group)
    add("--limit", type=at_least(1), metavar="N", help="score only the first N images")


def _add_methods(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("methods").add_argument
    add("--methods", metavar="A,B",
        help="some of base,prompt,lora,lora+prompt, of nearest (the caption of the most similar "
        "image, copied), instruction (the model with the best instruction in words), human (each "
        "reference against the others) and of the names in prompt_tuning.prompts; default: all "
        "that are available")  # fmt: skip
    add("--against", metavar="A,B",
        help="test every other method against these too, besides base, nearest and instruction: "
        "paired, with p")  # fmt: skip
    add("--ensemble", type=Path, nargs="+", default=[], metavar="PROMPT",
        help="add the method ensemble: the logits of these soft prompts, averaged")  # fmt: skip
    add("--instructions", type=Path, metavar="FILE",
        help="YAML of instructions to try (default: evaluation/instructions.yaml)")  # fmt: skip
    add("--instruction_data", type=Path, metavar="FILE",
        help="JSONL to choose the instruction on, never the scored images (default: val.jsonl, or "
        "train.jsonl where val is scored, next to the file of --data)")  # fmt: skip
    add("--instruction_limit", type=at_least(1), default=_INSTRUCTION_LIMIT, metavar="N",
        help="choose it on the first N images, each captioned once by every instruction (default: "
        "%(default)s)")  # fmt: skip
    # None where it is not given, as other options, for the check of combinations.
    add("--shuffle_image_vectors", action="store_true", default=None,
        help="a further row for each prompt with image tokens: they are made from the vector of "
        "another image")  # fmt: skip
    add("--zero_image_vectors", action="store_true", default=None,
        help="a further row for each of them: its tokens are made from the mean of the training "
        "images' vectors")  # fmt: skip
    add("--checkpoints", type=Path, metavar="FOLDER",
        help="compare all checkpoints of a prompt training and select the best")  # fmt: skip


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("output").add_argument
    add("--output_dir", type=Path, metavar="FOLDER",
        help="default: evaluation/results; its val/ or train/ with --split, its checkpoints/ with "
        "--checkpoints, its files/ with --results")  # fmt: skip
    add("--overwrite_output_dir", action="store_true",
        help="replace another evaluation in the output folder")  # fmt: skip
    add("--report_images", type=at_least(1), default=_REPORT_IMAGES, metavar="N",
        help="at most N images in report.html, those with the largest gains and losses (default: "
        "%(default)s)")  # fmt: skip
    add("--seed", type=at_least(0), default=0, help="seed of the bootstrap (default: %(default)s)")
    add("--skip_metrics", default="", metavar="A,B",
        help="metrics to leave out, by their keys in metrics.json, such as clip_score")  # fmt: skip
    add("--tokenizer", choices=choices.words(choices.Tokenizer), default="auto",
        help="tokens that are scored: ptb (COCO's), zh (Chinese characters), char (all of them); "
        "auto: by the language of the references (default: %(default)s)")  # fmt: skip
    add("--meteor", choices=("auto", "off"), default="auto",
        help="off: the same as --skip_metrics meteor, whose start takes ten seconds; auto: compute "
        "it if pycocoevalcap and Java are installed (default: %(default)s)")  # fmt: skip


def _default_folder(arguments: argparse.Namespace) -> Path:
    """Returns the output folder of this type of comparison."""
    if arguments.results:
        return OUTPUT_DIR / "files"
    if arguments.checkpoints:
        return OUTPUT_DIR / "checkpoints"
    other = arguments.split not in (None, _SPLIT)
    return OUTPUT_DIR / arguments.split if other else OUTPUT_DIR


def _check_combinations(arguments: argparse.Namespace) -> None:
    given = {name for name, value in vars(arguments).items() if value not in (None, [])}
    for name, others in {
        "captions": ("data", "split"),
        "checkpoints": (
            "methods",
            "results",
            "instructions",
            "instruction_data",
            "ensemble",
            *CONTROLS.values(),
        ),
        "results": ("instructions", "instruction_data", "ensemble", *CONTROLS.values()),
    }.items():
        for other in others:
            if {name, other} <= given:
                raise UsageError(f"--{name} and --{other}: expected one of them, found both")
    if "results" in given and not given & {"captions", "data", "split"}:
        raise UsageError(
            "--results: the references are missing; give --captions with COCO's file, or --data"
        )
    if "captions" in given and not given & {"images", "results"}:
        raise UsageError("--captions: the images are missing; give their folder as --images")


def _raise_no_folder(data: Path, split: str) -> NoReturn:
    if data.exists():
        raise UsageError(f"--split {split}: {data} is one file; give the folder as --data")
    raise DataError(
        f"{data}: no such folder, expected one with {split}.jsonl; build it with "
        "python lora_training/data_builder.py"
    )


def _names(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = _list(text)
    if not names:
        raise UsageError(f"--methods {text!r}: names none, expected some of them: base,prompt")
    return names


def _list(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
