"""Measures the figures of the documents and writes them: make figures.

    python -m benchmarks.figures                      # everything, in hours; resumable
    python -m benchmarks.figures --only covered       # one file of docs/figures
    python -m benchmarks.figures --check              # are the documents those files?

A command that has finished is not repeated, unless its data, models or settings have changed. The
code does not count: after a change of it, delete the work folder. Each file that is written names
the commits whose code measured it.
"""

import argparse
import difflib
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.figures import comparison, documents, outputs, variants
from benchmarks.figures.steps import measuring_commit, run_steps
from igrag.cli import CommandParser, add_common_options, at_least, run_command
from igrag.config import REPO_ROOT
from igrag.errors import UsageError
from igrag.files import write_json

FIGURES = REPO_ROOT / "docs" / "figures"
_VARIANTS = "variants-"
_WORK = Path.home() / ".cache" / "igrag" / "figures"


def main(arguments: argparse.Namespace) -> int:
    """Measures what is missing, writes docs/figures, and fills in the documents."""
    if arguments.check:
        return check(FIGURES)
    benchmarks = [benchmark.name for benchmark in comparison.BENCHMARKS]
    every = [*benchmarks, *(f"{_VARIANTS}{name}" for name in benchmarks), *outputs.BY_NAME]
    names = arguments.only or every
    for name in names:
        measure(name, arguments)
    for path in documents.documents(REPO_ROOT):
        old = path.read_text(encoding="utf-8")
        new = documents.fill_blocks(old, FIGURES)
        if new != old:
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(REPO_ROOT)}: written")
    return 0


def measure(name: str, arguments: argparse.Namespace) -> None:
    """Measures one file of docs/figures.

    Raises:
        UsageError: There is none of this name.
        DataError: A command fails.
    """
    work, limits = arguments.work, {"jobs": arguments.jobs, "threads": arguments.threads}
    known = {each.name: each for each in comparison.BENCHMARKS}
    if name.startswith(_VARIANTS) and name.removeprefix(_VARIANTS) in known:
        steps, read = variants.figure(known[name.removeprefix(_VARIANTS)])
        run_steps(steps, work, **limits)
        content = read(work)
    elif benchmark := known.get(name):
        untrained = comparison.untrained_step(benchmark, arguments.split)
        evaluations = [
            comparison.seed_evaluation(benchmark, seed, arguments.split)
            for seed in comparison.SEEDS
        ]
        steps = [untrained, *evaluations]
        run_steps(steps, work, **limits)
        seeds = [comparison.read_metrics(step, work) for step in evaluations]
        data = comparison.summarize(comparison.read_metrics(untrained, work), seeds)
        content = {"benchmark": name, "split": arguments.split, **data}
    elif name in outputs.BY_NAME:
        output = outputs.BY_NAME[name]
        steps = [output.step()]
        run_steps(steps, work, **limits)
        content = output.read(work)
    else:
        raise UsageError(f"--only {name}: no such figure")
    environment = {
        "torch": torch.__version__,
        "threads": arguments.threads,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "commit": measuring_commit(steps, work),
        "python": platform.python_version(),
    }
    write_json(FIGURES / f"{name}.json", {**content, **environment})
    print(f"docs/figures/{name}.json: written", flush=True)


def check(figures: Path) -> int:
    """Prints where the documents differ from the files; returns the exit code."""
    different = 0
    for path in documents.documents(REPO_ROOT):
        old = path.read_text(encoding="utf-8")
        new = documents.fill_blocks(old, figures)
        lines = difflib.unified_diff(
            old.splitlines(), new.splitlines(), str(path), "make figures", lineterm="", n=0
        )
        for line in lines:
            print(line)
            different = 1
    return different


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(__doc__ or "")
    add = parser.add_argument
    add("--only", nargs="+", metavar="NAME", help="some of the files in docs/figures")
    add("--check", action="store_true", help="only compare the documents with docs/figures")
    add("--work", type=Path, default=_WORK, metavar="FOLDER", help="default: ~/.cache/igrag")
    add("--jobs", type=at_least(1), default=2, help="commands at once (default: 2)")
    add("--threads", type=at_least(1), default=1, help="threads of each (default: 1)")
    add("--split", choices=("dev", "test"), default="test",
        help="test: what the documents show; dev: a rehearsal")  # fmt: skip
    add_common_options(parser)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(run_command(parse_arguments, main))
