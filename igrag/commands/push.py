"""Upload a soft prompt or a LoRA adapter to the hub, with a model card from its training's record.

igrag push prompt_tuning/checkpoints/best_model user/prompt
igrag push lora_training/checkpoints/best user/adapter --private
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from igrag.cli import CommandParser, add_common_options, run_command, setup_logging
from igrag.errors import CheckpointError, DataError
from igrag.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, BASE_NAME, is_file, is_folder, read_json

if TYPE_CHECKING:
    from igrag.training.record import TrainingRecord

_METHOD = "lora"


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Uploads it, prints its address, and returns the exit code."""
    setup_logging("warning", verbose=arguments.verbose)
    path: Path = arguments.path
    is_adapter = is_folder(path) and is_file(path / ADAPTER_CONFIG)
    if is_adapter:
        url, has_card = push_adapter(path, arguments)
    else:
        from prompt_tuning.push import push_prompt

        url, has_card = push_prompt(
            path,
            arguments.repo_id,
            private=arguments.private,
            base_model=arguments.base_model,
            license_id=arguments.license,
            replace_card=arguments.overwrite_card,
        )
    if not has_card:
        print(
            f"note: {arguments.repo_id}: keeps its model card; --overwrite_card writes a new one",
            file=sys.stderr,
        )
    print(url)
    return 0


def push_adapter(path: Path, arguments: argparse.Namespace) -> tuple[str, bool]:
    """Uploads an adapter's files, byte for byte, and a model card; see `push_prompt`.

    Raises:
        IgragError: It is damaged or no LoRA adapter, or cannot be uploaded.
    """
    from igrag.captioning.adapters import check_adapter
    from igrag.hub import CARD_NAME, upload
    from igrag.training.checkpoints import find_record
    from igrag.training.model_card import model_card

    check_adapter(path)
    record = find_record(path, _METHOD)
    card = model_card(
        arguments.repo_id,
        method=_METHOD,
        base_model=arguments.base_model or _base_model(path, record),
        facts=_facts(path),
        record=record,
        checkpoint=path.resolve().name,
        license_id=arguments.license,
    )
    names = [name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, BASE_NAME) if is_file(path / name)]
    return upload(
        {**{name: path / name for name in names}, CARD_NAME: card.encode()},
        arguments.repo_id,
        private=arguments.private,
        message="Upload LoRA adapter",
        replace_card=arguments.overwrite_card,
    )


def _facts(path: Path) -> dict[str, str]:
    from igrag.captioning.adapter_config import check_adapter_config

    config = check_adapter_config(path)
    return {
        "rank": f"{config.r}, lora_alpha {config.lora_alpha}",
        "adapted layers": str(config.target_modules),
    }


def _base_model(path: Path, record: "TrainingRecord | None") -> str | None:
    """Returns the base model's name as the record, or else PEFT's configuration has it.

    Raises:
        CheckpointError: The configuration cannot be read.
    """
    if record is not None:
        return record.model.name
    try:
        found = read_json(path / ADAPTER_CONFIG).get("base_model_name_or_path")
    except DataError as error:
        raise CheckpointError(str(error)) from None
    return found if isinstance(found, str) else None


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(__doc__ or "")
    add = parser.add_argument
    add("path", type=Path, metavar="PROMPT_OR_ADAPTER",
        help="prompt_embeddings.pt, the folder that holds it, or an adapter's folder")  # fmt: skip
    add("repo_id", metavar="USER/NAME", help="the model repository; it is created if missing")
    add("--private", action="store_true", help="only its owner may see the repository")
    add("--license", metavar="ID", help="license in the card's metadata; default: none")
    add("--base_model", metavar="ID",
        help="hub id of the base model in the card; default: as the training's record")  # fmt: skip
    add("--overwrite_card", action="store_true", help="replace a model card that is there")
    add_common_options(parser)
    return parser.parse_args(words)
