"""BLEU as COCO's caption evaluation computes it."""

from dataclasses import astuple
from math import exp

import pytest

from igrag.metrics import bleu, tokenise


def test_tokens_are_those_of_cocos_evaluation() -> None:
    """PTB tokens in lower case without COCO's punctuation; a clitic is a token of its own."""
    assert tokenise("A man's \"dog\", (sitting)  on\na half-pipe: it can't move...") == (
        ["a", "man", "'s", "dog", "sitting", "on", "a", "half-pipe", "it", "ca", "n't", "move"]
    )
    assert tokenise(" ?! ") == []


def test_a_case_by_hand() -> None:
    """Clipped counts, and the closest length decides on the brevity penalty."""
    # Unigrams: the, cat (the second "the" is clipped: each reference has one) of 3 words.
    # Bigrams: "the cat" of 2. Lengths: 3 against the closest of 4 and 6.
    score = bleu(["the cat the"], [["the cat sits down", "a cat is on the mat"]])
    assert score.bleu1 == pytest.approx(exp(1 - 4 / 3) * 2 / 3, abs=1e-8)
    assert score.bleu2 == pytest.approx(exp(1 - 4 / 3) * (2 / 3 * 1 / 2) ** 0.5, abs=1e-8)


def test_itself_scores_one() -> None:
    """Captions equal to one of their references score 1 at every order."""
    texts = ["A dog runs in a field.", "Two cats sleep on the bed."]
    score = bleu(texts, [["Something else.", texts[0]], [texts[1]]])
    assert astuple(score) == pytest.approx((1, 1, 1, 1), abs=1e-8)


# Made with pycocoevalcap 1.2's BleuScorer(n=4).compute_score(option="closest") on the same tokens.
GOLDEN = {
    "mixed, with an empty caption and one to four references": (
        [
            "A brown dog runs across the green field.",
            "",
            "Two cats.",
            "a man rides a red horse on the beach near the sea",
        ],
        [
            [
                "A dog runs across a green field.",
                "The brown dog is running on the field.",
                "A dog.",
            ],
            ["A bus on a street."],
            ["Two cats sleep on a bed.", "Two cats.", "A pair of cats, lying down.", "Cats"],
            ["A man rides a horse on the beach.", "A man on a red horse near the sea."],
        ],
        (0.871596138190196, 0.7926579493996894, 0.6307967685821916, 0.42537528762327026),
    ),
    "captions of fewer than four words among longer ones": (
        ["a dog", "a cat runs", "bus", "a dog runs fast now"],
        [
            ["a dog", "the dog runs"],
            ["a cat runs away", "cat"],
            ["a bus"],
            ["a dog runs fast now today", "dogs"],
        ],
        (0.7613003865584559, 0.7613003865386817, 0.7613003865049012, 0.7613003864404296),
    ),
    "nothing but captions of fewer than three words": (
        ["a dog", "cats"],
        [["a dog runs", "the dog"], ["two cats"]],
        (0.7165313100961022, 0.7165313098572585, 0.007165313100164878, 0.0007165313100961022),
    ),
    "nothing but empty captions": (["", "!"], [["a dog"], ["a cat"]], (0.0, 0.0, 0.0, 0.0)),
    "captions longer than their references": (
        ["the the the the the the the", "a boat on the sea by the shore"],
        [["the cat is on the mat", "there is a cat on the mat"], ["a boat on the sea"]],
        (0.4666666666355556, 0.3789323733453314, 0.3395866925685262, 0.3054287177418082),
    ),
    "two references equally close in length: the shorter counts": (
        ["a b c d e"],
        [["a b c d e f", "a b c d"]],
        (0.9999999998000002, 0.9999999997750002, 0.9999999997388891, 0.999999999679167),
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_agrees_with_pycocoevalcap(name: str) -> None:
    """BLEU-1 to 4 are pycocoevalcap's to 1e-9, in the odd cases too."""
    hypotheses, references, expected = GOLDEN[name]
    assert astuple(bleu(hypotheses, references)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("hypotheses", "references"), [(["a"], []), ([], []), (["a", "b"], [["a"], []])]
)
def test_what_cannot_be_scored_is_refused(
    hypotheses: list[str], references: list[list[str]]
) -> None:
    """Different counts, nothing at all, and a picture without references are errors."""
    with pytest.raises(ValueError, match=r"captions for|at least one reference"):
        bleu(hypotheses, references)
