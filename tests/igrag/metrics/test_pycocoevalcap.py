"""Comparison with pycocoevalcap, if it is installed, and with its tokenizer, if Java is."""

import shutil
from random import Random

import numpy as np
import pytest

from benchmarks.compare_with_pycocoevalcap import (
    CAPTIONS,
    java_corpus,
    own_scores,
    random_captions,
    reference_scores,
)
from igrag.data.coco import read_captions
from igrag.metrics.tokens import tokenize_corpus

pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pycocoevalcap is not installed")


@pytest.fixture(scope="module")
def made() -> tuple[list[str], list[list[str]]]:
    """Captions of all kinds made from the demo data, with one to five references each."""
    images = [list(image.captions) for image in read_captions(CAPTIONS)]
    return random_captions(images, 200, Random(1))


def test_scores_equal_pycocoevalcap(made: tuple[list[str], list[list[str]]]) -> None:
    """On the same tokens every score of the corpus and of each image agrees."""
    tokens = tokenize_corpus(*made)
    own, theirs = own_scores(tokens), reference_scores(tokens)
    assert np.abs(own.corpus - theirs.corpus).max() < 1e-9
    assert np.abs(own.images - theirs.images).max() < 1e-9


@pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed")
def test_tokens_equal_the_java_tokenizer(made: tuple[list[str], list[list[str]]]) -> None:
    """The Java tokenizer returns the same tokens for the demo captions."""
    assert java_corpus(*made) == tokenize_corpus(*made)
