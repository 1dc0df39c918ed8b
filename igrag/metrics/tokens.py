"""Captions as COCO's evaluation compares them: lists of PTB tokens."""

import re
from collections.abc import Sequence
from functools import cache

from nltk.tokenize import NLTKWordTokenizer

Tokens = list[str]

# pycocoevalcap drops these after tokenizing (ptbtokenizer.py).
_DROPPED = frozenset(["''", "'", "``", "`", '"', *"(){}[].?!,:-;", "--", "..."])
# The Java program's plain forms of what a text processor makes of quotes, dashes and dots.
_PLAIN_FORMS = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "--", "—": "--", "…": "..."}
)
# NLTK's tokenizer expects one sentence and leaves a full stop inside of it at its word ("a dog. It
# runs"); the Java program takes it off, but for single letters and abbreviations such as these.
_ABBREVIATIONS = "ave|blvd|dr|etc|ft|jr|mr|mrs|ms|mt|rd|sr|st|vs"
_INNER_STOP = re.compile(rf"(?<!\S)(?!(?:[a-z]|{_ABBREVIATIONS})\.)([^\s.]+)\.+(?!\S)")
# At the end the Java program keeps it at such a word too; NLTK takes off one stop, so it gets two.
_LAST_ABBREVIATION = re.compile(rf"(?<!\S)(?:[a-z]\.[a-z]|{_ABBREVIATIONS})\.$")
# Most captions are words and a full stop: the tokenizer's thirty substitutions only take off the
# stop, unless a word is one of those it splits ("can not"). str.split takes a tenth of the time.
_PLAIN = re.compile(r"(?!.*(?:cannot|gimme|gonna|gotta|lemme|wanna))[a-z0-9 ]*\.?")


@cache
def _tokenizer() -> NLTKWordTokenizer:
    return NLTKWordTokenizer()


def tokenize(caption: str) -> Tokens:
    """Splits a caption into PTB tokens, lower-cased, without punctuation: COCO's preparation.

    It needs no Java; the tokens are those of COCO's Java program for 99.9% of COCO's captions.
    Brackets and marks in a row ("?!") are dropped, as COCO means to; its program makes words of
    them that its list does not have ("-lrb-").
    """
    text = " ".join(caption.split()).lower().translate(_PLAIN_FORMS)
    text = _INNER_STOP.sub(r"\1", text)
    text = _LAST_ABBREVIATION.sub(r"\g<0> .", text)
    if _PLAIN.fullmatch(text):
        return text.removesuffix(".").split()
    return [word for word in _tokenizer().tokenize(text) if word not in _DROPPED]


def tokenize_corpus(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[list[Tokens], list[list[Tokens]]]:
    """Checks that there is something to score for every image, and tokenizes all of it.

    Args:
        hypotheses: One caption a image; an empty one is kept, as a miss.
        references: For each image its references, one or more, in any number.

    Raises:
        ValueError: Nothing to score, different lengths, a image without references, or a text
            where a list of texts belongs (its letters would be taken for captions).
    """
    if isinstance(hypotheses, str) or any(isinstance(texts, str) for texts in references):
        raise ValueError("found a text, expected a list of captions and a list of lists")
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} captions for {len(references)} sets of references")
    if not hypotheses:
        raise ValueError("no captions to score, expected one or more")
    for index, texts in enumerate(references):
        if not texts:
            raise ValueError(f"references[{index}]: empty, expected at least one reference")
    return (
        [tokenize(caption) for caption in hypotheses],
        [[tokenize(text) for text in texts] for texts in references],
    )
