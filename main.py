"""Captions pictures: python main.py --i input/802.jpg --model flan-t5."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from igrag.cli import run, setup_logging
from igrag.config import DEFAULT_CONFIG, Config, ModelEntry, find_model
from igrag.errors import ImageError

if TYPE_CHECKING:  # torch and transformers take seconds to load: --help must not wait for them.
    from igrag.captioner import Captioner, CaptionResult
    from igrag.generator import Writer
    from igrag.language_model import LanguageModel
    from igrag.prompt_template import PromptTemplate

_EXIT_SOME_FAILED = 1


def main(arguments: argparse.Namespace) -> int:
    """Loads the configuration and the models, captions every picture, and returns the exit code."""
    config = Config.load(arguments.config, _overrides(arguments))
    log = config.log_config
    setup_logging(log.level, verbose=arguments.verbose, file=log.file)
    model = find_model(config.models, arguments.model)
    paths = _find_pictures(arguments.input)
    if model.notice:
        print(f"note: {model.notice}", file=sys.stderr)
    methods: dict[str, Writer] = {}
    if arguments.compare:
        captioner = _load_all_methods(config, model, methods)
    else:
        captioner = _load(config, model)
    failures: list[str] = []
    for path, result, seconds in _caption_all(captioner, paths, config, failures):
        captions = _write_with_each(methods, captioner, result)
        _show(path, result, seconds, config, model, captions=captions, as_json=arguments.json)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures and len(paths) > 1:
        print(f"{len(failures)} of {len(paths)} pictures have no caption.", file=sys.stderr)
    return _EXIT_SOME_FAILED if failures else 0


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="main.py", description="Caption pictures by retrieval.", allow_abbrev=False
    )
    add = parser.add_argument
    add("--i", "--input", dest="input", type=Path, nargs="+", required=True, metavar="PATH",
        help="pictures, or folders of pictures")  # fmt: skip
    add("--model", metavar="NAME|PATH", help="a name from the config, a folder, or a hub id")
    add("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE",
        help="default: configs/config.yaml")  # fmt: skip
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="change a key of the config for this run; may be given again")  # fmt: skip
    add("--top_k", type=int, metavar="N", help="similar pictures to use")
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


def _find_pictures(inputs: Sequence[Path]) -> list[Path]:
    from igrag.images import list_images

    paths = [path for item in inputs for path in (list_images(item) if item.is_dir() else [item])]
    if not any(path.exists() for path in paths):
        raise ImageError(f"{paths[0]}: no such file, expected a picture or a folder of pictures")
    return paths


def _load(config: Config, model: ModelEntry) -> "Captioner":
    from igrag.assembly import build_captioner
    from igrag.runtime import tune_allocator
    from prompt_tuning.prompt_file import load_prompt
    from prompt_tuning.switching import open_prompt

    tune_allocator()
    prompt = config.prompt_tuning
    path = prompt.file_for(lora=config.lora_config.enabled)

    def choose_writer(language: "LanguageModel", template: "PromptTemplate") -> "Writer | None":
        if not prompt.enabled:
            return None
        return open_prompt(
            language,
            path,
            template=template.fingerprint(),
            prompt_length=prompt.prompt_length,
            initialization=prompt.initialization,
        )

    if prompt.enabled:
        load_prompt(path)  # A missing or damaged file is told before the models are loaded.
    return build_captioner(config, model.path, choose_writer=choose_writer)


def _load_all_methods(
    config: Config, model: ModelEntry, methods: "dict[str, Writer]"
) -> "Captioner":
    """Loads the model once, and fills in a writer for each method that is trained."""
    from igrag.assembly import build_captioner
    from igrag.runtime import tune_allocator
    from prompt_tuning.switching import METHODS, find_trained, open_methods

    tune_allocator()
    prompts, lora = config.prompt_tuning, config.lora_config
    trained = find_trained(
        prompts.file_for(lora=False), prompts.file_for(lora=True), lora.weights_path
    )
    beside = lora.model_copy(update={"enabled": trained.has_lora, "merge_and_unload": False})

    def choose_writer(language: "LanguageModel", template: "PromptTemplate") -> None:
        methods.update(open_methods(language, trained, template=template.fingerprint()))

    captioner = build_captioner(
        config.model_copy(update={"lora_config": beside}), model.path, choose_writer=choose_writer
    )
    missing = ", ".join(name for name in METHODS if name not in methods)
    if missing:
        print(f"note: not trained: {missing}", file=sys.stderr)
    return captioner


def _write_with_each(
    methods: "dict[str, Writer]", captioner: "Captioner", result: "CaptionResult"
) -> dict[str, str]:
    """Writes the caption of one picture with each of the methods to compare."""
    captions = {}
    for name, writer in methods.items():
        captioner.generator.switch_to(writer)
        captions[name] = captioner.generator.generate([result.prompt])[0]
    captioner.generator.switch_to(None)
    return captions


def _caption_all(
    captioner: "Captioner", paths: Sequence[Path], config: Config, failures: list[str]
) -> Iterator[tuple[Path, "CaptionResult", float]]:
    """Captions batch by batch; what cannot be opened is noted in `failures` and passed over."""
    from tqdm import tqdm

    from igrag.images import open_image

    size = config.generation_config.batch_size
    with tqdm(total=len(paths), unit="picture", file=sys.stderr, disable=len(paths) == 1) as bar:
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
                for path, result in zip(opened, results, strict=True):
                    yield path, result, seconds
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
    """Prints one picture's result; `captions` are those of the methods to compare."""
    from igrag import output

    if not as_json:
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
    print(output.as_json(path, result, **facts), flush=True)


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(run(lambda: main(arguments), debug=arguments.debug))
