"""Tokenization as in COCO's caption evaluation."""

import json
import re
from pathlib import Path

import pytest

from igrag.config import REPO_ROOT
from igrag.data.coco import read_captions
from igrag.metrics import tokenize, tokens
from igrag.metrics.tokens import tokenize_corpus

JAVA = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))["tokens"]


def test_tokens_equal_coco_evaluation() -> None:
    """PTB tokens in lower case without COCO's punctuation; a clitic is a token of its own."""
    assert tokenize("A man's \"dog\", run  on\na half-pipe: it can't move...") == (
        ["a", "man", "'s", "dog", "run", "on", "a", "half-pipe", "it", "ca", "n't", "move"]
    )
    assert tokenize(" . ") == tokenize("") == []


@pytest.mark.parametrize("caption", JAVA)
def test_tokens_equal_the_java_tokenizer(caption: str) -> None:
    """Quotes, clitics, abbreviations, figures, marks and emoji have the tokens of Java."""
    assert tokenize(caption) == JAVA[caption].split()


def test_long_word_takes_no_time() -> None:
    """A generator that repeats itself without a space does not stop the evaluation."""
    for repeated in ("a", "a.", "a;", "1,", "'", "a@", "-"):
        assert tokenize(f"x {repeated * 5000}")


@pytest.mark.parametrize(
    ("caption", "last"),
    [("A sign at 12th Ave.", "ave."), ("the corner of East St. ", "st."), ("a flat T.V.", "t.v."),
     ("apples, etc.", "etc."), ("a fast car.", "car"), ("a sign at 12th ave", "ave")],
)  # fmt: skip
def test_abbreviation_keeps_its_stop_at_the_end(caption: str, last: str) -> None:
    """A final abbreviation keeps its full stop, as in Java; other words lose it."""
    assert tokenize(caption)[-1] == last


def test_fast_path_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions that need no tokenizer have the tokens that it would return."""
    file = REPO_ROOT / "demo" / "coco" / "annotations" / "captions_val.json"
    captions = [text for image in read_captions(file)[:50] for text in image.captions]
    captions += [
        "",
        ".",
        " . ",
        "a dog .",
        "A dog",
        "I cannot",
        "gonna run.",
        "lemme see",
        "3 cats.",
    ]
    short = [tokenize(caption) for caption in captions]
    monkeypatch.setattr(tokens, "_PLAIN", re.compile("(?!)"))
    assert [tokenize(caption) for caption in captions] == short


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (["a"], [], "1 captions for 0 sets of references"),
        ([], [], "no captions to score"),
        (["a", "b"], [["a"], []], r"references\[1\]: empty, expected at least one reference"),
        ("ab", [["a"], ["b"]], "expected a list of captions"),
        (["a dog", "a cat"], ["a dog", "a cat"], "expected a list of captions"),
    ],
)
def test_invalid_captions_are_an_error(
    hypotheses: list[str], references: list[list[str]], message: str
) -> None:
    """Different lengths, no captions, no references, and texts instead of lists are errors."""
    with pytest.raises(ValueError, match=message):
        tokenize_corpus(hypotheses, references)
