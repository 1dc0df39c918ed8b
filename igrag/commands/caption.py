"""Captions images: arguments -> configuration -> captioner -> text or JSON."""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
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
from igrag.commands.clip_scores import load_clip_score
from igrag.config import DEFAULT_CONFIG, Config, ModelEntry, find_model
from igrag.config.choices import Engine
from igrag.config.choices import words as words_of
from igrag.errors import ImageError, UsageError
from igrag.files import is_folder, may_be_hub_id

if TYPE_CHECKING:  # torch and transformers take seconds to load: --help must not wait for them.
    from igrag.captioning.captioner import Captioner, CaptionResult
    from igrag.captioning.exported_model import ExportedModel
    from igrag.captioning.generator import GenerativeModel
    from igrag.captioning.retrieval_prompts import EncodedImage, RetrievedPrompt
    from igrag.commands.clip_scores import ScoreCaptions

_EXIT_SOME_FAILED = 1


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Opens where the results go, captions every image, and returns the exit code."""
    if arguments.output is not None and not arguments.json:
        raise UsageError("--output: is a file of JSON lines, expected --json too")
    if arguments.output is None and is_stdout_closed():
        raise UsageError("stdout is closed, so captions would be lost; give --json --output FILE")
    if arguments.compare and (arguments.prompt or arguments.requests):
        raise UsageError("--compare: compares methods, expected neither --prompt nor --requests")
    with open_results(arguments.output, resume=arguments.resume) as results:
        return caption_images(arguments, results)


def caption_images(arguments: argparse.Namespace, results: ResultsFile | None) -> int:
    """Loads the configuration and the models, captions every image, and returns the exit code."""
    overrides = config_overrides(arguments)
    keys = {"retrieval_config.top_k": arguments.top_k, "model_config.engine": arguments.engine}
    overrides += [f"{key}={value}" for key, value in keys.items() if value is not None]
    config = Config.load(arguments.config, overrides)
    log = config.log_config
    setup_logging(log.level, verbose=arguments.verbose, file=log.file)
    model = find_model(config.models, arguments.model)
    requests, empty = _find_requests(arguments)
    prompts = _from_hub(arguments.prompt) | config.prompt_tuning.prompts
    names = used_names(requests, prompts, key="prompt_tuning.prompts")
    if config.models.engine != "torch" and (names or arguments.compare):
        raise UsageError(
            f"--{'compare' if arguments.compare else 'prompt'}: needs --engine torch, found "
            f"{config.models.engine}: an exported model has one soft prompt, that of its folder"
        )
    exported = _read_export(config, model)
    if results:
        results.check_settings(partial(_facts, config, model, exported))
        requests = _leave_out_done(requests, results)
    failures = _errors_before_first_image(requests)
    if len(failures) == len(requests):  # before any model is loaded
        return _report_failures(empty, failures, len(requests))
    if model.notice:
        print(f"note: {model.notice}", file=sys.stderr)
    named = {name: prompts[name] for name in names}
    captioner, methods = _load(config, model, named, compare=arguments.compare)
    score = load_clip_score(config) if arguments.json else None
    failures = []
    try:
        for request, found, seconds, captions in _caption_all(
            captioner, methods, requests, config, failures, by_name=bool(named)
        ):
            if not arguments.json:
                _print_text(request, found, captions)
                continue
            for name, result in zip(request.prompt_names, found, strict=True):
                facts = _facts(config, model, exported, name)
                if request.request_id is not None:
                    facts["id"] = request.request_id
                _print_json(
                    request.image, result, seconds, facts,
                    captions=captions, score=score, results=results,
                )  # fmt: skip
    finally:  # An interruption does not hide what failed before it.
        code = _report_failures(empty, failures, len(requests))
    return code


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


def _find_requests(arguments: argparse.Namespace) -> tuple[list[CaptionRequest], list[str]]:
    """Lists what to caption, and an error for each folder that has no images."""
    names = tuple(dict.fromkeys(arguments.prompt))
    if arguments.requests is not None:
        return read_requests(arguments.requests, names), []
    images, empty = _find_images(arguments.input, recursive=arguments.recursive)
    return [CaptionRequest(image, names or (None,)) for image in images], empty


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


def _find_images(inputs: Sequence[Path], *, recursive: bool) -> tuple[list[Path], list[str]]:
    """Lists the images of files and folders, and an error for each folder that has none.

    What a folder holds besides is printed on stderr, in one line.
    """
    from igrag.data.image_folder import list_folder

    paths: list[Path] = []
    empty: list[str] = []
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
    return paths, empty


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
    config: Config, model: ModelEntry, named: Mapping[str, Path], *, compare: bool
) -> "tuple[Captioner, dict[str, GenerativeModel]]":
    """Loads the captioner, and with `compare` the model of each method that is trained.

    `named` are the soft prompts that are used by name.
    """
    from igrag.devices import tune_allocator
    from prompt_tuning.methods import load_captioner, load_comparison

    tune_allocator()
    if not compare:
        return load_captioner(config, model.path, named=named), {}
    captioner, methods, notes = load_comparison(config, model.path)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return captioner, methods


def _caption_with_methods(
    methods: "dict[str, GenerativeModel]",
    captioner: "Captioner",
    results: "Sequence[CaptionResult]",
    config: Config,
) -> list[dict[str, str]]:
    """Generates the captions of a batch with each of the methods to compare.

    Those of the configuration's own method are in `results`.
    """
    captions: list[dict[str, str]] = [{} for _ in results]
    if not methods:
        return captions
    from prompt_tuning.methods import configured_method

    chosen = configured_method(config)
    for name, model in methods.items():
        texts = [result.caption for result in results]
        if name != chosen:
            captioner.generator.switch_to(model)
            texts = captioner.generator.generate(
                [result.prompt for result in results],
                image_vectors=[result.vector for result in results],
            )
        for by_method, text in zip(captions, texts, strict=True):
            by_method[name] = text
    captioner.generator.switch_to(methods[chosen])
    return captions


def _caption_all(
    captioner: "Captioner",
    methods: "dict[str, GenerativeModel]",
    requests: Sequence[CaptionRequest],
    config: Config,
    failures: list[str],
    *,
    by_name: bool,
) -> "Iterator[tuple[CaptionRequest, list[CaptionResult], float, dict[str, str]]]":
    """Captions batch by batch; errors of images that cannot be opened are added to `failures`.

    With `by_name` the model has soft prompts by name, whether or not a batch uses them.

    Yields each request, a result for each of its soft prompts, the seconds that one took, and the
    image's captions by method.
    """
    from tqdm import tqdm

    size = config.generation_config.batch_size
    # Whole batches, and more than one where the knowledge base takes long to read.
    together = max(1, captioner.searched_together // size) * size
    with tqdm(
        total=len(requests), unit="image", file=sys.stderr, disable=len(requests) == 1 or None
    ) as bar:
        for start in range(0, len(requests), together):
            started = time.perf_counter()
            group = requests[start : start + together]
            opened, encoded = _encode_all(captioner, group, size, failures)
            retrieved = captioner.retrieve_encoded(encoded)
            before = (time.perf_counter() - started) / max(1, len(opened))
            bar.update(len(group) - len(opened))
            for first in range(0, len(opened), size):
                started = time.perf_counter()
                batch, prompts = opened[first : first + size], retrieved[first : first + size]
                found = _caption_batch(captioner, batch, prompts, config, by_name=by_name)
                spent = before * len(batch) + time.perf_counter() - started
                seconds = spent / sum(map(len, found))
                results_of_first = [results[0] for results in found]
                compared = _caption_with_methods(methods, captioner, results_of_first, config)
                for request, results, captions in zip(batch, found, compared, strict=True):
                    yield request, results, seconds, captions
                bar.update(len(batch))


def _encode_all(
    captioner: "Captioner", requests: Sequence[CaptionRequest], size: int, failures: list[str]
) -> "tuple[list[CaptionRequest], list[EncodedImage]]":
    """Opens and encodes images, so many at once; returns the requests of those that open, too."""
    from igrag.data.images import open_image

    opened: list[CaptionRequest] = []
    encoded: list[EncodedImage] = []
    for start in range(0, len(requests), size):
        images = []
        for request in requests[start : start + size]:
            try:
                images.append(open_image(request.image))
                opened.append(request)
            except ImageError as error:
                failures.append(str(error))
        if images:
            names = [request.image.name for request in opened[-len(images) :]]
            encoded += captioner.encode(images, names)
    return opened, encoded


def _caption_batch(
    captioner: "Captioner",
    requests: Sequence[CaptionRequest],
    retrieved: "Sequence[RetrievedPrompt]",
    config: Config,
    *,
    by_name: bool,
) -> "list[list[CaptionResult]]":
    """Captions a batch; returns for each request a result for each of its soft prompts."""
    if not by_name:
        return [[result] for result in captioner.caption_retrieved(retrieved)]
    from prompt_tuning.methods import name_in_tuner

    prompt_names = [[name_in_tuner(config, n) for n in each.prompt_names] for each in requests]
    return captioner.caption_retrieved_with_prompts(retrieved, prompt_names)


def _print_text(
    request: CaptionRequest, found: "Sequence[CaptionResult]", captions: dict[str, str]
) -> None:
    """Prints one image's results; `captions` are those of the methods to compare."""
    from tqdm import tqdm

    from igrag.captioning import output

    if request.is_named:
        names = [output.CAPTION if name is None else name for name in request.prompt_names]
        captions = {name: each.caption for name, each in zip(names, found, strict=True)}
    with tqdm.external_write_mode():
        print(output.as_text(request.image, found[0], captions), flush=True)


def _print_json(
    path: Path,
    result: "CaptionResult",
    seconds: float,
    facts: dict[str, object],
    *,
    captions: dict[str, str],
    score: "ScoreCaptions | None",
    results: ResultsFile | None,
) -> None:
    """Prints one image's result as JSON; `captions` are those of the methods to compare.

    With a file of results it goes there instead. `facts` are more keys of it.
    """
    from tqdm import tqdm

    from igrag.captioning import output

    texts = [result.caption, *captions.values()]
    scores = score([result] * len(texts), texts) if score else [None] * len(texts)
    facts = {"clip_score": scores[0], **facts, "seconds": round(seconds, 3)}
    if captions:
        facts["captions"] = captions
        facts["clip_scores"] = dict(zip(captions, scores[1:], strict=True))
    if results:
        results.add(output.as_json(path, result, ascii_only=False, **facts))
        return
    with tqdm.external_write_mode():
        ascii_only = not output.is_utf8(sys.stdout.encoding)
        print(output.as_json(path, result, ascii_only=ascii_only, **facts), flush=True)
