"""Captions in Chinese, Japanese and Thai, whose sentences are one word to COCO's tokens."""

import pytest

from evaluation.human import score_references
from igrag.metrics import bleu, score_captions
from igrag.metrics.segmentation import choose_tokenizer
from igrag.metrics.tokens import tokenizer_of

REFERENCES = [["一只棕色的狗在草地上奔跑", "草地上有一只狗在奔跑"], ["一个男人骑着自行车在街上"]]
NEAR = ["一只黑色的狗在草地上奔跑", "一个女人骑着自行车在街上"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a dog runs", "ptb"),
        ("un café à Paris", "ptb"),
        ("a sign that reads 出口", "ptb"),
        ("一只狗在草地上跑", "zh"),
        ("犬が公園を走っている", "char"),
        ("สุนัขวิ่งในสวน", "char"),
    ],
)
def test_references_decide_the_tokenizer(text: str, expected: str) -> None:
    """Most of the characters must be of a script without spaces."""
    assert choose_tokenizer([[text]]) == expected


def test_near_identical_chinese_captions_score_high() -> None:
    """One character of twelve differs: as whole sentences they would score nothing."""
    assert bleu(NEAR, REFERENCES).bleu4 > 0.6
    scores = score_captions(NEAR, REFERENCES, skip=("meteor", "spice"))
    assert (scores["bleu4"] or 0) > 0.6
    whole = score_captions(NEAR, REFERENCES, skip=("meteor", "spice"), tokenizer="ptb")
    assert (whole["bleu4"] or 0) < 0.01
    assert (score_references(REFERENCES, skip=("meteor", "spice"))["bleu1"] or 0) > 0.5


def test_words_between_chinese_characters_stay_whole() -> None:
    """The tokens of zh are characters, those of other scripts words in lower case."""
    assert tokenizer_of("zh")("一只Dog在跑") == ["一", "只", "dog", "在", "跑"]
    assert tokenizer_of("ptb")("A Dog.") == ["a", "dog"]
