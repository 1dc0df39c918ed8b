#!/usr/bin/env python
"""Compares the project's caption scores with pycocoevalcap's, COCO's own evaluation.

    python benchmarks/compare_with_pycocoevalcap.py --captions captions_val2017.json

Makes random captions from those of the files (of the same image or another, shuffled, truncated,
empty) and scores them against 1 to 5 references with both. On the same tokens every score must
agree to 1e-6. With Java, the tokens of all captions of the files must be equal, and with each its
own tokenizer every score must agree to 1e-4, also where half of the captions are noise (emoji,
marks only, brackets, special tokens of models). METEOR and SPICE are Java programs that get the
same tokens. Prints too how many of 5,000 random strings of words and marks have other tokens.
Exits with 1 where something does not agree. Needs pycocoevalcap (requirements-dev.txt).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from igrag.config import REPO_ROOT
from igrag.data.coco import read_captions
from igrag.metrics.bleu import bleu_statistics, corpus_bleu
from igrag.metrics.cider import cider_d
from igrag.metrics.rouge import rouge_l
from igrag.metrics.tokens import Tokens, tokenize, tokenize_corpus

CAPTIONS = REPO_ROOT / "demo" / "coco" / "annotations" / "captions_val.json"
SAME_TOKENS, END_TO_END = 1e-6, 1e-4
SHOWN = 10  # captions with other tokens
CORPUS = 10  # images in each of the small corpora
NAMES = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D")

# What random strings are made of: words, and marks.
_WORDS = """
A dog Dog's CAT man's it's don't o'clock Mr. no. No U.S. e.g. 3 22 3.5 1,000 10:30 5pm 3/4 t-shirt
w/ w/o and/or AT&T TV KY. wash. Wash. cannot gonna 'em '90s ol' y'all ma'am O'Neil
... -- ?! !! '' ``
"""
_MARKS = ".,;:!?'\"()[]{}<>-_/\\|&%$#@*+=~^`’‘“”…–—°½é😀❤☀™£€×·"

Array = NDArray[np.float64]
Corpus = tuple[list[Tokens], list[list[Tokens]]]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Scores of a corpus, in the order of `NAMES`, and of each of its N images."""

    corpus: Array  # [6]
    images: Array  # [N, 6]


def main() -> int:
    """Makes the captions, scores them by both, and prints the largest differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--captions", type=Path, nargs="+", default=[CAPTIONS],
                        help="COCO captions files")  # fmt: skip
    parser.add_argument("--count", type=int, default=2_000, help="captions to make")
    parser.add_argument("--strings", type=int, default=5_000, help="random strings to tokenize")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if find_spec("pycocoevalcap") is None:
        parser.error("pycocoevalcap is not installed: pip install -r requirements-dev.txt")

    images = [list(image.captions) for file in arguments.captions for image in read_captions(file)]
    random = Random(arguments.seed)
    made = random_captions(images, arguments.count, random)
    print(f"{len(images)} images, {len(made[0])} captions made from theirs, seed {arguments.seed}")
    tokens = tokenize_corpus(*made)
    own, theirs = own_scores(tokens), reference_scores(tokens)
    print("own tokens:  " + table(own.corpus))
    difference = max(
        report("corpus", own.corpus, theirs.corpus),
        report("images, each", own.images, theirs.images),
        report(f"corpora of {CORPUS}", *small_corpora(tokens)),
    )
    agrees = difference < SAME_TOKENS
    print(f"the same tokens give the same scores within {SAME_TOKENS}: {agrees}")
    if shutil.which("java") is None:
        print("tokens and end to end: skipped, Java is not installed")
    else:
        agrees &= compare_with_java(images, made, random)
        strings = [random_string(random) for _ in range(arguments.strings)]
        print(f"random strings with other tokens: {count_differences(strings)} of {len(strings)}")
    return 0 if agrees else 1


def compare_with_java(
    images: Sequence[Sequence[str]], made: tuple[list[str], list[list[str]]], random: Random
) -> bool:
    """Prints which captions have other tokens, and the differences of the scores end to end."""
    captions = [text for texts in images for text in texts]
    different = count_differences(captions, shown=SHOWN)
    print(f"captions with other tokens: {different} of {len(captions)}")
    agrees = different == 0
    hypotheses, references = made
    noisy = [random.choice([caption, noise(caption, random)]) for caption in hypotheses]
    for name, texts in {"captions": hypotheses, "captions with noise": noisy}.items():
        own = own_scores(tokenize_corpus(texts, references))
        java = reference_scores(java_corpus(texts, references))
        agrees &= report(f"{name}, end to end", own.corpus, java.corpus) < END_TO_END
    print(f"all tokens are equal, and all scores within {END_TO_END}: {agrees}")
    return agrees


def count_differences(captions: Sequence[str], *, shown: int = 0) -> int:
    """Returns how many captions have other tokens than Java's, and prints the first of them."""
    pairs = [(text, tokenize(text), tokens) for text, tokens in
             zip(captions, java_tokens(captions), strict=True)]  # fmt: skip
    different = [pair for pair in pairs if pair[1] != pair[2]]
    for text, own, java in different[:shown]:
        print(f"{text!r}: {' '.join(own)} | Java: {' '.join(java)}")
    return len(different)


def random_captions(
    images: Sequence[Sequence[str]], count: int, random: Random
) -> tuple[list[str], list[list[str]]]:
    """Makes captions [count] good and bad ones, and for each 1 to 5 references."""
    images = [texts for texts in images if texts]
    hypotheses, references = [], []
    for _ in range(count):
        texts = random.choice(images)
        texts = random.sample(texts, len(texts))
        references.append(texts[: random.randint(1, 5)])
        copy, same_image, other_image = texts[0], texts[-1], random.choice(images)[0]
        caption = random.choice([copy, same_image, other_image])
        hypotheses.append(spoil(caption, random))
    return hypotheses, references


def spoil(caption: str, random: Random) -> str:
    """Returns the caption unchanged, shuffled, truncated, repeated or empty."""
    words = caption.split()
    return random.choice(
        [
            caption,
            " ".join(random.sample(words, len(words))),
            " ".join(words[: random.randint(1, len(words))]),
            f"{caption} {caption}",
            random.choice(["", "."]),
        ]
    )


def noise(caption: str, random: Random) -> str:
    """Returns the caption as a model's noisy output: emoji, marks, brackets, special tokens."""
    return random.choice(
        [
            random.choice(["", "...", "?!", "!!!", "()", "😀😀", "“”", "- - -", "<pad> <pad>"]),
            f"<pad> {caption}</s>",
            f"[CLS] {caption.rstrip('. ')} [SEP]",
            f"{caption} 😀❤️",
            f"“{caption}” …",
            f"({caption}) it’s 20°C :)",
            caption.replace(" ", " - ", 2).replace(".", "!!"),
        ]
    )


def random_string(random: Random) -> str:
    """Returns a string of random words and marks, with and without spaces between them."""
    pieces = [
        "".join(random.choices([*_WORDS.split(), *_MARKS], k=random.randint(1, 3)))
        for _ in range(4)
    ]
    return f"A {' '.join(pieces)} dog"


def own_scores(tokens: Corpus) -> Scores:
    """Returns the scores by the project's functions."""
    statistics = bleu_statistics(*tokens)
    each = np.column_stack([corpus_bleu(statistics), rouge_l(*tokens), cider_d(*tokens)])
    corpus = np.append(corpus_bleu(statistics.sum(axis=0)), each[:, 4:].mean(axis=0))
    return Scores(corpus, each)


def reference_scores(tokens: Corpus) -> Scores:
    """Returns the scores by pycocoevalcap's functions.

    Raises:
        ImportError: It is not installed.
    """
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    results = {index: [" ".join(words)] for index, words in enumerate(tokens[0])}
    truth = {index: [" ".join(text) for text in texts] for index, texts in enumerate(tokens[1])}
    bleus, each_bleus = Bleu(4).compute_score(truth, results, verbose=0)
    rouge, each_rouge = Rouge().compute_score(truth, results)
    cider, each_cider = Cider().compute_score(truth, results)
    return Scores(
        np.array([*bleus, rouge, cider]), np.column_stack([*each_bleus, each_rouge, each_cider])
    )


def java_corpus(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Corpus:
    """Tokenizes with the Java program of pycocoevalcap, as COCO's evaluation does."""
    tokens = iter(java_tokens([*hypotheses, *(text for texts in references for text in texts)]))
    return [next(tokens) for _ in hypotheses], [
        [next(tokens) for _ in texts] for texts in references
    ]


def java_tokens(captions: Sequence[str]) -> list[Tokens]:
    """Tokenizes captions [N] with the Java program of pycocoevalcap.

    Raises:
        ImportError: pycocoevalcap is not installed.
        FileNotFoundError: Java is not installed.
    """
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    # Without a UTF-8 locale older versions of Java read and print ASCII.
    os.environ.setdefault("JAVA_TOOL_OPTIONS", "-Dfile.encoding=UTF-8")
    # The program reads one caption per line, and keeps the line's white space.
    lines = {index: [{"caption": " ".join(text.split())}] for index, text in enumerate(captions)}
    found = PTBTokenizer().tokenize(lines)
    assert len(found) == len(captions), f"{len(found)} of {len(captions)} captions came back"
    return [found[index][0].split() for index in lines]


def small_corpora(tokens: Corpus) -> tuple[Array, Array]:
    """Scores many small corpora [C, 6] by both: other weights of CIDEr-D, odd totals of BLEU."""
    starts = range(0, len(tokens[0]), CORPUS)
    corpora = [(tokens[0][at : at + CORPUS], tokens[1][at : at + CORPUS]) for at in starts]
    own = np.array([own_scores(corpus).corpus for corpus in corpora])
    return own, np.array([reference_scores(corpus).corpus for corpus in corpora])


def table(scores: Array) -> str:
    """Returns the scores [6] with their names."""
    return ", ".join(f"{name} {score:.4f}" for name, score in zip(NAMES, scores, strict=True))


def report(what: str, own: Array, theirs: Array) -> float:
    """Prints the largest difference of each score over all rows; returns the largest of all."""
    worst = np.abs(np.atleast_2d(own - theirs)).max(axis=0)
    figures = ", ".join(f"{name} {value:.1e}" for name, value in zip(NAMES, worst, strict=True))
    print(f"{what}: largest difference {figures}")
    return float(worst.max())


if __name__ == "__main__":
    sys.exit(main())
