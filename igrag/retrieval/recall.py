"""How many lists an approximate index must search: measured against the exact search."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from igrag.retrieval.search import ExactIndex, Floats, Hits, VectorIndex, nearest

logger = logging.getLogger(__name__)

RECALL_AT = 5
TARGET_RECALL = 0.99
# So few vectors are searched in all lists: exact, where the index holds them as they are.
SMALL = 20_000
_FEWEST_PER_LIST = 39  # Fewer would teach faiss nothing of a list's center.
_QUERIES = 500  # Rows of the knowledge base, each searched without itself.
_TIMED = 50
_TIMED_EXACT = 3


@dataclass(frozen=True, slots=True)
class Measured:
    """What an index was measured to give.

    Attributes:
        nprobe: Lists searched for a query.
        recall: Share of the exact `RECALL_AT` nearest that were found.
        target: What was asked for.
        queries: Rows that were searched, each without itself.
        seconds: Of one query alone, the median.
        exact_seconds: The same of the exact search.
    """

    nprobe: int
    recall: float
    target: float
    queries: int
    seconds: float
    exact_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Returns the figures for the index's description."""
        return {
            f"recall@{RECALL_AT}": round(self.recall, 4),
            "target": self.target,
            "queries": self.queries,
            "seconds_per_query": round(self.seconds, 6),
            "seconds_per_query_exact": round(self.exact_seconds, 6),
        }


def list_count(vectors: int) -> int:
    """Returns into how many lists so many vectors are sorted: twice their number's root."""
    return max(1, min(round(2 * math.sqrt(vectors)), vectors // _FEWEST_PER_LIST))


def tune(
    searched: Callable[[int], VectorIndex], vectors: Floats, *, lists: int, target_recall: float
) -> Measured:
    """Doubles the lists that are searched until some of the vectors find enough of the nearest.

    Args:
        searched: Returns the index that searches so many lists.
        vectors: What it holds, [N, D].
        lists: How many lists it has.
        target_recall: The share of the exact `RECALL_AT` nearest that is to be found.
    """
    rows = np.linspace(0, len(vectors) - 1, min(_QUERIES, len(vectors))).astype(np.int64)
    queries = np.ascontiguousarray(vectors[rows])
    exact = nearest(vectors, queries, RECALL_AT, skip_rows=rows)
    nprobe = lists if len(vectors) <= SMALL else 1
    while True:
        index = searched(nprobe)
        recall = recall_of(exact, index.nearest(queries, RECALL_AT, skip_rows=rows))
        if recall >= target_recall or nprobe == lists:
            break
        nprobe = min(2 * nprobe, lists)
    if recall < target_recall:
        logger.warning("the index finds %.3f of the nearest %d, expected %s", recall, RECALL_AT,
                       target_recall)  # fmt: skip
    return Measured(
        nprobe,
        recall,
        target_recall,
        len(rows),
        seconds_per_query(index, queries[:_TIMED]),
        seconds_per_query(ExactIndex(vectors), queries[:_TIMED_EXACT]),
    )


def recall_of(exact: Hits, found: Hits) -> float:
    """Returns the share of the exact hits that were found; 1 if there are none."""
    known = set(zip(found.query.tolist(), found.row.tolist(), strict=True))
    pairs = list(zip(exact.query.tolist(), exact.row.tolist(), strict=True))
    return sum(pair in known for pair in pairs) / len(pairs) if pairs else 1.0


def seconds_per_query(index: VectorIndex, queries: Floats) -> float:
    """Returns the median of what a query [D] takes alone."""
    seconds = []
    for query in queries:
        started = time.perf_counter()
        index.nearest(query[None], RECALL_AT)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))
