"""METEOR as COCO's caption evaluation computes it: its own program, where that is available.

pycocoevalcap brings the program with its table of paraphrases (Denkowski and Lavie 2014, "Meteor
Universal"); running it takes Java, two gigabytes of memory, and ten seconds to read the table.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from igrag.metrics.tokens import Tokens, tokenize_corpus

_PACKAGE, _JAR = "pycocoevalcap", Path("meteor", "meteor-1.5.jar")
# As pycocoevalcap calls it: English, what is written "don't" or "do n't" made alike.
_OPTIONS = ("-", "-", "-stdio", "-l", "en", "-norm")
_JAVA_OPTIONS = ("-Xmx2G", "-Dfile.encoding=UTF-8")
_SEPARATOR = " ||| "
_LONGEST_REASON = 100  # characters of what the program says when it fails


class MeteorError(Exception):
    """METEOR cannot be had; says why, in words that follow "it"."""


def corpus_meteor(
    captions: Mapping[str, Sequence[str]], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Computes METEOR of several sets of captions, starting the program once.

    Args:
        captions: By method, one caption a image; an empty one counts as a miss.
        references: For each image its references, one or more, in any number.

    Returns:
        By method the score of all images together, from 0 to 1. It is the program's own, made
        of the images' counts; it is not the mean of their scores.

    Raises:
        MeteorError: Something it needs is not installed, or the program fails.
        ValueError: See `igrag.metrics.tokens.tokenize_corpus`.
    """
    with _program() as program:
        return {
            name: program.score(*tokenize_corpus(texts, references))
            for name, texts in captions.items()
        }


class _Program:
    """The running program: it answers each line with one or more lines.

    Args:
        process: It.
        errors: Where it writes what goes wrong.
    """

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors

    def score(self, hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> float:
        """Returns the score of all images together."""
        counts = []
        for words, texts in zip(hypotheses, references, strict=True):
            lines = [*map(_line, texts), _line(words)]
            self._tell(_SEPARATOR.join(["SCORE", *lines]))
            counts.append(self._hear())
        self._tell(_SEPARATOR.join(["EVAL", *counts]))
        *_, whole = [self._hear() for _ in range(len(counts) + 1)]  # each image's comes first
        try:
            return float(whole)
        except ValueError:
            raise MeteorError(f"failed: its program answered {whole!r}") from None

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(line.encode("utf-8", "replace") + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._explain() from None

    def _hear(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline().decode("utf-8", "replace")
        if not line:
            raise self._explain()
        return line.strip()

    def _explain(self) -> MeteorError:
        code = self._process.wait()
        self._errors.seek(0)
        said = " ".join(self._errors.read().decode("utf-8", "replace").split())
        return MeteorError(f"failed: its program ended with {code} ({said[:_LONGEST_REASON]})")


@contextmanager
def _program() -> Iterator[_Program]:
    """Starts the program, and ends it whatever happens."""
    command = [_find_java(), *_JAVA_OPTIONS, "-jar", str(jar := _find_jar()), *_OPTIONS]
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, cwd=jar.parent, stdin=pipe, stdout=pipe, stderr=errors)
        with process:
            try:
                yield _Program(process, errors)
            finally:
                process.kill()
                with suppress(OSError):  # What it no longer reads.
                    assert process.stdin
                    process.stdin.close()


def _find_java() -> str:
    java = shutil.which("java")
    if java is None:
        raise MeteorError("needs Java, which is not installed")
    return java


def _find_jar() -> Path:
    package = find_spec(_PACKAGE)
    folders = (package.submodule_search_locations if package else None) or []
    found = next((path for folder in folders if (path := Path(folder, _JAR)).is_file()), None)
    if found is None:
        raise MeteorError(f"needs {_PACKAGE}, which is not installed (pip install {_PACKAGE})")
    return found


def _line(words: Tokens) -> str:
    """Lays out a caption for the program, in whose lines three strokes stand between captions."""
    return re.sub(r"\|{3,}", " ", " ".join(words))
