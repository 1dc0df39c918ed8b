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
from igrag.commands.served_models import (
    add_limit_options,
    add_model_options,
    check_extra,
    find_secret,
    load_engine,
    public_name,
)
from igrag.config import Config, ModelEntry, find_model

if TYPE_CHECKING:  # torch and FastAPI take seconds to load: --help must not wait for them.
    from fastapi import FastAPI

    from igrag.serving.engine import CaptionItem

TOKEN = "IGRAG_TOKEN"
_EXTRA = {  # module -> package
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Checks everything that is cheap, loads the models once, and serves until it is stopped."""
    config = Config.load(arguments.config, config_overrides(arguments))
    log = config.log_config
    setup_logging(log.level, verbose=arguments.verbose, file=log.file)
    model = find_model(config.models, arguments.model)
    check_extra("serve", _EXTRA)

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
    add_model_options(parser)
    add("--batch_size", type=at_least(1), metavar="N",
        help="most images of a batch (default: generation_config.batch_size)")  # fmt: skip
    add("--batch_wait_ms", type=at_least(0), default=5, metavar="N",
        help="how long the first image of a batch waits for others (default: 5)")  # fmt: skip
    add("--queue_size", type=at_least(1), default=64, metavar="N",
        help="images that may wait; more are answered with 429 (default: 64)")  # fmt: skip
    add_limit_options(parser)
    add("--stop_seconds", type=at_least(1), default=60, metavar="N",
        help="how long accepted requests are worked on after SIGTERM (default: 60)")  # fmt: skip
    add_config_options(parser)
    add_common_options(parser)
    return parser.parse_args(words)


def find_token(host: str, environment: Mapping[str, str]) -> str | None:
    """Returns the token that requests must have; None: the server is for this machine alone.

    Raises:
        UsageError: Other machines could reach the server without a token, or it is too short.
    """
    from igrag.serving.server import is_loopback

    exposed_by = None if is_loopback(host) else f"--host {host}"
    return find_secret(TOKEN, "token", exposed_by, environment)


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
