"""Tokenization of captions as in COCO's evaluation: lists of PTB tokens."""

import re
from collections.abc import Sequence
from functools import cache

from nltk.tokenize import NLTKWordTokenizer

Tokens = list[str]

# pycocoevalcap drops these after tokenizing (ptbtokenizer.py).
_DROPPED = frozenset(["''", "'", "``", "`", '"', *"(){}[].?!,:-;", "--", "..."])
# The Java tokenizer's ASCII forms of typographic quotes, dashes and dots.
_PLAIN_FORMS = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "--", "—": "--", "…": "..."}
)
# NLTK's tokenizer expects one sentence and keeps a full stop inside it with its word ("a dog. It
# runs"); the Java tokenizer splits it off, except after single letters and these abbreviations.
_ABBREVIATIONS = "ave|blvd|dr|etc|ft|jr|mr|mrs|ms|mt|rd|sr|st|vs"
_INNER_STOP = re.compile(rf"(?<!\S)(?!(?:[a-z]|{_ABBREVIATIONS})\.)([^\s.]+)\.+(?!\S)")
# The Java tokenizer keeps it at the end too; NLTK splits off one stop there, so it gets two.
_LAST_ABBREVIATION = re.compile(rf"(?<!\S)(?:[a-z]\.[a-z]|{_ABBREVIATIONS})\.$")
# Most captions are words and a full stop: the tokenizer's thirty substitutions only split off the
# stop, unless it splits a word ("can not"). str.split takes a tenth of the time.
_PLAIN = re.compile(r"(?!.*(?:cannot|gimme|gonna|gotta|lemme|wanna))[a-z0-9 ]*\.?")


@cache
def _tokenizer() -> NLTKWordTokenizer:
    return NLTKWordTokenizer()


def tokenize(caption: str) -> Tokens:
    """Splits a caption into lower-cased PTB tokens without punctuation, as COCO's evaluation does.

    The tokens are those of COCO's Java tokenizer for 99.9% of COCO's captions, without Java.
    Brackets and repeated marks ("?!") are dropped; the Java tokenizer leaves them as words that
    are missing in its list of punctuation ("-lrb-").
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
    """Checks that every image has something to score, and tokenizes all captions.

    Args:
        hypotheses: One caption per image; an empty one is kept, as a miss.
        references: The references of each image, one or more, in any number.

    Raises:
        ValueError: Nothing to score, different lengths, an image without references, or a text
            instead of a list of texts (its letters would be taken for captions).
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
