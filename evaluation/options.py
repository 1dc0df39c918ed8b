"""The command line of run_evaluation.py: read, and checked before anything is loaded."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from igrag.config import DEFAULT_CONFIG, REPO_ROOT
from igrag.errors import DataError, UsageError

OUTPUT_DIR = REPO_ROOT / "evaluation" / "results"
# The miniature's, scored when nothing else is named.
_DATA, _IMAGES = REPO_ROOT / "demo" / "data", REPO_ROOT / "demo" / "coco"
_SPLIT, _REPORT_IMAGES = "test", 500
_EXAMPLES = """\
examples:
  python evaluation/run_evaluation.py                            the miniature's test split
  python evaluation/run_evaluation.py --data lora_training/data --split val
  python evaluation/run_evaluation.py --config configs/coco_flan_t5.yaml \\
      --captions captions_val2017.json --images val2017
  python evaluation/run_evaluation.py --captions captions_val2017.json --results mine.json
  python evaluation/run_evaluation.py --split val --checkpoints prompt_tuning/checkpoints
"""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Attributes:
        captions: A COCO captions file; None where `data` is given.
        data: A JSONL file; None where `captions` is given.
        images: The folder of the images, if it is known.
        results: Captions that are there already, instead of writing any.
        methods: The methods to compare; None for all there are.
        checkpoints: Compare those of this training instead.
        limit: Score so many images, the first of the file.
        output_dir: Where everything goes.
        report_images: Most images in the report.
        seed: Of the bootstrap.
        meteor: Whether to compute METEOR, where it can be had.
        force: Replace whatever evaluation the folder holds.
    """

    captions: Path | None
    data: Path | None
    images: Path | None
    results: tuple[Path, ...]
    methods: tuple[str, ...] | None
    checkpoints: Path | None
    limit: int | None
    output_dir: Path
    report_images: int
    seed: int
    meteor: bool
    force: bool


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="run_evaluation.py", allow_abbrev=False, epilog=_EXAMPLES,
        description="Caption images with every method that is trained, score what they wrote, "
        "and lay it side by side.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument_group("what is scored").add_argument
    add("--split", choices=("train", "val", "test"), help="which file of --data; default: test")
    add("--data", type=Path, metavar="PATH",
        help="JSONL with prompts, or a folder of SPLIT.jsonl; default: demo/data")  # fmt: skip
    add("--captions", type=Path, metavar="FILE",
        help="COCO captions: caption its images, retrieval and all")  # fmt: skip
    add("--images", type=Path, metavar="FOLDER",
        help="the images; for --captions, and to be seen in the report")  # fmt: skip
    add("--results", type=Path, nargs="+", default=[], metavar="FILE",
        help="score these captions in COCO's results format instead of writing any")  # fmt: skip
    add("--limit", type=_positive, metavar="N", help="only the first N images")
    add = parser.add_argument_group("what is compared").add_argument
    add("--methods", metavar="A,B", help="of base,prompt,lora,lora+prompt; default: all trained")
    add("--checkpoints", type=Path, metavar="FOLDER",
        help="every checkpoint of a prompt training instead, and which is best")  # fmt: skip
    _add_output(parser)
    _add_model(parser)
    return parser.parse_args(words)


def overrides(arguments: argparse.Namespace) -> list[str]:
    """The config keys that have an option of their own."""
    chosen = {"device": arguments.device, "dtype": arguments.dtype}
    options = [f"model_config.{key}={value}" for key, value in chosen.items() if value is not None]
    return [*arguments.set, *options]


def check(arguments: argparse.Namespace) -> Request:
    """Finds out what is asked for.

    Raises:
        UsageError: Options that contradict one another, or need another one.
        DataError: The folder of a split is not there.
    """
    _check_options(arguments)
    data, images = arguments.data, arguments.images
    if arguments.captions is None:
        split = arguments.split or _SPLIT
        if data is None:
            data, images = _DATA, images or _IMAGES / split
        if data.is_dir():
            data /= f"{split}.jsonl"
        elif arguments.split:
            _explain_no_folder(data, split)
    return Request(
        captions=arguments.captions,
        data=data,
        images=images,
        results=tuple(arguments.results),
        methods=_split_names(arguments.methods),
        checkpoints=arguments.checkpoints,
        limit=arguments.limit,
        output_dir=arguments.output_dir or _default_folder(arguments),
        report_images=arguments.report_images,
        seed=arguments.seed,
        meteor=arguments.meteor == "auto",
        force=arguments.force,
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what comes out").add_argument
    add("--output_dir", type=Path, metavar="FOLDER",
        help="default: evaluation/results; its val/ or train/ with --split, its checkpoints/ with "
        "--checkpoints, its files/ with --results")  # fmt: skip
    add("--force", action="store_true",
        help="replace an evaluation of something else in the folder")  # fmt: skip
    add("--report_images", type=_positive, default=_REPORT_IMAGES, metavar="N",
        help="most images in report.html, of the greatest gains and losses; default: "
        "%(default)s")  # fmt: skip
    add("--seed", type=_natural, default=0, help="of the bootstrap; default: %(default)s")
    add("--meteor", choices=("auto", "off"), default="auto",
        help="auto: where pycocoevalcap and Java are installed, which takes some ten seconds; "
        "default: %(default)s")  # fmt: skip


def _add_model(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("as main.py has them").add_argument
    add("--model", metavar="NAME|PATH", help="a name from the config, a folder, or a hub id")
    add("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE",
        help="default: configs/config.yaml")  # fmt: skip
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="change a key of the config for this run; may be given again")  # fmt: skip
    add("--device", help="auto, cpu, cuda, cuda:N or mps")
    add("--dtype", help="auto, float32, bfloat16 or float16")
    add("--verbose", action="store_true", help="tell more on stderr")
    add("--debug", action="store_true", help="show tracebacks")


def _default_folder(arguments: argparse.Namespace) -> Path:
    """Gives each kind of comparison a folder of its own."""
    if arguments.results:
        return OUTPUT_DIR / "files"
    if arguments.checkpoints:
        return OUTPUT_DIR / "checkpoints"
    other = arguments.split not in (None, _SPLIT)
    return OUTPUT_DIR / arguments.split if other else OUTPUT_DIR


def _check_options(arguments: argparse.Namespace) -> None:
    given = {name for name, value in vars(arguments).items() if value not in (None, [])}
    for name, others in {
        "captions": ("data", "split"),
        "checkpoints": ("methods", "results"),
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


def _explain_no_folder(data: Path, split: str) -> NoReturn:
    if data.exists():
        raise UsageError(f"--split {split}: {data} is one file; give the folder as --data")
    raise DataError(
        f"{data}: no such folder, expected one with {split}.jsonl; build it with "
        "python lora_training/train_lora.py --build-data"
    )


def _split_names(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UsageError(f"--methods {text!r}: names none, expected some of them: base,prompt")
    return names


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 1")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 0")
    return int(text)
