"""ROUGE-L as COCO's caption evaluation computes it."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest

from igrag.metrics.rouge import rouge_l
from igrag.metrics.tokens import tokenize_corpus

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))["cases"]


def f_score(precision: float, recall: float) -> float:
    """Returns the F-score in which recall counts 1.2 times as much."""
    return (1 + 1.44) * precision * recall / (recall + 1.44 * precision)


def textbook_length(first: list[str], second: list[str]) -> int:
    """Returns the length of the longest common subsequence, by its definition."""
    if not first or not second:
        return 0
    if first[-1] == second[-1]:
        return textbook_length(first[:-1], second[:-1]) + 1
    return max(textbook_length(first[:-1], second), textbook_length(first, second[:-1]))


def test_rouge_l_of_an_example_by_hand() -> None:
    """Words in the same order count, even with others between them: "a dog ... grass"."""
    tokens = tokenize_corpus(["a big dog on grass", "cat"], [["a dog runs on the grass"], ["dog"]])
    scores = rouge_l(*tokens)
    assert scores == pytest.approx([f_score(4 / 5, 4 / 6), 0])


def test_best_precision_and_best_recall_count() -> None:
    """As in COCO's evaluation, precision and recall may come from two references."""
    references = ["a dog runs far over the green field", "dog"]
    scores = rouge_l(*tokenize_corpus(["a dog runs now"], [references]))
    assert scores == pytest.approx([f_score(3 / 4, 1)])


def test_empty_caption_scores_zero() -> None:
    """An empty caption scores 0, against an empty reference too."""
    assert rouge_l([[], []], [[["a", "dog"]], [[]]]).tolist() == [0, 0]


def test_bit_parallel_length_equals_the_definition() -> None:
    """The common subsequence has the length of its definition, also with repeated words."""
    random = Random(0)
    for _ in range(200):
        first, second = (random.choices("abcd", k=random.randint(1, 7)) for _ in range(2))
        common = textbook_length(first, second)
        expected = f_score(common / len(first), common / len(second)) if common else 0
        assert rouge_l([first], [[second]]) == pytest.approx([expected])


@pytest.mark.parametrize("name", GOLDEN)
def test_rouge_l_equals_pycocoevalcap(name: str) -> None:
    """Every image's score is pycocoevalcap's."""
    case = GOLDEN[name]
    scores = rouge_l(*tokenize_corpus(case["hypotheses"], case["references"]))
    assert scores == pytest.approx(np.array(case["images"])[:, 4], abs=1e-12)
