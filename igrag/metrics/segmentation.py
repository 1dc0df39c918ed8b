"""Tokens of captions in languages that write no spaces: Chinese, Japanese, Thai and others.

For the tokens of COCO's evaluation a sentence of theirs is one word, and every score is 0 or 1.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

PTB, ZH, CHARACTERS = "ptb", "zh", "char"
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_CHINESE = re.compile(f"[{_HAN}]")
# Thai and Lao, Burmese, Khmer, Hiragana and Katakana
_OTHERS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff]")
_MOST = 0.5


def unspaced_share(texts: Sequence[Sequence[str]]) -> tuple[float, float]:
    """Returns which shares of all characters are Chinese, and of other scripts without spaces."""
    length = chinese = others = 0
    for text in (text for group in texts for text in group):
        length += len("".join(text.split()))
        if not text.isascii():
            chinese += len(_CHINESE.findall(text))
            others += len(_OTHERS.findall(text))
    return chinese / max(1, length), others / max(1, length)


def choose_tokenizer(references: Sequence[Sequence[str]]) -> str:
    """Returns the tokenizer for what the references hold.

    Returns:
        "zh" for Chinese (sacrebleu's: each Chinese character is a token, other words are whole),
        "char" for Japanese, Thai and others (each character), else "ptb", COCO's.
    """
    chinese, others = unspaced_share(references)
    if chinese + others < _MOST:
        return PTB
    return CHARACTERS if others > chinese / 10 else ZH  # Japanese has Chinese characters too.


@cache
def splitter_of(name: str) -> Callable[[str], list[str]]:
    """Returns sacrebleu's function for "zh" or "char", which splits a caption into tokens."""
    from sacrebleu.tokenizers.tokenizer_char import TokenizerChar
    from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

    tokenizers: dict[str, Any] = {ZH: TokenizerZh, CHARACTERS: TokenizerChar}  # without types
    insert_spaces = tokenizers[name]()

    def split(caption: str) -> list[str]:
        return str(insert_spaces(caption.lower())).split()

    return split
