"""What the commands that serve captions share: options, and the models that stay loaded."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from igrag.cli import at_least
from igrag.commands.clip_scores import load_clip_score
from igrag.config import DEFAULT_CONFIG, Config
from igrag.errors import UsageError

if TYPE_CHECKING:  # torch takes seconds to load: --help must not wait for it.
    from igrag.captioning.captioner import Captioner
    from igrag.captioning.generator import GenerativeModel
    from igrag.serving.engine import CaptionEngine, Choices

_SHORTEST_SECRET = 16


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds --model and --config."""
    add = parser.add_argument
    add("--model", metavar="NAME|PATH", help="a name from the config, a folder, or a hub id")
    add("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE",
        help="default: configs/config.yaml")  # fmt: skip


def add_limit_options(parser: argparse.ArgumentParser) -> None:
    """Adds the limits of what is sent."""
    add = parser.add_argument
    add("--max_upload_mb", type=at_least(1), default=32, metavar="N",
        help="most megabytes of a request (default: 32)")  # fmt: skip
    add("--max_megapixels", type=at_least(1), default=50, metavar="N",
        help="most megapixels of an image (default: 50)")  # fmt: skip


def check_extra(command: str, packages: Mapping[str, str]) -> None:
    """Checks that what a server needs is installed.

    Args:
        command: The command, whose extra has the same name.
        packages: Module -> package.

    Raises:
        UsageError: A package is missing.
    """
    missing = [package for module, package in packages.items() if find_spec(module) is None]
    if missing:
        raise UsageError(
            f"igrag {command} needs {', '.join(missing)}, not installed; "
            f"pip install 'igrag[{command}]'"
        )


def find_secret(
    variable: str, noun: str, exposed_by: str | None, environment: Mapping[str, str]
) -> str | None:
    """Returns what lets other machines in; None: the server is for this machine alone.

    Args:
        variable: The environment variable that has it.
        noun: What it is called.
        exposed_by: The option by which other machines can reach the server; None where they cannot.
        environment: The environment.

    Raises:
        UsageError: It is missing and needed, or it is too short.
    """
    secret = environment.get(variable, "").strip()
    fix = f"export {variable}=$(openssl rand -hex 32)"
    if not secret:
        if exposed_by is not None:
            raise UsageError(
                f"{exposed_by}: other machines can reach it, expected a {noun} in {variable}; {fix}"
            )
        return None
    if len(secret) < _SHORTEST_SECRET:
        raise UsageError(
            f"{variable}: found {len(secret)} characters, expected at least {_SHORTEST_SECRET}; "
            f"{fix}"
        )
    return secret


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """The models, loaded once for every method and every soft prompt of the configuration.

    Attributes:
        engine: Captions images.
        choices: What it can caption with.
        captioner: The pipeline inside it.
        models: By whether the adapter is enabled, the model that generates.
    """

    engine: "CaptionEngine"
    choices: "Choices"
    captioner: "Captioner"
    models: "Mapping[bool, GenerativeModel]"


def load_engine(config: Config, model_path: str, name: str) -> LoadedEngine:
    """Loads the models once, for every method and every soft prompt of the configuration."""
    from igrag.devices import tune_allocator
    from igrag.serving.engine import CaptionEngine, Choice, Choices
    from prompt_tuning.available_prompts import configured_method
    from prompt_tuning.served_methods import load_served_methods

    tune_allocator()
    captioner, served = load_served_methods(config, model_path)
    for key, note in served.notes.items():
        print(f"note: {key}: {note}", file=sys.stderr)
    engine = CaptionEngine(
        captioner,
        served.models,
        named={lora: bool(names) for lora, names in served.prompts.items()},
        model_name=name,
        score=load_clip_score(config),
    )
    choices = Choices(
        methods={method: Choice(*chosen) for method, chosen in served.methods.items()},
        default=configured_method(config),
        prompts=served.names,
    )
    return LoadedEngine(engine, choices, captioner, served.models)


def public_name(model_path: str) -> str:
    """Returns a model's hub id, or its folder's name: clients see no path of this machine."""
    path = Path(model_path)
    return path.name if path.is_absolute() else model_path
