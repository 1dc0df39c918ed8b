"""Nearest vectors by inner product: an exact search in blocks, and indexes that find candidates.

Whatever finds the rows, scores and their order are those of this module: what an index proposes is
scored again in float64, so that approximate search can miss a row, but never misplaces one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Find = Callable[[Floats, int], NDArray[np.int64]]

# 512 queries x 16,384 rows: 32 MB of scores, enough for the matrix product to run at full speed.
QUERY_BLOCK = 512
ROW_BLOCK = 16_384
LARGE_BYTES = 1 << 30  # From this on, a pass over all vectors costs more than the queries do.
# The best of each group of scores stands for it: 64 times fewer numbers to select from.
GROUP = 64
# The blocked float32 product may be off by this much, and differs with the shape of the block.
# Everything this near to the k-th best is scored again, so that results depend on nothing but the
# two vectors: not on the batch, the block, or the number of threads.
TOLERANCE = 2e-6
RESCORE_BLOCK = 8_192
# An index is asked for so many candidates more than wanted, and for GROWTH times as many where
# these leave a query undecided; where MOST_CANDIDATES do, the exact search decides.
SPARE = 8
GROWTH = 8
MOST_CANDIDATES = 4_096


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


class VectorIndex(Protocol):
    """What finds the nearest of N vectors.

    Attributes:
        together: Queries that are best searched at once, where more than a batch are known.
    """

    @property
    def together(self) -> int: ...  # noqa: D102

    def nearest(
        self,
        queries: Floats,
        k: int,
        *,
        skip_rows: NDArray[np.int64] | None = None,
        below: float | None = None,
    ) -> Hits:
        """Finds the k rows with the largest inner product for each query; see `nearest`."""
        ...


@dataclass(frozen=True, slots=True)
class ExactIndex:
    """Reads all vectors for every block of queries.

    Attributes:
        vectors: The rows searched, [N, D].
    """

    vectors: Floats

    @property
    def together(self) -> int:
        """As many queries as one pass over vectors that take a while to read can serve."""
        return QUERY_BLOCK if self.vectors.nbytes >= LARGE_BYTES else 1

    def nearest(
        self,
        queries: Floats,
        k: int,
        *,
        skip_rows: NDArray[np.int64] | None = None,
        below: float | None = None,
    ) -> Hits:
        """Finds the k nearest rows of each query; see `nearest`."""
        return nearest(self.vectors, queries, k, skip_rows=skip_rows, below=below)


@dataclass(frozen=True, slots=True)
class CandidateIndex:
    """Scores again what an approximate index finds.

    Attributes:
        vectors: What the index was made of, [N, D].
        find: The index; see `nearest_of_candidates`.
        oversampling: Candidates for each row wanted.
        together: See `VectorIndex`.
    """

    vectors: Floats
    find: Find
    oversampling: int
    together: int = 1

    def nearest(
        self,
        queries: Floats,
        k: int,
        *,
        skip_rows: NDArray[np.int64] | None = None,
        below: float | None = None,
    ) -> Hits:
        """Finds the k nearest rows of each query among the candidates; see `nearest`.

        Rows to skip are left out here: the filter of an index would hold for several queries.
        """
        return nearest_of_candidates(
            self.vectors,
            queries,
            k,
            self.find,
            oversampling=self.oversampling,
            skip_rows=skip_rows,
            below=below,
        )


def finite_blocks(vectors: Floats, size: int) -> Iterator[tuple[int, Floats]]:
    """Yields vectors [N, D] in blocks of so many rows, each with the number of its first row.

    Raises:
        NotFiniteError: A row is not finite.
    """
    for start in range(0, len(vectors), size):
        block = np.ascontiguousarray(vectors[start : start + size])
        wrong = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if len(wrong):
            raise NotFiniteError(start + int(wrong[0]))
        yield start, block


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


def nearest_of_candidates(
    vectors: Floats,
    queries: Floats,
    k: int,
    find: Find,
    *,
    oversampling: int = 1,
    skip_rows: NDArray[np.int64] | None = None,
    below: float | None = None,
) -> Hits:
    """Finds the k rows with the largest inner product among the candidates of an index.

    A query is decided once k candidates qualify and the last of these is better than the worst
    candidate: rows with equal scores are then all known, and ordered as in the exact search.

    Args:
        vectors: The rows that the index holds, [N, D].
        queries: Any number of queries, [Q, D], finite.
        k: How many rows for each query.
        find: The index: takes queries [Q, D] and a count C, returns rows [Q, C], each once, -1
            where it has no more.
        oversampling: Candidates for each row wanted, more than 1 where vectors are quantized.
        skip_rows: For each query a row that it must not find, or -1, [Q].
        below: If given, only scores below it qualify.

    Returns:
        As `nearest`.
    """
    skip = np.full(len(queries), -1) if skip_rows is None else skip_rows
    parts = []
    undecided = np.arange(len(queries))
    count = k * oversampling + SPARE
    while len(undecided) and count <= MOST_CANDIDATES:
        rows = find(queries[undecided], min(count, len(vectors)))  # [U, C]
        hits, is_decided = _best_of_rows(
            vectors, queries[undecided], rows, k, skip[undecided], below
        )
        keep = is_decided[hits.query]
        parts.append(Hits(undecided[hits.query[keep]], hits.row[keep], hits.score[keep]))
        undecided = undecided[~is_decided]
        count *= GROWTH
    if len(undecided):
        hits = nearest(vectors, queries[undecided], k, skip_rows=skip[undecided], below=below)
        parts.append(Hits(undecided[hits.query], hits.row, hits.score))
    query, row, score = (
        np.concatenate([getattr(part, name) for part in parts] or [np.empty(0, dtype)])
        for name, dtype in (("query", np.int64), ("row", np.int64), ("score", np.float64))
    )
    order = np.argsort(query, stable=True)
    return Hits(query[order], row[order], score[order])


def _best_of_rows(
    vectors: Floats,
    queries: Floats,
    rows: NDArray[np.int64],
    k: int,
    skip: NDArray[np.int64],
    below: float | None,
) -> tuple[Hits, NDArray[np.bool_]]:
    """Returns the best k of each query's candidates [Q, C], and which queries these decide, [Q]."""
    query, column = np.nonzero(rows >= 0)
    row = rows[query, column]
    score = _rescore(vectors, queries, query, row)
    worst = np.full(len(queries), np.inf)
    np.minimum.at(worst, query, score)
    wanted = row != skip[query]
    hits = _best(query[wanted], row[wanted], score[wanted], k, below)
    kth = np.full(len(queries), -np.inf)
    is_kth = _rank(hits.query) == k - 1
    kth[hits.query[is_kth]] = hits.score[is_kth]
    has_all = (rows.shape[1] == len(vectors)) & (rows >= 0).all(axis=1)
    return hits, has_all | (kth > worst + TOLERANCE)


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
