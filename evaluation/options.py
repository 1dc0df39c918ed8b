"""The command line of run_evaluation.py, checked before anything is loaded."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from igrag.config import DEFAULT_CONFIG, REPO_ROOT
from igrag.errors import DataError, UsageError

OUTPUT_DIR = REPO_ROOT / "evaluation" / "results"
# The demo data, scored if no other is given.
_DATA, _IMAGES = REPO_ROOT / "demo" / "data", REPO_ROOT / "demo" / "coco"
_SPLIT, _REPORT_IMAGES = "test", 500
# Options of earlier versions -> today's. Hyphens are accepted for all underscores, too.
_FORMER_OPTIONS = {
    "--force": "--overwrite_output_dir",
    "--pictures": "--images",
    "--report_pictures": "--report_images",
}
_EXAMPLES = """\
examples:
  python evaluation/run_evaluation.py                            the test split of the demo data
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
        results: Caption files to score instead of generating captions.
        methods: The methods to compare; None for all that are trained.
        checkpoints: Output folder of a training whose checkpoints to compare instead.
        limit: Score only the first images, so many.
        output_dir: The output folder.
        report_images: Maximum number of images in the report.
        seed: Seed of the bootstrap.
        skip_metrics: Keys of metrics to leave out.
        overwrite: Replace another evaluation in the output folder.
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
    skip_metrics: frozenset[str]
    overwrite: bool


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="run_evaluation.py", allow_abbrev=False, epilog=_EXAMPLES,
        description="Caption images by every trained method, score the captions, and compare the "
        "methods in a table, a chart and a report.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument_group("data").add_argument
    add("--split", choices=("train", "val", "test"), help="which file of --data; default: test")
    add("--data", type=Path, metavar="PATH",
        help="JSONL with prompts, or a folder of SPLIT.jsonl; default: demo/data")  # fmt: skip
    add("--captions", type=Path, metavar="FILE",
        help="COCO captions file: caption its images, with retrieval")  # fmt: skip
    add("--images", type=Path, metavar="FOLDER",
        help="folder of the images, for --captions and for the report")  # fmt: skip
    add("--results", type=Path, nargs="+", default=[], metavar="FILE",
        help="score these captions (COCO's results format) instead of generating some")  # fmt: skip
    add("--limit", type=_positive, metavar="N", help="score only the first N images")
    add = parser.add_argument_group("methods").add_argument
    add("--methods", metavar="A,B",
        help="some of base,prompt,lora,lora+prompt; default: all that are trained")  # fmt: skip
    add("--checkpoints", type=Path, metavar="FOLDER",
        help="compare all checkpoints of a prompt training and select the best")  # fmt: skip
    _add_output(parser)
    _add_model(parser)
    return parser.parse_args(_current_names(sys.argv[1:] if words is None else words))


def overrides(arguments: argparse.Namespace) -> list[str]:
    """Returns the config keys that the options set, as SECTION.KEY=VALUE."""
    chosen = {"device": arguments.device, "dtype": arguments.dtype}
    options = [f"model_config.{key}={value}" for key, value in chosen.items() if value is not None]
    return [*arguments.set, *options]


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
            data /= f"{split}.jsonl"
        elif arguments.split:
            _raise_no_folder(data, split)
    skip = frozenset(_list(arguments.skip_metrics))
    skip |= {"meteor"} if arguments.meteor == "off" else set()
    return EvaluationOptions(
        captions=arguments.captions,
        data=data,
        images=images,
        results=tuple(arguments.results),
        methods=_names(arguments.methods),
        checkpoints=arguments.checkpoints,
        limit=arguments.limit,
        output_dir=arguments.output_dir or _default_folder(arguments),
        report_images=arguments.report_images,
        seed=arguments.seed,
        skip_metrics=skip,
        overwrite=arguments.overwrite_output_dir,
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("output").add_argument
    add("--output_dir", type=Path, metavar="FOLDER",
        help="default: evaluation/results; its val/ or train/ with --split, its checkpoints/ with "
        "--checkpoints, its files/ with --results")  # fmt: skip
    add("--overwrite_output_dir", action="store_true",
        help="replace another evaluation in the output folder")  # fmt: skip
    add("--report_images", type=_positive, default=_REPORT_IMAGES, metavar="N",
        help="at most N images in report.html, those with the largest gains and losses; default: "
        "%(default)s")  # fmt: skip
    add("--seed", type=_natural, default=0, help="seed of the bootstrap; default: %(default)s")
    add("--skip_metrics", default="", metavar="A,B",
        help="metrics to leave out, by their keys in metrics.json")  # fmt: skip
    add("--meteor", choices=("auto", "off"), default="auto",
        help="off: the same as --skip_metrics meteor, whose start takes ten seconds; auto: compute "
        "it if pycocoevalcap and Java are installed; default: %(default)s")  # fmt: skip


def _add_model(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("model and configuration").add_argument
    add("--model", metavar="NAME|PATH", help="a name from the config, a folder, or a hub id")
    add("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE",
        help="default: configs/config.yaml")  # fmt: skip
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="change a key of the config for this run; can be repeated")  # fmt: skip
    add("--device", help="auto, cpu, cuda, cuda:N or mps")
    add("--dtype", help="auto, float32, bfloat16 or float16")
    add("--verbose", action="store_true", help="log more on stderr")
    add("--debug", action="store_true", help="show tracebacks")


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


def _raise_no_folder(data: Path, split: str) -> NoReturn:
    if data.exists():
        raise UsageError(f"--split {split}: {data} is one file; give the folder as --data")
    raise DataError(
        f"{data}: no such folder, expected one with {split}.jsonl; build it with "
        "python lora_training/train_lora.py --build-data"
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


def _current_names(words: Sequence[str]) -> list[str]:
    """Replaces hyphens in the names of options, and the options of earlier versions."""
    current = []
    for word in words:
        option, equals, value = word.partition("=")
        if option.startswith("--"):
            option = f"--{option[2:].replace('-', '_')}"
            option = _FORMER_OPTIONS.get(option, option)
        current.append(option + equals + value)
    return current


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 1")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 0")
    return int(text)
