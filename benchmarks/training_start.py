"""Times what a training does with its examples before the first step, at growing sizes of the file.

    python benchmarks/training_start.py [--lines 10000 100000 1000000]

It tokenizes both files, makes sure that they share no image, and counts the prompts of other
templates. The first start does it, the second one finds it in the cache. Each is a process of its
own; memory is what it holds for itself, without the pages of mapped files, and without the
processes that tokenize.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT))

from benchmarks.memory import private_bytes

HEAD = """| lines | first start, s | MB | second start, s | MB |
|---:|---:|---:|---:|---:|"""
_VALIDATION_LINES = 1000
_SAMPLE_SECONDS = 0.02


def main(words: Sequence[str] | None = None) -> int:
    """Starts with every file twice, and prints seconds and memory."""
    arguments = parse_arguments(words)
    if arguments.worker:
        print(json.dumps(start(arguments.worker)))
        return 0
    print(HEAD)
    for lines in arguments.lines:
        with tempfile.TemporaryDirectory(prefix="igrag_start_") as name:
            folder = Path(name)
            write_file(folder / "train.jsonl", range(lines))
            write_file(folder / "val.jsonl", range(lines, lines + _VALIDATION_LINES))
            print(row(lines, [_measured(folder), _measured(folder)]), flush=True)
    return 0


def row(lines: int, starts: Sequence[tuple[float, int]]) -> str:
    """Returns the row of a file: seconds and memory of the first and of the second start."""
    cells = [f"{seconds:.1f} | {size / 1e6:,.0f}" for seconds, size in starts]
    return f"| {lines:,} | {' | '.join(cells)} |"


def write_file(path: Path, numbers: range) -> None:
    """Writes an example for each number, as the data builder does, with five references."""
    from igrag.config import Config
    from igrag.from_config import build_template
    from igrag.retrieval.knowledge_base import Match

    config = Config.load(_ROOT / "configs" / "config.yaml", [])
    template = build_template(config.prompt_config)
    with path.open("w", encoding="utf-8") as file:
        for number in numbers:
            references = [f"a dog {number} runs in the field {each}" for each in range(5)]
            matches = [
                Match(each, 0.5, (f"a dog {number + each} in a field",)) for each in range(5)
            ]
            prompt = template.build(matches, (), count_tokens=len, max_tokens=sys.maxsize)
            line = {"image_id": number, "prompt": prompt, "caption": references[0]}
            file.write(json.dumps(line | {"references": references}) + "\n")


def start(folder: Path) -> tuple[float, int]:
    """Does what a training does before its first step; returns seconds and bytes."""
    from accelerate import Accelerator

    from igrag.captioning.language_model import load_tokenizer
    from igrag.config import Config
    from prompt_tuning import setup_examples
    from prompt_tuning.settings import PromptTrainingSettings

    files = [f"data.{split}_file={folder / split}.jsonl" for split in ("train", "val")]
    settings = PromptTrainingSettings.load(overrides=files)
    config = Config.load(settings.model.main_config, [])
    tokenizer = load_tokenizer(str(_ROOT / "demo" / "models" / "t5-mini"))
    accelerator = Accelerator(cpu=True)
    before = private_bytes()
    peak, ended = [before], Event()

    def watch() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            peak.append(max(peak.pop(), private_bytes()))

    watcher = Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    train, val = setup_examples.load_examples(settings, tokenizer, accelerator)
    setup_examples.matching_template(settings, config.prompt_config, train, val, accelerator)
    setup_examples.build_batches(settings, train, tokenizer, accelerator, {})
    seconds = time.perf_counter() - started
    ended.set()
    watcher.join()
    return seconds, peak[0] - before


def _measured(folder: Path) -> tuple[float, int]:
    words = [sys.executable, __file__, "--worker", str(folder)]
    environment = {**os.environ, "HF_DATASETS_CACHE": str(folder / "cache")}
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    seconds, size = json.loads(done.stdout.splitlines()[-1])
    return seconds, size


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--lines", type=int, nargs="+", default=[10_000, 100_000, 1_000_000],
        help="examples of each training file")  # fmt: skip
    add("--worker", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
