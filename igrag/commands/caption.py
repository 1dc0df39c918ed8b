"""Captions images: arguments -> configuration -> captioner -> text or JSON."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
from igrag.config import DEFAULT_CONFIG, Config, ModelEntry, find_model
from igrag.errors import ImageError, ModelError, UsageError
from igrag.files import is_folder

if TYPE_CHECKING:  # torch and transformers take seconds to load: --help must not wait for them.
    from igrag.captioning.captioner import Captioner, CaptionResult
    from igrag.captioning.generator import GenerativeModel

    # An image's result and captions -> their CLIPScores.
    ScoreCaptions = Callable[[CaptionResult, Sequence[str]], list[float]]

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
    with open_results(arguments.output, resume=arguments.resume) as results:
        return caption_images(arguments, results)


def caption_images(arguments: argparse.Namespace, results: ResultsFile | None) -> int:
    """Loads the configuration and the models, captions every image, and returns the exit code."""
    overrides = config_overrides(arguments)
    if arguments.top_k is not None:
        overrides.append(f"retrieval_config.top_k={arguments.top_k}")
    config = Config.load(arguments.config, overrides)
    log = config.log_config
    setup_logging(log.level, verbose=arguments.verbose, file=log.file)
    model = find_model(config.models, arguments.model)
    paths, empty = _find_images(arguments.input, recursive=arguments.recursive)
    if results:
        results.check_settings(_facts(config, model))
        paths = _leave_out_done(paths, results)
    failures = _errors_before_first_image(paths)
    if len(failures) == len(paths):  # before any model is loaded
        return _report_failures(empty, failures, len(paths))
    if model.notice:
        print(f"note: {model.notice}", file=sys.stderr)
    captioner, methods = _load(config, model, compare=arguments.compare)
    score = _load_clip_score(config) if arguments.json else None
    failures = []
    try:
        for path, result, seconds, captions in _caption_all(
            captioner, methods, paths, config, failures
        ):
            if arguments.json:
                _print_json(
                    path, result, seconds, config, model,
                    captions=captions, score=score, results=results,
                )  # fmt: skip
            else:
                _print_text(path, result, captions)
    finally:  # An interruption does not hide what failed before it.
        code = _report_failures(empty, failures, len(paths))
    return code


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser("Caption images by retrieval.")
    add = parser.add_argument
    add("--i", "--input", dest="input", type=Path, nargs="+", action="extend", required=True,
        metavar="PATH", help="images, or folders of images; may be given again")  # fmt: skip
    add("--recursive", action="store_true", help="caption the images in subfolders too")
    add("--model", metavar="NAME|PATH", help="a name from the config, a folder, or a hub id")
    add("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE",
        help="default: configs/config.yaml")  # fmt: skip
    add("--top_k", type=int, metavar="N", help="similar images to use")
    add("--compare", action="store_true",
        help="caption with and without soft prompt and LoRA, where they are trained")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object a line")
    add("--output", type=Path, metavar="FILE",
        help="with --json: write the lines to this file, each as soon as it is known")  # fmt: skip
    add("--resume", action="store_true", help="continue the file, with the images that it lacks")
    add_config_options(parser)
    add_common_options(parser)
    return parser.parse_args(words)


def _facts(config: Config, model: ModelEntry) -> dict[str, object]:
    """Returns the keys of a result that say how it was made."""
    return {
        "model": model.path,
        "prompt_tuning": config.prompt_tuning.enabled,
        "lora": config.lora_config.enabled,
    }


def _leave_out_done(paths: list[Path], results: ResultsFile) -> list[Path]:
    """Returns the images without a result, with a note on stderr if others have one."""
    remaining = results.remaining(paths)
    if len(remaining) < len(paths):
        done = len(paths) - len(remaining)
        print(f"note: {results.path}: has {done} of {len(paths)} images already", file=sys.stderr)
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


def _errors_before_first_image(paths: Sequence[Path]) -> list[str]:
    """Opens images until one can be opened; returns the errors of those before it."""
    from igrag.data.images import open_image

    reasons = []
    for path in paths:
        try:
            open_image(path)
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
    config: Config, model: ModelEntry, *, compare: bool
) -> "tuple[Captioner, dict[str, GenerativeModel]]":
    """Loads the captioner, and with `compare` the model of each method that is trained."""
    from igrag.devices import tune_allocator
    from prompt_tuning.methods import load_captioner, load_comparison

    tune_allocator()
    if not compare:
        return load_captioner(config, model.path), {}
    captioner, methods, notes = load_comparison(config, model.path)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return captioner, methods


def _load_clip_score(config: Config) -> "ScoreCaptions | None":
    """Returns a function that scores captions by CLIPScore; None if the encoder reads no text."""
    from igrag import from_config
    from igrag.metrics.clip_score import ClipVectors, clip_scores

    try:
        encoder = from_config.load_text_encoder(config)
    except ModelError as error:
        print(f"note: no clip_score: {error}", file=sys.stderr)
        return None

    def score(result: "CaptionResult", captions: Sequence[str]) -> list[float]:
        assert result.vector is not None  # The captioner has encoded the image.
        vectors = ClipVectors(result.vector[None].repeat(len(captions), axis=0), encoder.encode)
        found: list[float] = clip_scores(vectors.images, vectors.captions(captions)).tolist()
        return found

    return score


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
    paths: Sequence[Path],
    config: Config,
    failures: list[str],
) -> Iterator[tuple[Path, "CaptionResult", float, dict[str, str]]]:
    """Captions batch by batch; errors of images that cannot be opened are added to `failures`.

    Yields each image, its result, the seconds that it took, and its captions by method.
    """
    from tqdm import tqdm

    from igrag.data.images import open_image

    size = config.generation_config.batch_size
    with tqdm(
        total=len(paths), unit="image", file=sys.stderr, disable=len(paths) == 1 or None
    ) as bar:
        for start in range(0, len(paths), size):
            started = time.perf_counter()
            batch = []
            for path in paths[start : start + size]:
                try:
                    batch.append((path, open_image(path)))
                except ImageError as error:
                    failures.append(str(error))
            if batch:
                opened, images = zip(*batch, strict=True)
                results = captioner.caption(images, [path.name for path in opened])
                seconds = (time.perf_counter() - started) / len(batch)
                compared = _caption_with_methods(methods, captioner, results, config)
                for path, result, captions in zip(opened, results, compared, strict=True):
                    yield path, result, seconds, captions
            bar.update(min(size, len(paths) - start))


def _print_text(path: Path, result: "CaptionResult", captions: dict[str, str]) -> None:
    """Prints one image's result; `captions` are those of the methods to compare."""
    from tqdm import tqdm

    from igrag.captioning import output

    with tqdm.external_write_mode():
        print(output.as_text(path, result, captions), flush=True)


def _print_json(
    path: Path,
    result: "CaptionResult",
    seconds: float,
    config: Config,
    model: ModelEntry,
    *,
    captions: dict[str, str],
    score: "ScoreCaptions | None",
    results: ResultsFile | None,
) -> None:
    """Prints one image's result as JSON; `captions` are those of the methods to compare.

    With a file of results it goes there instead.
    """
    from tqdm import tqdm

    from igrag.captioning import output

    texts = [result.caption, *captions.values()]
    scores = [round(each, 4) for each in score(result, texts)] if score else [None] * len(texts)
    facts: dict[str, object] = {
        "clip_score": scores[0],
        **_facts(config, model),
        "seconds": round(seconds, 3),
    }
    if captions:
        facts["captions"] = captions
        facts["clip_scores"] = dict(zip(captions, scores[1:], strict=True))
    if results:
        results.add(output.as_json(path, result, ascii_only=False, **facts))
        return
    with tqdm.external_write_mode():
        ascii_only = not output.is_utf8(sys.stdout.encoding)
        print(output.as_json(path, result, ascii_only=ascii_only, **facts), flush=True)
