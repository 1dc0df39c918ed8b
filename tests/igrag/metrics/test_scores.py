"""All scores at once."""

import json
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from igrag.metrics import LEFT_OUT, bleu, score_captions, score_images

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("name", GOLDEN)
def test_agrees_with_pycocoevalcap(name: str) -> None:
    """Every score of the corpus is pycocoevalcap's."""
    case = GOLDEN[name]
    scores = score_captions(case["hypotheses"], case["references"])
    assert astuple(scores) == pytest.approx(case["corpus"], abs=1e-9)


def test_images_make_up_the_corpus() -> None:
    """Means of the images' scores, and the sum of BLEU's counts, are the corpus's."""
    case = GOLDEN["a sample of the miniature's captions"]
    images = score_images(case["hypotheses"], case["references"])
    assert len(images.bleu_statistics) == len(images.rouge_l) == len(case["hypotheses"])
    assert images.cider_d is not None
    expected = [*astuple(bleu(case["hypotheses"], case["references"]))]
    expected += [np.mean(images.rouge_l), np.mean(images.cider_d)]
    assert astuple(images.corpus()) == pytest.approx(expected)


def test_empty_captions_are_misses() -> None:
    """A caption left empty costs: it is not dropped from any mean."""
    references = [["a dog runs on the grass"], ["two cats sleep on a bed"]]
    full = score_captions([texts[0] for texts in references], references)
    half = score_captions([references[0][0], ""], references)
    assert half.rouge_l == pytest.approx(full.rouge_l / 2)
    assert full.cider_d is not None
    assert half.cider_d == pytest.approx(full.cider_d / 2)
    assert half.bleu4 < 0.5 * full.bleu4


def test_printed_for_people() -> None:
    """Names as papers have them; CIDEr-D of one image is n/a, not 0."""
    one = score_captions(["a dog runs on grass"], [["a dog runs on grass"]])
    assert one.cider_d is None
    assert one.formatted() == {
        "BLEU-1": "1.000",
        "BLEU-2": "1.000",
        "BLEU-3": "1.000",
        "BLEU-4": "1.000",
        "ROUGE-L": "1.000",
        "CIDEr-D": "n/a",
    }
    two = score_captions(["a dog", "a bus"], [["a dog"], ["a cat"]])
    assert two.formatted(digits=1)["CIDEr-D"] == "2.5"


def test_what_is_left_out_is_named() -> None:
    """A report can say which of COCO's scores are missing, and why; METEOR can be had."""
    assert set(LEFT_OUT) == {"SPICE"}
    assert "a download of a parser's models" in LEFT_OUT["SPICE"]


def test_what_cannot_be_scored_is_refused() -> None:
    """Nothing at all has no score."""
    with pytest.raises(ValueError, match="no captions to score"):
        score_captions([], [])
