"""The words of docs/glossary.md: earlier, private ones are gone, or listed here with a reason."""

import re
import subprocess
from fnmatch import fnmatch
from functools import cache

import pytest

from igrag.config import REPO_ROOT

EVERYWHERE = ("*.py", "*.md", "*.yaml")
PACKAGES = ("igrag/*", "prompt_tuning/*.py", "lora_training/*.py", "evaluation/*", "main.py")
# Never searched: what earlier versions wrote, and the texts that name the earlier words.
NOT_SEARCHED = (
    "tests/fixtures/*",
    "tests/test_glossary.py",
    "docs/glossary.md",
    "CHANGELOG.md",
    "demo/models/*",
)
# The earlier word -> how it is found, and where.
WORDS = {
    "miniature": (r"\bminiature\b", EVERYWHERE),
    "picture": (r"\bpictures?\b", EVERYWHERE),
    "sitting, go on with": (r"\bsittings?\b|\bgo(es|ing)? on with\b", EVERYWHERE),
    "update (of the loop)": (r"\b(an|one|each|every) update\b|\bupdates\b", EVERYWHERE),
    "window": (r"\bwindows?\b", PACKAGES),
    "peak rate": (r"\bpeak rate\b|\bat a rate of\b", EVERYWHERE),
    "place, kind, way": (r"\b(places?|kinds?|ways?)\b", PACKAGES),
    "table of embeddings": (r"\bembedding table\b|\btable: Tensor\b", EVERYWHERE),
    "first prompt": (r"\bfirst[ _]prompt\b", EVERYWHERE),
    "folded, hand over": (r"\bfolded\b|\bhand(s|ed)? over\b", EVERYWHERE),
    "writer": (r"\b[Ww]riters?\b", EVERYWHERE),
    "begin, anew": (r"\b(begin|begins|beginning) anew\b|\banew\b", EVERYWHERE),
    "outcome, verdict": (r"\b(outcomes?|verdicts?|candidates?|provenance)\b", EVERYWHERE),
    "publishing": (r"\bpublish(ing|ed|es)?\b", EVERYWHERE),
    "assembly, preparation": (r"\b(assembly|preparation)\b", EVERYWHERE),
    "tell, say": (r"\b(tells?|told|says)\b", PACKAGES),
    "mend, heed": (r"\b(mend(s|ed)?|heed(s|ed)?|at hand|for want of)\b", EVERYWHERE),
    "beside": (r"\bbeside\b", PACKAGES),
    "participles as names": (r"\bclass (Written|Trained|Described|Opened)\b", EVERYWHERE),
    "British spelling": (
        r"(?i)\b(centred|behaviour|favour|neighbour|licence|grey|colour)\w*\b"
        r"|(token|normal|optim|initial|parameter|recogn|summar|organ)is(e|ed|es|ing|ation)\b",
        EVERYWHERE,
    ),
}
# (word, file) -> why it stays.
ALLOWED = {
    ("picture", "configs/config.yaml"): "text of the shipped prompt template: prompts depend on it",
    ("picture", "igrag/config/schema.py"): "default of a prompt's heading: prompts depend on it",
    ("picture", "evaluation/options.py"): "earlier option --pictures, still read",
    ("picture", "evaluation/overwrite_guard.py"): "earlier key of metrics.json, still read",
    ("picture", "evaluation/instructions.yaml"): "the word of the shipped prompt template",
    ("picture", "demo/*"): "words that the drawn world's captions and requests use",
    ("picture", "tests/*"): "texts of prompts and captions",
    ("picture", "docs/configuration*"): "defaults of the prompt template",
    ("sitting, go on with", "demo/language/phrases.py"): "a verb of the drawn world",
    ("first prompt", "evaluation/dataset.py"): "the prompt of an image's first line",
    ("window", "prompt_tuning/checkpoints.py"): "key in training_state.pt, format version 1",
    ("window", "igrag/training/curves.py"): "a window on the screen, and Hann's of smoothing",
    ("place, kind, way", "evaluation/instructions.yaml"): "where an image was taken",
    ("place, kind, way", "lora_training/callbacks.py"): "plain English",
    (
        "place, kind, way",
        "igrag/captioning/shared_cross_attention.py",
    ): "in place, as PyTorch uses it",
    ("outcome, verdict", "igrag/retrieval/*"): "candidates of an approximate search",
    ("tell, say", "prompt_tuning/sweep/trials.py"): "tell() of an Optuna study",
}


@cache
def files() -> list[str]:
    """Returns the text files of the repository that are searched."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=REPO_ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    names = [name for name in listed if name] or [
        str(path.relative_to(REPO_ROOT)) for path in REPO_ROOT.rglob("*") if path.is_file()
    ]
    return [
        name
        for name in names
        if any(fnmatch(name, pattern) for pattern in EVERYWHERE)
        and not any(fnmatch(name, pattern) for pattern in NOT_SEARCHED)
        and (REPO_ROOT / name).is_file()
    ]


@cache
def content(name: str) -> str:
    """Reads a file once for all words."""
    return (REPO_ROOT / name).read_text(encoding="utf-8")


def found(word: str) -> set[str]:
    """Returns the files that have an earlier word."""
    pattern, where = WORDS[word]
    return {
        name
        for name in files()
        if any(fnmatch(name, each) for each in where) and re.search(pattern, content(name))
    }


@pytest.mark.parametrize("word", WORDS)
def test_earlier_word_is_gone_or_explained(word: str) -> None:
    """Each file that still has the word is listed above, with the reason."""
    allowed = [pattern for each, pattern in ALLOWED if each == word]
    assert {
        name for name in found(word) if not any(fnmatch(name, each) for each in allowed)
    } == set()


@pytest.mark.parametrize(("word", "pattern"), ALLOWED)
def test_explained_words_are_still_there(word: str, pattern: str) -> None:
    """An exception that nothing needs any more is removed from the list."""
    assert any(fnmatch(name, pattern) for name in found(word))
