"""Builds training data and trains a LoRA adapter: python lora_training/train_lora.py --all."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Python puts this script's folder on the path, not the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from igrag.cli import run, setup_logging
from igrag.config import DEFAULT_CONFIG, Config, find_model, quote
from igrag.errors import UsageError
from lora_training.settings import DEFAULT_SETTINGS, LoraSettings

_VAL_KEYS = ("data.val_captions_path", "data.val_images_path")
_NULLS = ("null", "~", "")  # as YAML writes it
# The actions that heed an option; given with none of them it would be passed over in silence.
_BUILDS, _TRAINS = ("--build-data", "--all"), ("--train", "--all")
_EITHER = ("--build-data", "--train", "--all")
_HEEDED_BY = {
    **dict.fromkeys(("--sample-count", "--train-ratio", "--force-rebuild"), _BUILDS),
    **dict.fromkeys(("--output_dir", "--resume_from_checkpoint", "--report_to"), _TRAINS),
    **dict.fromkeys(("--lora-config", "--main-config", "--seed", "--output-data"), _EITHER),
    **dict.fromkeys(("--set", "--device", "--dtype"), _EITHER),
}
_OPTIONS = {
    "data.sample_count": "--sample-count",
    "data.train_ratio": "--train-ratio",
    "data.seed": "--seed",
    "data.output_data": "--output-data",
    "training.seed": "--seed",
    "training.output_dir": "--output_dir",
    "training.report_to": "--report_to",
}
_EXIT_USAGE = 2
_EXIT_LEAKS = 1


def main(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Does what the arguments ask for and returns the exit code."""
    _check_options(arguments, parser)
    if arguments.audit:
        return audit(arguments.audit)
    builds, trains = arguments.build_data or arguments.all, arguments.train or arguments.all
    if not (builds or trains):
        parser.print_help(sys.stderr)
        return _EXIT_USAGE
    settings = LoraSettings.load(
        arguments.lora_config, _overrides(arguments), options=_typed(arguments)
    )
    config = Config.load(arguments.main_config, _main_overrides(arguments))
    model_path = find_model(config.models, settings.model.name, option="model.name").path
    setup_logging(config.log_config.level, verbose=arguments.verbose, file=config.log_config.file)
    if trains:  # before the data take their time
        check_output(settings, arguments.resume_from_checkpoint)
    if builds:
        from lora_training.data_assembly import build_data

        build_data(settings.data, config, model_path, force=arguments.force_rebuild)
    if trains:
        from lora_training.training import train

        train(settings, config, model_path, resume=arguments.resume_from_checkpoint)
    return 0


def parse_arguments(
    words: Sequence[str] | None = None,
) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    """Reads the command line; the parser comes along to print its help."""
    parser = argparse.ArgumentParser(
        prog="train_lora.py", description="Build training data, train an adapter.",
        allow_abbrev=False,
    )  # fmt: skip
    add = parser.add_argument
    add("--build-data", action="store_true", help="write train.jsonl and val.jsonl")
    add("--train", action="store_true", help="train on them, and write checkpoints and best")
    add("--all", action="store_true", help="both")
    add("--audit", type=Path, nargs="+", metavar="JSONL",
        help="list prompts that hold their own answer; exit 1 if there are any")  # fmt: skip
    add("--lora-config", type=Path, default=DEFAULT_SETTINGS, metavar="FILE",
        help="default: lora_training/config/lora_config.yaml")  # fmt: skip
    add("--main-config", type=Path, default=DEFAULT_CONFIG, metavar="FILE",
        help="default: configs/config.yaml")  # fmt: skip
    add("--sample-count", type=int, metavar="N", help="images to take")
    add("--train-ratio", type=float, metavar="R",
        help="split captions_path so, instead of using val_captions_path")  # fmt: skip
    add("--seed", type=int, metavar="N", help="of the data and of the training")
    add("--output-data", type=Path, metavar="FOLDER", help="for train.jsonl and val.jsonl")
    add("--output_dir", type=Path, metavar="FOLDER", help="for checkpoints and all_results.json")
    add("--force-rebuild", action="store_true", help="replace data that is there")
    add("--resume_from_checkpoint", metavar="latest|PATH",
        help="go on from a checkpoint of the output folder")  # fmt: skip
    add("--report_to", metavar="none|tensorboard")
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="change a key of the LoRA config for this run; may be given again")  # fmt: skip
    add("--device", help="auto, cpu, cuda, cuda:0 or mps")
    add("--dtype", help="of the frozen model: auto, float32, bfloat16 or float16")
    add("--verbose", action="store_true", help="tell more on stderr")
    add("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args(words), parser


def check_output(settings: LoraSettings, resume: str | None) -> None:
    """Makes sure that the output folder is free, or has what to go on from."""
    from lora_training.checkpoints import AdapterFolder

    folder = AdapterFolder(settings.training.output_dir)
    if resume is None:
        folder.refuse_to_overwrite()
    else:
        folder.find(resume)


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


def _check_options(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuses options of which one would be passed over.

    Raises:
        UsageError: There are such.
    """

    def is_given(option: str) -> bool:
        default = parser.get_default(option.removeprefix("--").replace("-", "_"))
        return bool(_value(arguments, option) != default)

    chosen = [action for action in _EITHER if is_given(action)]
    if arguments.audit and chosen:
        raise UsageError(f"--audit and {chosen[0]}: found both, expected one; audit afterwards")
    for option, actions in _HEEDED_BY.items():
        if is_given(option) and (chosen or arguments.audit) and not {*chosen} & {*actions}:
            raise UsageError(f"{option}: is only for {' or '.join(actions)}; leave it out")
    if arguments.train_ratio is None:
        return
    for override in arguments.set:
        key, _, value = override.partition("=")
        if key.strip() in _VAL_KEYS and value.strip().lower() not in _NULLS:
            raise UsageError(
                f"--train-ratio and --set {override}: found both, expected one; images of their "
                "own validate, or a share of captions_path does"
            )


def _overrides(arguments: argparse.Namespace) -> list[str]:
    given = {key: _value(arguments, option) for key, option in _typed(arguments).items()}
    overrides = [*arguments.set, *(f"{key}={_yaml(value)}" for key, value in given.items())]
    if arguments.train_ratio is not None:
        overrides += [f"{key}=null" for key in _VAL_KEYS]
    return overrides


def _typed(arguments: argparse.Namespace) -> dict[str, str]:
    """Names the keys that options of their own set, and those options."""
    return {key: word for key, word in _OPTIONS.items() if _value(arguments, word) is not None}


def _value(arguments: argparse.Namespace, option: str) -> object:
    return getattr(arguments, option.removeprefix("--").replace("-", "_"))


def _yaml(value: object) -> str:
    """Writes an option's value in YAML."""
    return quote(str(value)) if isinstance(value, Path) else str(value)


def _main_overrides(arguments: argparse.Namespace) -> list[str]:
    options = {"device": arguments.device, "dtype": arguments.dtype}
    return [f"model_config.{key}={value}" for key, value in options.items() if value is not None]


if __name__ == "__main__":
    parsed, help_parser = parse_arguments()
    sys.exit(run(lambda: main(parsed, help_parser), debug=parsed.debug))
