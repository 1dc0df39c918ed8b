"""Serves captions over HTTP: images are sent to it, captions come back as JSON.

igrag serve
igrag serve --host 0.0.0.0 --port 8000     (with a token in IGRAG_TOKEN)

It needs the extra "serve": pip install 'igrag[serve]'
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from igrag.cli import (
    CommandParser,
    add_common_options,
    add_config_options,
    at_least,
    config_overrides,
    run_command,
    setup_logging,
)
from igrag.commands.clip_scores import load_clip_score
from igrag.config import DEFAULT_CONFIG, Config, ModelEntry, find_model
from igrag.errors import UsageError

if TYPE_CHECKING:  # torch and FastAPI take seconds to load: --help must not wait for them.
    from fastapi import FastAPI

    from igrag.captioning.captioner import Captioner
    from igrag.captioning.generator import GenerativeModel
    from igrag.serving.engine import CaptionEngine, CaptionItem, Choices

TOKEN = "IGRAG_TOKEN"
_EXTRA = {  # module -> package
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}
_SHORTEST_SECRET = 16


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Checks everything that is cheap, loads the models once, and serves until it is stopped."""
    config = Config.load(arguments.config, config_overrides(arguments))
    log = config.log_config
    setup_logging(log.level, verbose=arguments.verbose, file=log.file)
    model = find_model(config.models, arguments.model)
    check_extra()

    from igrag.serving.server import bind, serve

    token = find_token(arguments.host, os.environ)
    with bind(arguments.host, arguments.port) as bound:
        if model.notice:
            print(f"note: {model.notice}", file=sys.stderr)
        app = load_app(arguments, config, model, token)
        serve(app, bound, stop_seconds=arguments.stop_seconds)
    return 0


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(__doc__ or "")
    add = parser.add_argument
    add("--host", default="127.0.0.1", metavar="HOST",
        help=f"where to listen; other machines need a token, in {TOKEN} (default: 127.0.0.1)",
    )  # fmt: skip
    add("--port", type=at_least(0), default=8000, metavar="N", help="0: any (default: 8000)")
    add("--model", metavar="NAME|PATH", help="a name from the config, a folder, or a hub id")
    add("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE",
        help="default: configs/config.yaml")  # fmt: skip
    add("--batch_size", type=at_least(1), metavar="N",
        help="most images of a batch (default: generation_config.batch_size)")  # fmt: skip
    add("--batch_wait_ms", type=at_least(0), default=5, metavar="N",
        help="how long the first image of a batch waits for others (default: 5)")  # fmt: skip
    add("--queue_size", type=at_least(1), default=64, metavar="N",
        help="images that may wait; more are answered with 429 (default: 64)")  # fmt: skip
    add("--max_upload_mb", type=at_least(1), default=32, metavar="N",
        help="most megabytes of a request (default: 32)")  # fmt: skip
    add("--max_megapixels", type=at_least(1), default=50, metavar="N",
        help="most megapixels of an image (default: 50)")  # fmt: skip
    add("--stop_seconds", type=at_least(1), default=60, metavar="N",
        help="how long accepted requests are worked on after SIGTERM (default: 60)")  # fmt: skip
    add_config_options(parser)
    add_common_options(parser)
    return parser.parse_args(words)


def check_extra(command: str = "serve", packages: Mapping[str, str] = _EXTRA) -> None:
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


def find_token(host: str, environment: Mapping[str, str]) -> str | None:
    """Returns the token that requests must have; None: the server is for this machine alone.

    Raises:
        UsageError: Other machines could reach the server without a token, or it is too short.
    """
    from igrag.serving.server import is_loopback

    exposed_by = None if is_loopback(host) else f"--host {host}"
    return find_secret(TOKEN, "token", exposed_by, environment)


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


def load_app(
    arguments: argparse.Namespace, config: Config, model: ModelEntry, token: str | None
) -> "FastAPI":
    """Loads the models and makes the application around them.

    Raises:
        IgragError: A part is missing or damaged, or belongs to something else.
    """
    from igrag.serving.app import CaptionQueue, ServerOptions, create_app
    from igrag.serving.gate import GateRules
    from igrag.serving.metrics import ServerMetrics

    name = public_name(model.path)
    loaded = load_engine(config, model.path, name)

    def run(items: "Sequence[CaptionItem]") -> list[dict[str, Any]]:
        started = time.perf_counter()
        found = loaded.engine.caption(items)
        metrics.count_batch(len(items), time.perf_counter() - started)
        return found

    queue = CaptionQueue(
        run,
        batch_size=arguments.batch_size or config.generation_config.batch_size,
        wait=arguments.batch_wait_ms / 1000,
        capacity=arguments.queue_size,
    )
    metrics = ServerMetrics(lambda: queue.waiting)
    options = ServerOptions(
        model_name=name,
        top_k=config.retrieval_config.top_k,
        max_pixels=arguments.max_megapixels * 10**6,
        rules=GateRules(token, most_bytes=arguments.max_upload_mb * 10**6),
    )
    return create_app(queue, metrics, loaded.choices, options)


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
    from prompt_tuning.methods import configured_method
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
