#!/usr/bin/env python
"""Times exact search in a knowledge base of COCO's size.

    python benchmarks/search_knowledge_base.py

The vectors are random unit vectors clustered as images' vectors are; every tenth query is a
row itself. Prints the seconds for all queries and the process's peak memory.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.memory import peak_bytes
from igrag.data.coco import CaptionedImage
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.knowledge_base import KnowledgeBase

CLUSTERS = 500
BLOCK = 16_384


def main() -> int:
    """Makes the knowledge base, searches it, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=118_287, help="vectors (COCO train2017)")
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--queries", type=int, default=5_000)
    parser.add_argument("--k", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    generator = np.random.default_rng(arguments.seed)
    centers = random_units(generator, CLUSTERS, arguments.dimension)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "knowledge_base"
        make_knowledge_base(path, generator, centers, arguments.count)
        knowledge_base = KnowledgeBase.open(path)
        queries = near(generator, centers, arguments.queries)
        own = knowledge_base.image_ids[:: max(1, arguments.count // len(queries[::10]))]
        for index, image_id in zip(range(0, len(queries), 10), own, strict=False):
            vector = knowledge_base.vector(image_id)
            assert vector is not None
            queries[index] = vector
        start = time.perf_counter()
        matches = knowledge_base.search(queries, arguments.k)
        seconds = time.perf_counter() - start
        assert all(len(found) == arguments.k for found in matches)
        assert matches[0][0].image_id == own[0]
    print(
        f"{arguments.queries} queries in {arguments.count} x {arguments.dimension}, "
        f"k = {arguments.k}: {seconds:.1f} s, peak memory {peak_bytes() / 1e9:.2f} GB"
    )
    return 0


def make_knowledge_base(
    path: Path, generator: np.random.Generator, centers: NDArray[np.float32], count: int
) -> None:
    """Saves `count` vectors with five captions each."""
    vectors = np.empty((count, centers.shape[1]), np.float32)
    for start in range(0, count, BLOCK):
        vectors[start : start + BLOCK] = near(generator, centers, len(vectors[start:][:BLOCK]))
    entries = [
        CaptionedImage(
            index, f"{index:012}.jpg", tuple(f"caption {n} of {index}" for n in range(5))
        )
        for index in range(count)
    ]
    encoder = EncoderIdentity("random", vectors.shape[1], "none", {})
    KnowledgeBase.write(path, vectors=vectors, entries=entries, encoder=encoder)


def near(
    generator: np.random.Generator, centers: NDArray[np.float32], count: int
) -> NDArray[np.float32]:
    """Draws unit vectors [count, D] around random centers [C, D], at a cosine of about 0.7."""
    chosen = centers[generator.integers(len(centers), size=count)]
    return unit(chosen + random_units(generator, count, centers.shape[1]))


def random_units(generator: np.random.Generator, count: int, dimension: int) -> NDArray[np.float32]:
    """Draws unit vectors [count, D] in all directions."""
    return unit(generator.standard_normal((count, dimension), dtype=np.float32))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales rows to length 1."""
    scaled: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


if __name__ == "__main__":
    sys.exit(main())
