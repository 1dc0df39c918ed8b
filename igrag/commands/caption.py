"""Captions images: arguments -> configuration -> captioner -> text or JSON."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from igrag.captioning.caption_requests import CaptionRequest, read_requests, used_names
from igrag.captioning.exported_model import read_export
from igrag.captioning.results_file import ResultsFile, open_results
from igrag.cli import (
    CommandParser,
    add_common_options,
    add_config_options,
    config_overrides,
    error_line,
    is_stdout_closed,
    run_command,
    setup_logging,
)
from igrag.commands.caption_batch import RetrievedBatches, as_json, as_text, caption_batch
from igrag.commands.clip_scores import load_clip_score
from igrag.config import DEFAULT_CONFIG, Config, ModelEntry, find_model
from igrag.config.choices import Engine
from igrag.config.choices import words as words_of
from igrag.devices import agree_on_dtypes
from igrag.errors import ImageError, UsageError
from igrag.files import is_folder, may_be_hub_id
from igrag.processes import Processes, joined_processes

if TYPE_CHECKING:  # torch and transformers take seconds to load: --help must not wait for them.
    from igrag.captioning.captioner import Captioner
    from igrag.captioning.exported_model import ExportedModel
    from igrag.captioning.generator import GenerativeModel

_EXIT_SOME_FAILED = 1


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Opens where the results go, captions every image, and returns the exit code.

    Of several processes the first one prints and writes; all of them caption.
    """
    with joined_processes() as processes:
        if arguments.output is not None and not arguments.json:
            raise UsageError("--output: is a file of JSON lines, expected --json too")
        if arguments.output is None and is_stdout_closed():
            raise UsageError(
                "stdout is closed, so captions would be lost; give --json --output FILE"
            )
        if arguments.compare and (arguments.prompt or arguments.requests):
            raise UsageError(
                "--compare: compares methods, expected neither --prompt nor --requests"
            )
        opened = open_results(arguments.output, resume=arguments.resume)
        with opened if processes.ranks.is_first else nullcontext() as results:
            return caption_images(arguments, processes, results)


def caption_images(
    arguments: argparse.Namespace, processes: Processes, results: ResultsFile | None
) -> int:
    """Loads the configuration and the models, captions every image, and returns the exit code."""
    overrides = config_overrides(arguments)
    keys = {"retrieval_config.top_k": arguments.top_k, "model_config.engine": arguments.engine}
    overrides += [f"{key}={value}" for key, value in keys.items() if value is not None]
    config = Config.load(arguments.config, overrides)
    log = config.log_config
    setup_logging(log.level, verbose=arguments.verbose, file=log.file)
    agree_on_dtypes(processes)
    model = find_model(config.models, arguments.model)
    empty: list[str] = []
    requests = _from_first(processes, "requests", lambda: _find_requests(arguments, empty))
    prompts = _from_hub(arguments.prompt) | config.prompt_tuning.prompts
    names = used_names(requests, prompts, key="prompt_tuning.prompts")
    if config.models.engine != "torch" and (names or arguments.compare):
        raise UsageError(
            f"--{'compare' if arguments.compare else 'prompt'}: needs --engine torch, found "
            f"{config.models.engine}: an exported model has one soft prompt, that of its folder"
        )
    facts = partial(_facts, config, model, _read_export(config, model))

    def find_todo() -> list[CaptionRequest]:
        if results is None:
            return requests
        results.check_settings(facts)
        return _leave_out_done(requests, results)

    todo = _from_first(processes, "todo", find_todo)
    is_first = processes.ranks.is_first
    failures = _errors_before_first_image(todo)
    if len(failures) == len(todo):  # before any model is loaded
        return _report_failures(empty, failures, len(todo)) if is_first else 0
    if model.notice and is_first:
        print(f"note: {model.notice}", file=sys.stderr)
    named = {name: prompts[name] for name in names}
    batches = _caption_all(arguments, config, model, named, todo, processes, facts)
    size = config.generation_config.batch_size
    hidden = len(todo) == 1 or not is_first
    failures = []
    try:
        _write_all(batches, results, failures, total=len(todo), size=size, hidden=hidden)
    finally:  # An interruption does not hide what failed before it.
        code = _report_failures(empty, failures, len(todo)) if is_first else 0
    return code


def _caption_all(
    arguments: argparse.Namespace,
    config: Config,
    model: ModelEntry,
    named: Mapping[str, Path],
    requests: Sequence[CaptionRequest],
    processes: Processes,
    facts: Callable[[str | None], dict[str, object]],
) -> Iterator[list[list[str]]]:
    """Loads the models, and yields for each batch its lines and the errors of its images.

    The processes share the batches, and only the first one yields. `named` are the soft prompts
    that are used by name; `facts` returns the keys of a result that say how it was made.
    """
    from igrag.from_config import for_process

    config = for_process(config, processes.ranks)
    quiet = not processes.ranks.is_first
    captioner, methods = _load(config, model, named, compare=arguments.compare, quiet=quiet)
    score = load_clip_score(config) if arguments.json else None
    batches = RetrievedBatches(captioner, requests, config.generation_config.batch_size)

    def caption(number: int) -> list[list[str]]:
        lines: list[str] = []
        batch = batches.batch(number)
        for request, found, seconds, captions in caption_batch(
            captioner, methods, batch, config, by_name=bool(named)
        ):
            if not arguments.json:
                lines.append(as_text(request, found, captions))
                continue
            for name, result in zip(request.prompt_names, found, strict=True):
                own = {} if request.request_id is None else {"id": request.request_id}
                lines.append(as_json(
                    request.image, result, seconds, facts(name) | own,
                    captions=captions, score=score, to_file=arguments.output is not None,
                ))  # fmt: skip
        return [lines, batch.failures]

    return processes.in_order("captions", len(batches), caption, together=batches.together)


def _write_all(
    batches: Iterator[list[list[str]]],
    results: ResultsFile | None,
    failures: list[str],
    *,
    total: int,
    size: int,
    hidden: bool,
) -> None:
    """Writes the lines of each batch to the file, or else to stdout; collects the errors."""
    from tqdm import tqdm

    with tqdm(total=total, unit="image", file=sys.stderr, disable=hidden or None) as bar:
        for lines, errors in batches:
            failures += errors
            for line in lines:
                if results:
                    results.add(line)
                    continue
                with tqdm.external_write_mode():
                    print(line, flush=True)
            bar.update(min(size, total - bar.n))


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser("Caption images by retrieval.")
    add = parser.add_mutually_exclusive_group(required=True).add_argument
    add("--i", "--input", dest="input", type=Path, nargs="+", action="extend",
        metavar="PATH", help="images, or folders of images; may be given again")  # fmt: skip
    add("--requests", type=Path, metavar="FILE",
        help='JSONL of images: {"image": PATH, "prompt_name": NAME, "id": ID}, the last two '
        "optional")  # fmt: skip
    add = parser.add_argument
    add("--recursive", action="store_true", help="caption the images in subfolders too")
    add("--model", metavar="NAME|PATH", help="a name from the config, a folder, or a hub id")
    add("--engine", choices=words_of(Engine),
        help="what runs the model; ctranslate2: one of igrag export, as --model")  # fmt: skip
    add("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE",
        help="default: configs/config.yaml")  # fmt: skip
    add("--top_k", type=int, metavar="N", help="similar images to use")
    add("--prompt", action="append", default=[], metavar="NAME",
        help="use the soft prompt of this name in prompt_tuning.prompts, or of this hub id; given "
        "again: a caption with each")  # fmt: skip
    add("--compare", action="store_true",
        help="caption with and without soft prompt and LoRA, where they are trained")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object a line")
    add("--output", type=Path, metavar="FILE",
        help="with --json: write the lines to this file, each as soon as it is known")  # fmt: skip
    add("--resume", action="store_true", help="continue the file, with the images that it lacks")
    add_config_options(parser)
    add_common_options(parser)
    return parser.parse_args(words)


def _read_export(config: Config, model: ModelEntry) -> "ExportedModel | None":
    """Returns what is known of a model for another engine than torch."""
    engine = config.models.engine
    return None if engine == "torch" else read_export(Path(model.path), runtime=engine)


def _facts(
    config: Config,
    model: ModelEntry,
    exported: "ExportedModel | None",
    prompt_name: str | None,
) -> dict[str, object]:
    """Returns the keys of a result that say how it was made."""
    facts: dict[str, object] = {
        "model": model.path,
        "prompt_tuning": config.prompt_tuning.enabled or prompt_name is not None,
        "lora": config.lora_config.enabled,
    }
    if exported is not None:
        facts |= {"engine": config.models.engine, "prompt_tuning": True, "lora": exported.lora}
    return facts if prompt_name is None else {**facts, "prompt_name": prompt_name}


def _from_first(
    processes: Processes, key: str, make: Callable[[], list[CaptionRequest]]
) -> list[CaptionRequest]:
    """Returns in every process the requests that the first one finds."""
    found: list[CaptionRequest] = []

    def to_json() -> list[list[object]]:
        found.extend(make())
        return [
            [str(each.image), each.prompt_names, each.request_id, each.origin] for each in found
        ]

    if processes.ranks.size == 1:
        return make()
    sent = processes.from_first(key, to_json)
    if processes.ranks.is_first:
        return found
    return [CaptionRequest(Path(image), tuple(names), *more) for image, names, *more in sent]


def _find_requests(arguments: argparse.Namespace, empty: list[str]) -> list[CaptionRequest]:
    """Lists what to caption; adds an error for each folder without images to `empty`."""
    names = tuple(dict.fromkeys(arguments.prompt))
    if arguments.requests is not None:
        return read_requests(arguments.requests, names)
    images = _find_images(arguments.input, empty, recursive=arguments.recursive)
    return [CaptionRequest(image, names or (None,)) for image in images]


def _from_hub(names: Sequence[str]) -> dict[str, Path]:
    """Returns the prompts that are named by their hub ids; each is its own name."""
    return {name: Path(name) for name in names if may_be_hub_id(name)}


def _leave_out_done(requests: list[CaptionRequest], results: ResultsFile) -> list[CaptionRequest]:
    """Returns the requests without a result, with a note on stderr if others have one."""
    remaining = results.remaining(requests)
    total, left = (sum(len(one.prompt_names) for one in each) for each in (requests, remaining))
    if left < total:
        done = f"{total - left} of {total}"
        print(f"note: {results.path}: has {done} images already", file=sys.stderr)
    return remaining


def _find_images(inputs: Sequence[Path], empty: list[str], *, recursive: bool) -> list[Path]:
    """Lists the images of files and folders; adds an error for each folder that has none.

    What a folder holds besides is printed on stderr, in one line.
    """
    from igrag.data.image_folder import list_folder

    paths: list[Path] = []
    for item in inputs:
        if not is_folder(item):
            paths.append(item)
            continue
        try:
            listed = list_folder(item, recursive=recursive)
        except ImageError as error:
            empty.append(str(error))
            continue
        paths += listed.images
        if others := listed.describe_others():
            print(f"note: {item}: {others}", file=sys.stderr)
    return paths


def _errors_before_first_image(requests: Sequence[CaptionRequest]) -> list[str]:
    """Opens images until one can be opened; returns the errors of those before it."""
    from igrag.data.images import open_image

    reasons = []
    for request in requests:
        try:
            open_image(request.image)
            break
        except ImageError as error:
            reasons.append(str(error))
    return reasons


def _report_failures(empty: Sequence[str], failures: Sequence[str], images: int) -> int:
    """Prints which folders have no images and which images no caption; returns the exit code."""
    for failure in (*empty, *failures):
        print(error_line(failure), file=sys.stderr)
    if failures and images > 1:
        print(f"{len(failures)} of {images} images have no caption.", file=sys.stderr)
    return _EXIT_SOME_FAILED if empty or failures else 0


def _load(
    config: Config, model: ModelEntry, named: Mapping[str, Path], *, compare: bool, quiet: bool
) -> "tuple[Captioner, dict[str, GenerativeModel]]":
    """Loads the captioner, and with `compare` the model of each method that is trained.

    `named` are the soft prompts that are used by name; `quiet` prints no notes.
    """
    from igrag.devices import tune_allocator
    from prompt_tuning.methods import load_captioner, load_comparison

    tune_allocator()
    if not compare:
        return load_captioner(config, model.path, named=named), {}
    captioner, methods, notes = load_comparison(config, model.path)
    for note in () if quiet else notes:
        print(f"note: {note}", file=sys.stderr)
    return captioner, methods
