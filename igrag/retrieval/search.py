"""Exact nearest vectors by inner product, in blocks that keep memory small."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# 512 queries x 16,384 rows: 32 MB of scores, enough for the matrix product to run at full speed.
QUERY_BLOCK = 512
ROW_BLOCK = 16_384
# The best of each group of scores stands for it: 64 times fewer numbers to select from.
GROUP = 64
# The blocked float32 product may be off by this much, and differs with the shape of the block.
# Everything this near to the k-th best is scored again, so that results depend on nothing but the
# two vectors: not on the batch, the block, or the number of threads.
TOLERANCE = 2e-6
RESCORE_BLOCK = 8_192


class NotFiniteError(ValueError):
    """A searched row, `row`, holds values that are not finite."""

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row} holds values that are not finite")
        self.row = row


@dataclass(frozen=True, slots=True)
class Hits:
    """The found rows of all queries, flat: sorted by query, then best first, then by row.

    Attributes:
        query: Index of the query, [H].
        row: Row of the searched vectors, [H].
        score: Inner product, [H], float64.
    """

    query: NDArray[np.int64]
    row: NDArray[np.int64]
    score: NDArray[np.float64]


def nearest(
    vectors: Floats,
    queries: Floats,
    k: int,
    *,
    skip_rows: NDArray[np.int64] | None = None,
    below: float | None = None,
) -> Hits:
    """Finds the k rows with the largest inner product for each query.

    Args:
        vectors: The rows searched, [N, D]; a memory map is read block by block.
        queries: Any number of queries, [Q, D], finite.
        k: How many rows for each query, at least 1; fewer come back where fewer qualify.
        skip_rows: For each query a row that it must not find, or -1, [Q].
        below: If given, only scores below it qualify.

    Returns:
        At most k hits for each query; equal scores are ordered by row.

    Raises:
        NotFiniteError: A row is not finite: it would be found nowhere, or everywhere.
    """
    parts = []
    for start in range(0, len(queries), QUERY_BLOCK):
        span = slice(start, start + QUERY_BLOCK)
        skip = np.full(len(queries[span]), -1) if skip_rows is None else skip_rows[span]
        part = _nearest_in_block(vectors, queries[span], k, skip, below)
        parts.append(Hits(part.query + start, part.row, part.score))
    if not parts:
        return Hits(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))
    return Hits(
        np.concatenate([part.query for part in parts]),
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.score for part in parts]),
    )


def _nearest_in_block(
    vectors: Floats, queries: Floats, k: int, skip: NDArray[np.int64], below: float | None
) -> Hits:
    """Searches all rows for one block of queries."""
    width = min(ROW_BLOCK, -(-len(vectors) // GROUP) * GROUP)
    scores = np.empty((len(queries), width), np.float32)  # [Q, B], reused for every block of rows
    slack = TOLERANCE * np.maximum(1.0, np.linalg.norm(queries, axis=1)).astype(np.float32)
    bound = np.full(len(queries), -np.inf, np.float32)  # k rows of each query reach at least this
    found, undecided = [], [(np.empty(0, np.int64), np.empty(0, np.int64))]
    for start in range(0, len(vectors), width):
        block = np.asarray(vectors[start : start + width])
        np.matmul(queries, block.T, out=scores[:, : len(block)])
        _check_finite(scores[0, : len(block)], start)
        scores[:, len(block) :] = -np.inf
        mine = np.flatnonzero((skip >= start) & (skip < start + len(block)))
        scores[mine, skip[mine] - start] = -np.inf
        if below is not None:
            near, column = np.nonzero(scores >= below - slack[:, None])
            doubtful = scores[near, column] <= below + slack[near]
            undecided.append((near[doubtful], column[doubtful] + start))
            scores[near, column] = -np.inf
        query, column, score = _promising(scores, bound, slack, k)
        found.append((query, column + start, score))
    query, row, score = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((-score, query))
    kth = order[_rank(query[order]) == k - 1]
    bound[query[kth]] = score[kth]
    keep = score >= (bound - slack)[query]
    # What is about as good as `below` is decided by its exact score, and bounds nothing before.
    query, row = (
        np.concatenate([chosen[keep], *more])
        for chosen, more in zip((query, row), zip(*undecided, strict=True), strict=True)
    )
    return _best(query, row, _rescore(vectors, queries, query, row), k, below)


def _check_finite(scores: Floats, start: int) -> None:
    """Checks one query's scores [B]: a value that is not finite makes every product so."""
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise NotFiniteError(start + int(wrong[0]))


def _promising(
    scores: Floats, bound: Floats, slack: Floats, k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Raises `bound` [Q] by a block's scores [Q, B] and lists those that may be among the best.

    The k-th best of the groups' maxima is reached by at least k scores, so that it bounds the k-th
    best score from below, at a small part of the cost of selecting among all.
    """
    groups = scores.shape[1] // GROUP if k <= scores.shape[1] // GROUP // 4 else scores.shape[1]
    grouped = scores.reshape(len(scores), -1, groups)  # group g: the columns g, g + groups, ...
    best = grouped.max(axis=1)
    if k <= groups:
        np.maximum(bound, np.partition(best, groups - k, axis=1)[:, groups - k], out=bound)
    floor = bound - slack
    query, group = np.nonzero(best >= floor[:, None])
    members = grouped[query, :, group]  # [M, B / groups]
    hit, member = np.nonzero((members >= floor[query, None]) & np.isfinite(members))
    return query[hit], member * groups + group[hit], members[hit, member]


def _rescore(
    vectors: Floats, queries: Floats, query: NDArray[np.int64], row: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Inner products of single pairs in float64, [H]."""
    scores = np.empty(len(query), np.float64)
    for start in range(0, len(query), RESCORE_BLOCK):
        span = slice(start, start + RESCORE_BLOCK)
        left = queries[query[span]].astype(np.float64)
        right = vectors[row[span]].astype(np.float64)
        scores[span] = np.einsum("hd,hd->h", left, right)
    return scores


def _best(
    query: NDArray[np.int64],
    row: NDArray[np.int64],
    score: NDArray[np.float64],
    k: int,
    below: float | None,
) -> Hits:
    """Sorts hits and keeps the k best of each query."""
    if below is not None:
        keep = score < below
        query, row, score = query[keep], row[keep], score[keep]
    order = np.lexsort((row, -score, query))
    query, row, score = query[order], row[order], score[order]
    keep = _rank(query) < k
    return Hits(query[keep], row[keep], score[keep])


def _rank(query: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers the entries of each query from 0, [H]; they must be sorted by query."""
    rank: NDArray[np.int64] = np.arange(len(query)) - np.searchsorted(query, query)
    return rank
