"""METEOR as COCO's caption evaluation computes it (Denkowski and Lavie 2014, "Meteor Universal").

pycocoevalcap runs the authors' Java program, which takes two gigabytes of memory, and ten seconds
to read its paraphrases.
"""

import atexit
import re
import shutil
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from typing import Any

from igrag.metrics.registry import Metric, MetricError, MetricScore, TokenizedCorpus, register
from igrag.metrics.tokens import Tokens

_PACKAGE = "pycocoevalcap"
_REASON_LENGTH = 100  # characters


class Meteor(Metric):
    """METEOR of the corpus; it is not the mean over images, so there is no bootstrap interval."""

    key, label, headline = "meteor", "METEOR", True

    def unavailable(self) -> str | None:
        """Returns whether Java or pycocoevalcap is missing."""
        if shutil.which("java") is None:
            return "needs Java, which is not installed"
        if find_spec(_PACKAGE) is None:
            return f"needs {_PACKAGE}, which is not installed (pip install {_PACKAGE})"
        return None

    def compute(self, corpus: TokenizedCorpus) -> MetricScore:
        """Scores a corpus with the Java program."""
        captions = {index: [_line(words)] for index, words in enumerate(corpus.hypotheses)}
        references = {index: [*map(_line, texts)] for index, texts in enumerate(corpus.references)}
        program = _program()
        try:
            score, _ = program.compute_score(references, captions)
        except (OSError, ValueError) as error:  # It ended, or its answer is not a number.
            raise MetricError(f"failed: {_end(program) or error}") from None
        except BaseException:
            _end(program)
            raise
        return MetricScore(float(score))


@cache  # Several sets of captions share one start.
def _program() -> Any:
    from pycocoevalcap.meteor.meteor import Meteor as Program

    atexit.register(_program.cache_clear)  # While the interpreter can still run its __del__.
    return Program()


def _end(program: Any) -> str:
    """Ends the program; returns what it printed on stderr, in one line."""
    _program.cache_clear()
    process = program.meteor_p
    process.kill()
    with suppress(OSError):  # Closing flushes what is buffered, to a program that has ended.
        process.stdin.close()
    # An interrupted compute_score keeps this lock, and __del__ would wait for it forever.
    if program.lock.locked():
        program.lock.release()
    return " ".join(process.stderr.read().decode("utf-8", "replace").split())[:_REASON_LENGTH]


def _line(words: Tokens) -> str:
    """Returns a caption as the program reads it: "|||" separates captions there."""
    text = re.sub(r"\|{3,}", " ", " ".join(words))
    return text.encode("utf-8", "replace").decode()  # JSON can hold half a surrogate pair.


register(Meteor())
