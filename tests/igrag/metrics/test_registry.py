"""The registered metrics, and the scores of captions by all of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from igrag.metrics import (
    Metric,
    MetricError,
    TokenizedCorpus,
    bleu,
    registered_metrics,
    registry,
    score_captions,
    tokens,
)
from igrag.metrics.tokens import Tokens

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))["cases"]
# The order of the scores in golden.json.
KEYS = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider_d")
SKIP: dict[str, Any] = {"skip": ("meteor",)}


class Overlap(Metric):
    """A metric that only this test has: captions that equal a reference."""

    key, label = "overlap", "overlap"

    def image_statistics(self, corpus: TokenizedCorpus) -> NDArray[Any]:
        """Returns 1 for a match [N, 1]."""
        pairs = zip(corpus.hypotheses, corpus.references, strict=True)
        return np.array([[words in texts] for words, texts in pairs])


class Broken(Overlap):
    """A metric that fails."""

    key, label = "broken", "Broken"

    def image_statistics(self, corpus: TokenizedCorpus) -> NDArray[Any]:
        """Fails."""
        raise MetricError("failed: no disk")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two metrics are registered for the time of a test."""
    registered_metrics()
    monkeypatch.setattr(registry, "_registered", {**registry._registered})
    registry.register(Overlap())
    registry.register(Broken())


@pytest.mark.parametrize("name", GOLDEN)
def test_corpus_scores_equal_pycocoevalcap(name: str) -> None:
    """Every score of the corpus is pycocoevalcap's."""
    case = GOLDEN[name]
    scores = score_captions(case["hypotheses"], case["references"], **SKIP)
    assert [scores[key] for key in KEYS] == pytest.approx(case["corpus"], abs=1e-9)


@pytest.mark.parametrize("name", GOLDEN)
def test_image_scores_equal_pycocoevalcap(name: str) -> None:
    """Every score of an image, computed from its statistics, is pycocoevalcap's."""
    case = GOLDEN[name]
    scores = score_captions(case["hypotheses"], case["references"], **SKIP)
    for key, expected in zip(KEYS, np.array(case["images"]).T, strict=True):
        if scores.scores[key].statistics is not None:
            found = scores.metrics[key].image_scores(scores.scores[key])
            assert found == pytest.approx(expected, abs=1e-9)


def test_statistics_add_up_to_the_corpus_score() -> None:
    """The sum of the statistics over images gives the score of the corpus."""
    case = GOLDEN["a sample of the demo captions"]
    scores = score_captions(case["hypotheses"], case["references"], **SKIP)
    expected = bleu(case["hypotheses"], case["references"])
    assert [scores[key] for key in KEYS[:4]] == [getattr(expected, key) for key in KEYS[:4]]
    for key in KEYS:
        statistics = scores.scores[key].statistics
        assert statistics is not None and len(statistics) == len(case["hypotheses"])
        total = scores.metrics[key].corpus_score(statistics.sum(axis=0), len(statistics))
        assert float(total) == scores[key]


def test_empty_captions_are_misses() -> None:
    """An empty caption counts: it is not dropped from any mean."""
    references = [["a dog runs on the grass"], ["two cats sleep on a bed"]]
    full = score_captions([texts[0] for texts in references], references, **SKIP)
    half = score_captions([references[0][0], ""], references, **SKIP)
    for key in ("rouge_l", "cider_d"):
        assert half[key] == pytest.approx((full[key] or 0) / 2)
    assert (half["bleu4"] or 0) < 0.5 * (full["bleu4"] or 0)


def test_scores_are_formatted_by_label() -> None:
    """Scores have the labels of papers; CIDEr-D of one image is n/a, not 0."""
    one = score_captions(["a dog runs on grass"], [["a dog runs on grass"]], **SKIP)
    assert one["cider_d"] is None
    expected = {
        "BLEU-1": "1.000",
        "BLEU-2": "1.000",
        "BLEU-3": "1.000",
        "BLEU-4": "1.000",
        "CIDEr-D": "n/a",
        "ROUGE-L": "1.000",
    }
    assert expected.items() <= one.formatted().items()
    two = score_captions(["a dog", "a bus"], [["a dog"], ["a cat"]], **SKIP)
    assert two.formatted(digits=1)["CIDEr-D"] == "2.5"


def test_missing_metrics_have_a_reason() -> None:
    """Skipped metrics and those that cannot be computed are listed with the reason."""
    scores = score_captions(["a dog"], [["a dog"]], skip=("meteor", "bleu1", "spice"))
    assert scores.unavailable == {
        "BLEU-1": "was skipped",
        "CLIPScore": "needs the images and their CLIP model",
        "METEOR": "was skipped",
        "RefCLIPScore": "needs the images and their CLIP model",
        "SPICE": "was skipped",
    }
    assert "bleu1" not in scores.values


def test_registered_metric_is_scored(registered: None) -> None:
    """A registered metric is scored with all others, and one that fails is listed."""
    scores = score_captions(["A dog.", "two birds"], [["a dog"], ["a cat"]], **SKIP)
    assert scores["overlap"] == 0.5 and scores["bleu1"] is not None
    assert scores.unavailable["Broken"] == "failed: no disk"


def test_metrics_are_sorted_by_module() -> None:
    """The order does not depend on which module is imported first."""
    modules = [type(metric).__module__ for metric in registered_metrics()]
    assert modules == sorted(modules)
    assert {*KEYS, "meteor"} <= {metric.key for metric in registered_metrics()}


def test_captions_are_tokenized_once(registered: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """All metrics share the tokens, and BLEU-1 to 4 share their counts."""
    calls: list[str] = []
    tokenize = tokens.tokenize

    def record_call(text: str) -> Tokens:
        calls.append(text)
        return tokenize(text)

    monkeypatch.setattr(tokens, "tokenize", record_call)
    scores = score_captions(["a dog", "a cat"], [["b", "c"], ["d"]], **SKIP)
    assert calls == ["a dog", "a cat", "b", "c", "d"]
    assert scores.scores["bleu1"].statistics is scores.scores["bleu4"].statistics


def test_invalid_captions_are_an_error() -> None:
    """Scoring no captions is an error."""
    with pytest.raises(ValueError, match="no captions to score"):
        score_captions([], [])
