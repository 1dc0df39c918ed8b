#!/usr/bin/env python
"""Times scoring as many captions as COCO's validation set has images.

    python benchmarks/score_captions.py
    python benchmarks/score_captions.py --captions captions_val2017.json

The captions are made from a COCO captions file, by default that of the demo data, repeated until
there are enough; each has 5 references. Prints the seconds for the scores, and for the interval
and the paired test of every headline metric.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from igrag.config import REPO_ROOT
from igrag.data.coco import read_captions
from igrag.metrics import CaptionScores, bootstrap_interval, paired_bootstrap, score_captions

CAPTIONS = REPO_ROOT / "demo" / "coco" / "annotations" / "captions_train.json"
REFERENCES = 5


def main() -> int:
    """Makes the captions, scores them, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--captions", type=Path, default=CAPTIONS, help="COCO captions file")
    parser.add_argument("--count", type=int, default=5_000, help="captions (COCO val2017)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    hypotheses, references = make_captions(arguments.captions, arguments.count, arguments.seed)
    skip = ("meteor",)  # The time of its Java program, not of this project.
    score_captions(hypotheses[:10], references[:10], skip=skip)  # Warm-up of the libraries.
    start, start_cpu = time.perf_counter(), time.process_time()
    scores = score_captions(hypotheses, references, skip=skip)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    print(", ".join(f"{name} {score}" for name, score in scores.formatted().items()))
    print(
        f"{arguments.count} captions, {REFERENCES} references each: {seconds:.1f} s "
        f"({cpu:.1f} s of processor time)"
    )
    # A second system, which leaves out the first word.
    shortened = [text.partition(" ")[2] for text in hypotheses]
    other = score_captions(shortened, references, skip=skip)
    start = time.perf_counter()
    count = bootstrap(scores, other)
    seconds = time.perf_counter() - start
    print(f"{count} intervals and {count} paired tests by bootstrap: {seconds:.1f} s")
    return 0


def make_captions(path: Path, count: int, seed: int) -> tuple[list[str], list[list[str]]]:
    """Makes captions [count], half of them the image's own with words exchanged."""
    random = Random(seed)
    images = [image.captions for image in read_captions(path) if image.captions]
    hypotheses, references = [], []
    for texts in islice(cycle(images), count):
        references.append(list(islice(cycle(texts), REFERENCES)))
        own, other = random.choice(texts).split(), random.choice(random.choice(images)).split()
        kept = [random.choice(pair) for pair in zip(own, other, strict=False)]
        hypotheses.append(" ".join(random.choice([kept, other])))
    return hypotheses, references


def bootstrap(scores: CaptionScores, other: CaptionScores) -> int:
    """Computes the interval and the paired test of every headline metric; returns their number."""
    headline = [metric for metric in scores.metrics.values() if metric.headline]
    for metric in headline:
        first, second = scores.scores[metric.key].statistics, other.scores[metric.key].statistics
        assert first is not None and second is not None, metric.key
        bootstrap_interval(first, metric.corpus_score)
        paired_bootstrap(first, second, metric.corpus_score)
    return len(headline)


if __name__ == "__main__":
    sys.exit(main())
