"""Opens a page in the browser: drop an image, and see its captions by every trained method.

igrag app
igrag app --host 0.0.0.0     (with a password in IGRAG_PASSWORD)

It needs the extra "app": pip install 'igrag[app]'
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
    LoadedEngine,
    add_limit_options,
    add_model_options,
    check_extra,
    find_secret,
    load_engine,
    public_name,
)
from igrag.config import REPO_ROOT, Config, ModelEntry, find_model, portable
from igrag.errors import ImageError, UsageError

if TYPE_CHECKING:  # torch and Gradio take seconds to load: --help must not wait for them.
    from fastapi import FastAPI

    from igrag.app.live_captions import Explain
    from igrag.data.coco import ImageId

PASSWORD = "IGRAG_PASSWORD"
_EXTRA = {"gradio": "gradio"}
_EXAMPLES = REPO_ROOT / "input"
_DEMO = REPO_ROOT / "demo"
_RESULTS = REPO_ROOT / "evaluation" / "results"
_RUNS = tuple(REPO_ROOT / recipe / "checkpoints" for recipe in ("prompt_tuning", "lora_training"))
_STOP_SECONDS = 3  # An open page keeps its connection: it is not waited for.


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Checks everything that is cheap, loads the models once, and serves the page."""
    config = Config.load(arguments.config, config_overrides(arguments))
    log = config.log_config
    setup_logging(log.level, verbose=arguments.verbose, file=log.file)
    model = find_model(config.models, arguments.model)
    check_extra("app", _EXTRA)

    from igrag.serving.server import bind, is_loopback, serve

    exposed_by = None if is_loopback(arguments.host) else f"--host {arguments.host}"
    if arguments.share:
        exposed_by = "--share"
    password = find_secret(PASSWORD, "password", exposed_by, os.environ)
    with bind(arguments.host, arguments.port) as bound:
        if model.notice:
            print(f"note: {model.notice}", file=sys.stderr)
        app = load_page(arguments, config, model, password)
        if password is not None:
            from igrag.app.page import USER

            print(f"note: log in as {USER} with the password in {PASSWORD}", file=sys.stderr)
        if arguments.share:
            address = share(*bound.getsockname()[:2])
            print(f"note: shared at {address}", file=sys.stderr)
        serve(app, bound, stop_seconds=_STOP_SECONDS)
    return 0


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(__doc__ or "")
    add = parser.add_argument
    add("--host", default="127.0.0.1", metavar="HOST",
        help=f"where to listen; other machines need a password, in {PASSWORD} (default: "
        "127.0.0.1)")  # fmt: skip
    add("--port", type=at_least(0), default=7860, metavar="N", help="0: any (default: 7860)")
    add("--share", action="store_true",
        help=f"a public address through Gradio's servers, with the password in {PASSWORD}; the "
        "one thing that needs a network")  # fmt: skip
    add_model_options(parser)
    add("--images", type=Path, metavar="FOLDER",
        help="the images of the knowledge base, shown where they are found (default: the demo's, "
        "for its own knowledge base)")  # fmt: skip
    add("--examples", type=Path, default=_EXAMPLES, metavar="FOLDER",
        help="images to choose from (default: input/)")  # fmt: skip
    add("--results", type=Path, nargs="+", default=[_RESULTS], metavar="FOLDER",
        help="where evaluations are looked for (default: evaluation/results)")  # fmt: skip
    add("--runs", type=Path, nargs="+", default=list(_RUNS), metavar="FOLDER",
        help="where training runs are looked for (default: prompt_tuning/checkpoints and "
        "lora_training/checkpoints)")  # fmt: skip
    add_limit_options(parser)
    add_config_options(parser)
    add_common_options(parser)
    return parser.parse_args(words)


def load_page(
    arguments: argparse.Namespace, config: Config, model: ModelEntry, password: str | None
) -> "FastAPI":
    """Loads the models and makes the application around them.

    Raises:
        IgragError: A part is missing or damaged, or belongs to something else.
    """
    from igrag.app.evaluations import Evaluations
    from igrag.app.live_captions import LiveCaptions
    from igrag.app.page import PageOptions, create_page
    from igrag.app.training_runs import TrainingRuns
    from igrag.data.images import list_images
    from igrag.serving.gate import GateRules

    files = find_images(arguments.images, config)
    examples = list_images(arguments.examples) if arguments.examples.exists() else []
    loaded = load_engine(config, model.path, public_name(model.path))
    live = LiveCaptions(
        loaded.engine,
        loaded.choices,
        max_pixels=arguments.max_megapixels * 10**6,
        files=files,
        explain=explanation(config, loaded),
    )
    options = PageOptions(
        top_k=config.retrieval_config.top_k,
        beams=config.generation_config.num_beams,
        examples=examples,
        evaluations=Evaluations(_by_name(arguments.results)),
        runs=TrainingRuns(_by_name(arguments.runs)),
        rules=GateRules(
            None, most_bytes=arguments.max_upload_mb * 10**6, asks_password=password is not None
        ),
        password=password,
    )
    return create_page(live, options)


def find_images(folder: Path | None, config: Config) -> "dict[ImageId, Path]":
    """Returns the files of the knowledge base's images by id, as far as they are there.

    Args:
        folder: Where they lie; None: the demo's for a knowledge base of the demo, else nowhere.
        config: The whole configuration.

    Raises:
        UsageError: The folder is missing or has no image.
    """
    from igrag.data.image_folder import find_files
    from igrag.retrieval.knowledge_base import KnowledgeBase

    path = config.knowledge_base_config.path
    given = folder is not None
    if folder is None:
        is_demo = _DEMO.resolve() in path.resolve().parents
        folder = _DEMO / "coco" / "train" if is_demo else None
    if folder is None or not (given or folder.is_dir()):
        return {}
    try:
        return find_files(folder, KnowledgeBase.open(path).image_ids)
    except ImageError as error:
        raise UsageError(f"--images {error}") from None


def explanation(config: Config, loaded: LoadedEngine) -> "Explain | None":
    """Returns what explains a caption; None where the model returns no attention."""
    if config.models.attn_implementation != "eager":
        return None

    from PIL import Image

    from igrag.captioning.generator import Decoding
    from igrag.captioning.retrieval_prompts import RetrievedPrompt
    from igrag.from_config import build_template
    from igrag.serving.engine import Choice
    from prompt_tuning.analysis.caption_explainer import CaptionExplainer

    explainer = CaptionExplainer(
        loaded.captioner, loaded.models, build_template(config.prompt_config)
    )

    def explain(
        image: Image.Image, name: str, found: RetrievedPrompt, choice: Choice, decoding: Decoding
    ) -> str:
        assert choice.prompt is not None  # Those without a soft prompt are not offered.
        loaded.captioner.generator.decode_with(decoding)
        return explainer.explain(
            image, name, found, lora=choice.lora, prompt=choice.prompt,
            title=choice.prompt_name or choice.prompt,
        )  # fmt: skip

    return explain


def _by_name(folders: Sequence[Path]) -> dict[str, Path]:
    return {portable(folder): folder for folder in folders}


def share(host: str, port: int) -> str:
    """Returns the public address of a local port, through Gradio's servers.

    Raises:
        UsageError: They cannot be reached.
    """
    from secrets import token_urlsafe

    from gradio.networking import setup_tunnel

    try:
        return str(setup_tunnel(host, port, token_urlsafe(32), None, None))
    except Exception as error:  # The library raises whatever its parts do.
        reason = " ".join(str(error).split())
        raise UsageError(f"--share: {reason}; leave it out, or use --host") from None
