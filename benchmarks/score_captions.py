#!/usr/bin/env python
"""Time scoring as many captions as COCO's validation set has images.

    python benchmarks/score_captions.py
    python benchmarks/score_captions.py --captions captions_val2017.json

The captions are made from a COCO captions file, the miniature's by default, over and over until
there are enough; each has 5 references. Prints the seconds for the scores, and for the interval
and the paired test on BLEU-4 and CIDEr-D.
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
from igrag.metrics import (
    ImageScores,
    bootstrap_interval,
    corpus_bleu4,
    paired_bootstrap,
    score_images,
)

CAPTIONS = REPO_ROOT / "demo" / "coco" / "annotations" / "captions_train.json"
REFERENCES = 5


def main() -> int:
    """Makes the captions, score them, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--captions", type=Path, default=CAPTIONS, help="COCO captions file")
    parser.add_argument("--count", type=int, default=5_000, help="captions (COCO val2017)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    hypotheses, references = make_captions(arguments.captions, arguments.count, arguments.seed)
    score_images(hypotheses[:10], references[:10])  # The libraries start up.
    start, start_cpu = time.perf_counter(), time.process_time()
    scores = score_images(hypotheses, references)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    print(", ".join(f"{name} {score}" for name, score in scores.corpus().formatted().items()))
    print(
        f"{arguments.count} captions, {REFERENCES} references each: {seconds:.1f} s "
        f"({cpu:.1f} s of processor time)"
    )
    # Another system: one that leaves out the first word.
    other = score_images([text.partition(" ")[2] for text in hypotheses], references)
    start = time.perf_counter()
    bootstrap(scores, other)
    print(f"2 intervals and 2 paired tests by bootstrap: {time.perf_counter() - start:.1f} s")
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


def bootstrap(scores: ImageScores, other: ImageScores) -> None:
    """Computes the interval and the paired test of BLEU-4 and of CIDEr-D."""
    first, second = scores.bleu_statistics, other.bleu_statistics
    bootstrap_interval(first, corpus_score=corpus_bleu4)
    paired_bootstrap(first, second, corpus_score=corpus_bleu4)
    assert scores.cider_d is not None and other.cider_d is not None
    bootstrap_interval(scores.cider_d)
    paired_bootstrap(scores.cider_d, other.cider_d)


if __name__ == "__main__":
    sys.exit(main())
