#!/usr/bin/env python
"""Measures how time and memory grow with the number of images, and prints a Markdown table.

    python benchmarks/scale.py --folder /tmp/scale --rows 10000 100000 --json scale.json

Seconds are those of the clock and, in brackets, of the CPU. Each row of the table is measured in a
process of its own, on a synthetic knowledge base in --folder, which stays there. With --json, rows
that the file has already are not measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.memory import private_bytes
from benchmarks.synthetic_knowledge_base import draw_vectors, make_knowledge_base
from igrag.files import write_json
from igrag.retrieval.knowledge_base import KnowledgeBase

Row = dict[str, Any]
K = 5
INDEXES = ("exact", "faiss")
_SECONDS = ("open", "one", "some", "many")
_SOME = 32
_HEADS = ("rows", "index", "open, s", "private memory, MB", "one query, s", f"{_SOME} queries, s",
          "{many} queries, s", f"recall@{K}")  # fmt: skip


def main() -> int:
    """Measures what is missing, and prints the table."""
    arguments = parse_arguments()
    if arguments.worker:
        print(json.dumps(measure(arguments.folder, arguments.worker, arguments.queries)))
        return 0
    found: list[Row] = []
    if arguments.json and arguments.json.exists():
        found = json.loads(arguments.json.read_text())
    for rows in arguments.rows:
        for index in INDEXES:
            key = {"table": "retrieval", "rows": rows, "index": index}
            if any(key.items() <= row.items() for row in found):
                continue
            print(f"{rows} rows, {index}", file=sys.stderr)
            folder = arguments.folder / f"{rows}"
            make_knowledge_base(folder, rows, seed=arguments.seed)
            found.append(key | in_own_process(folder, index, arguments.queries))
            if arguments.json:
                write_json(arguments.json, found)
    print(as_markdown(found, arguments.queries))
    return 0


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--folder", type=Path, required=True, help="where the knowledge bases are made")
    add("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], metavar="N")
    add("--queries", type=int, default=5_000, help="the most that are searched at once")
    add("--json", type=Path, metavar="FILE", help="keeps the rows that were measured")
    add("--seed", type=int, default=0)
    add("--worker", choices=INDEXES, help=argparse.SUPPRESS)
    return parser.parse_args()


def in_own_process(folder: Path, index: str, queries: int) -> Row:
    """Measures a knowledge base in a process that has opened nothing else."""
    words = [sys.executable, __file__, "--folder", folder, "--worker", index, "--queries", queries]
    done = subprocess.run([*map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def measure(path: Path, index: Any, count: int) -> Row:
    """Opens and searches a knowledge base, and returns the figures.

    Args:
        path: The knowledge base, whose exact results are next to it once they are known.
        index: What searches it.
        count: Queries; none of them is in the knowledge base.
    """
    if index != "exact" and not (path / index).exists():
        from igrag.commands.index import make_index

        started = time.perf_counter()
        make_index(path, index)
        print(f"made in {time.perf_counter() - started:.1f} s", file=sys.stderr)
        return in_own_process(path, index, count)
    KnowledgeBase.open(path, index=index)  # The libraries are imported, the files are cached.
    before = private_bytes()
    opened, *seconds = timed(lambda: KnowledgeBase.open(path, index=index))
    row: Row = {"open": seconds}
    queries = draw_vectors(count, opened.dimension, np.random.default_rng(1))
    opened.search(queries[:1], K)
    row["private"] = private_bytes() - before - queries.nbytes
    row["one"] = median_seconds(lambda n: opened.search(queries[n : n + 1], K), 20)
    row["some"] = median_seconds(lambda n: opened.search(queries[n : n + _SOME], K), 3)
    matches, *row["many"] = timed(lambda: opened.search(queries, K))
    ids = np.array([[match.image_id for match in found] for found in matches])
    return row | {"recall": recall(path.with_name(f"{path.name}.exact.npy"), ids, index)}


def recall(file: Path, ids: NDArray[np.int64], index: str) -> float | None:
    """Returns the share of the exact search's ids [Q, K], which a file keeps, that are in `ids`."""
    if index == "exact":
        np.save(file, ids)
        return 1.0
    if not file.exists():
        return None
    exact = np.load(file)
    pairs = zip(exact, ids, strict=True)
    return float(np.mean([np.isin(left, right).mean() for left, right in pairs]))


def median_seconds(search: Callable[[int], object], repeats: int) -> list[float]:
    """Returns the median times of a search, which is given its number; see `timed`."""
    seconds = [timed(partial(search, number))[1:] for number in range(repeats)]
    return [float(each) for each in np.median(seconds, axis=0)]


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Returns a call's result, its seconds, and the CPU seconds of all its threads."""
    started, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - started, time.process_time() - cpu


def as_markdown(found: Sequence[Row], queries: int) -> str:
    """Returns the table, and below it how the figures grow with the rows."""
    lines = [" | ".join(("", *(head.format(many=f"{queries:,}") for head in _HEADS), "")).strip()]
    lines.append("|---:|---|" + "---:|" * (len(_HEADS) - 2))
    for row in found:
        cells = [
            f"{row['rows']:,}",
            row["index"],
            in_seconds(row["open"]),
            f"{row['private'] / 1e6:.1f}",
            *(in_seconds(row[name]) for name in ("one", "some", "many")),
            "" if row["recall"] is None else f"{row['recall']:.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for index in INDEXES:
        mine = [row for row in found if row["index"] == index]
        if len(mine) > 1:
            grown = ", ".join(f"{name} {exponent(mine, name):.2f}" for name in _SECONDS)
            lines.append(f"\nExponents of {index} (CPU seconds ~ rows to the power): {grown}.")
    return "\n".join(lines)


def in_seconds(figure: Sequence[float]) -> str:
    """Formats seconds and CPU seconds."""
    return "{:.4g} ({:.4g})".format(*figure)


def exponent(found: Sequence[Row], name: str) -> float:
    """Returns the slope of CPU seconds against the rows, both as logarithms."""
    rows, figures = (
        [math.log(each) for each in column]
        for column in ([row["rows"] for row in found], [row[name][1] for row in found])
    )
    return float(np.polyfit(rows, figures, 1)[0])


if __name__ == "__main__":
    sys.exit(main())
