"""Captions images: python main.py --i input/802.jpg --model flan-t5."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from igrag.cli import quiet_start, run, setup_logging

if __name__ == "__main__":
    quiet_start()  # before the imports that take a while

from igrag.config import DEFAULT_CONFIG, Config, ModelEntry, find_model
from igrag.errors import ImageError
from igrag.files import is_folder

if TYPE_CHECKING:  # torch and transformers take seconds to load: --help must not wait for them.
    from igrag.captioning.captioner import Captioner, CaptionResult
    from igrag.captioning.generator import Writer

_EXIT_SOME_FAILED = 1


def main(arguments: argparse.Namespace) -> int:
    """Loads the configuration and the models, captions every image, and returns the exit code."""
    config = Config.load(arguments.config, _overrides(arguments))
    log = config.log_config
    setup_logging(log.level, verbose=arguments.verbose, file=log.file)
    model = find_model(config.models, arguments.model)
    paths, empty = _find_images(arguments.input)
    failures = _why_none_opens(paths)
    if len(failures) == len(paths):  # before any model is loaded
        return _tell(empty, failures, len(paths))
    if model.notice:
        print(f"note: {model.notice}", file=sys.stderr)
    captioner, methods = _load(config, model, compare=arguments.compare)
    failures = []
    try:
        for path, result, seconds, captions in _caption_all(
            captioner, methods, paths, config, failures
        ):
            _show(path, result, seconds, config, model, captions=captions, as_json=arguments.json)
    finally:  # What failed before an interruption is told too.
        code = _tell(empty, failures, len(paths))
    return code


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="main.py", description="Caption images by retrieval.", allow_abbrev=False
    )
    add = parser.add_argument
    add("--i", "--input", dest="input", type=Path, nargs="+", action="extend", required=True,
        metavar="PATH", help="images, or folders of images; may be given again")  # fmt: skip
    add("--model", metavar="NAME|PATH", help="a name from the config, a folder, or a hub id")
    add("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE",
        help="default: configs/config.yaml")  # fmt: skip
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="change a key of the config for this run; may be given again")  # fmt: skip
    add("--top_k", type=int, metavar="N", help="similar images to use")
    add("--compare", action="store_true",
        help="caption with and without soft prompt and LoRA, where they are trained")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object a line")
    add("--device", help="auto, cpu, cuda, cuda:N or mps")
    add("--dtype", help="auto, float32, bfloat16 or float16")
    add("--verbose", action="store_true", help="tell more on stderr")
    add("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args(words)


def _overrides(arguments: argparse.Namespace) -> list[str]:
    """The config keys that have an option of their own."""
    overrides = list(arguments.set)
    if arguments.top_k is not None:
        overrides.append(f"retrieval_config.top_k={arguments.top_k}")
    if arguments.device is not None:
        overrides.append(f"model_config.device={arguments.device}")
    if arguments.dtype is not None:
        overrides.append(f"model_config.dtype={arguments.dtype}")
    return overrides


def _find_images(inputs: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Lists the images, and why folders have none; what is no folder should be a image."""
    from igrag.data.images import list_images

    paths: list[Path] = []
    empty: list[str] = []
    for item in inputs:
        try:
            paths += list_images(item) if is_folder(item) else [item]
        except ImageError as error:
            empty.append(str(error))
    return paths, empty


def _why_none_opens(paths: Sequence[Path]) -> list[str]:
    """Opens images until one can be; returns a reason for each one before it."""
    from igrag.data.images import open_image

    reasons = []
    for path in paths:
        try:
            open_image(path)
            break
        except ImageError as error:
            reasons.append(str(error))
    return reasons


def _tell(empty: Sequence[str], failures: Sequence[str], images: int) -> int:
    """Tells which folders have no images, which images no caption; returns the exit code."""
    for failure in (*empty, *failures):
        print(f"error: {failure}", file=sys.stderr)
    if failures and images > 1:
        print(f"{len(failures)} of {images} images have no caption.", file=sys.stderr)
    return _EXIT_SOME_FAILED if empty or failures else 0


def _load(
    config: Config, model: ModelEntry, *, compare: bool
) -> "tuple[Captioner, dict[str, Writer]]":
    """Loads the captioner, and with `compare` a writer for each method that is trained."""
    from igrag.devices import tune_allocator
    from prompt_tuning.assembly import load_captioner, load_comparison

    tune_allocator()
    if not compare:
        return load_captioner(config, model.path), {}
    captioner, methods, notes = load_comparison(config, model.path)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return captioner, methods


def _write_with_each(
    methods: "dict[str, Writer]",
    captioner: "Captioner",
    results: "Sequence[CaptionResult]",
    config: Config,
) -> list[dict[str, str]]:
    """Writes the captions of a batch with each of the methods to compare.

    The configuration's own method has written already.
    """
    captions: list[dict[str, str]] = [{} for _ in results]
    if not methods:
        return captions
    from prompt_tuning.assembly import chosen_method

    chosen = chosen_method(config)
    for name, writer in methods.items():
        texts = [result.caption for result in results]
        if name != chosen:
            captioner.generator.switch_to(writer)
            texts = captioner.generator.generate([result.prompt for result in results])
        for found, text in zip(captions, texts, strict=True):
            found[name] = text
    captioner.generator.switch_to(methods[chosen])
    return captions


def _caption_all(
    captioner: "Captioner",
    methods: "dict[str, Writer]",
    paths: Sequence[Path],
    config: Config,
    failures: list[str],
) -> Iterator[tuple[Path, "CaptionResult", float, dict[str, str]]]:
    """Captions batch by batch; what cannot be opened is noted in `failures` and passed over.

    Yields each image, what the configuration's method found, the seconds that took, and what
    each of `methods` wrote.
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
                written = _write_with_each(methods, captioner, results, config)
                for path, result, captions in zip(opened, results, written, strict=True):
                    yield path, result, seconds, captions
            bar.update(min(size, len(paths) - start))


def _show(
    path: Path,
    result: "CaptionResult",
    seconds: float,
    config: Config,
    model: ModelEntry,
    *,
    captions: dict[str, str],
    as_json: bool,
) -> None:
    """Prints one image's result; `captions` are those of the methods to compare."""
    from tqdm import tqdm

    from igrag.captioning import output

    if not as_json:
        with tqdm.external_write_mode():
            print(output.as_text(path, result, captions), flush=True)
        return
    facts: dict[str, object] = {
        "model": model.path,
        "prompt_tuning": config.prompt_tuning.enabled,
        "lora": config.lora_config.enabled,
        "seconds": round(seconds, 3),
    }
    if captions:
        facts["captions"] = captions
    with tqdm.external_write_mode():
        ascii_only = not output.is_utf8(sys.stdout.encoding)
        print(output.as_json(path, result, ascii_only=ascii_only, **facts), flush=True)


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(run(lambda: main(arguments), debug=arguments.debug))
