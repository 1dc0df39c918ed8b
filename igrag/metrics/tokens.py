"""Tokenization of captions as in COCO's evaluation: lists of PTB tokens."""

import re
from collections.abc import Callable, Sequence

from igrag.metrics.ptb_lexer import split_word
from igrag.metrics.segmentation import PTB, choose_tokenizer, splitter_of

Tokens = list[str]

# Most captions are words and a full stop: str.split takes a tenth of the time of the lexer, which
# splits a few words too ("can not").
_PLAIN = re.compile(r"(?!.*(?:cannot|gimme|gonna|gotta|lemme|wanna))[a-z0-9 ]*")
_ENTITIES = {"&amp;": "&", "&apos;": "'", "&quot;": '"', "&nbsp;": " "}


def tokenize(caption: str) -> Tokens:
    """Splits a caption into lower-cased PTB tokens without punctuation, as COCO's evaluation does.

    The tokens are those of COCO's Java tokenizer, without Java; see `ptb_lexer`. Brackets ("-lrb-")
    and repeated marks ("?!") are tokens, since they are not among what COCO's evaluation drops.
    """
    if "&" in caption:
        for entity, character in _ENTITIES.items():
            caption = caption.replace(entity, character)
    *words, last = caption.split() or [""]
    if len(last) == 2 and last[0].isalpha() and last[1] == ".":
        # Java reads on: the next caption begins a sentence ("A man"), so this stop ended one.
        last = last[0]
    plain = " ".join(words).lower()
    if _PLAIN.fullmatch(plain):
        return [*plain.split(), *split_word(last)]
    tokens: Tokens = []
    for word, following in zip(words, [*words, last][1:], strict=True):
        decides = word[-1] == "." and (following[0].isdigit() or following[0].isupper())
        tokens += split_word(word, following) if decides else split_word(word)
    return [*tokens, *split_word(last)]


def tokenizer_of(name: str) -> Callable[[str], Tokens]:
    """Returns the function that splits a caption into tokens, by `choices.Tokenizer`'s name."""
    return tokenize if name == PTB else splitter_of(name)


def tokenize_corpus(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenizer: str | None = None,
) -> tuple[list[Tokens], list[list[Tokens]]]:
    """Checks that every image has something to score, and tokenizes all captions.

    Args:
        hypotheses: One caption per image; an empty one is kept, as a miss.
        references: The references of each image, one or more, in any number.
        tokenizer: ptb, zh or char; None: that of the references' language.

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
    split = tokenizer_of(tokenizer or choose_tokenizer(references))
    return (
        [split(caption) for caption in hypotheses],
        [[split(text) for text in texts] for texts in references],
    )
