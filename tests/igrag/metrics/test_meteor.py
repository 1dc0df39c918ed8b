"""METEOR by pycocoevalcap's class, with a fake Java program where only errors matter."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path
from random import Random
from typing import Any

import pytest

from igrag.metrics import meteor as module
from igrag.metrics.meteor import Meteor
from igrag.metrics.registry import MetricError, TokenizedCorpus
from igrag.metrics.tokens import tokenize_corpus

pycocoevalcap = pytest.importorskip("pycocoevalcap.meteor.meteor", reason="it is not installed")
REFERENCES = [["a dog is running on the beach", "a puppy runs"], ["two birds in a tree"]]
# Scores an image by the words of its caption, and the corpus by a tenth of their sum.
FAKE_JAVA = """
for line in sys.stdin:
    with open({log!r}, "a", encoding="utf-8") as file:
        file.write(line)
    command, *parts = line.rstrip("\\n").split(" ||| ")
    if command == "SCORE":
        print(len(parts[-1].split()), flush=True)
    else:
        print(*parts, sum(map(int, parts)) / 10, sep="\\n", flush=True)
"""


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """All processes that are started; each test starts without a running program."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> Any:
        started.append(popen(*arguments, **options))
        return started[-1]

    module._program.cache_clear()
    monkeypatch.setattr(pycocoevalcap.subprocess, "Popen", start)
    yield started
    module._program.cache_clear()


@pytest.fixture
def fake_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that puts a program called java on the PATH, and returns its log."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(body: str = FAKE_JAVA) -> Path:
        java, log = tmp_path / "java", tmp_path / "log.txt"
        body = body.replace("{log!r}", repr(str(log)))
        java.write_text(f"#!{sys.executable}\nimport sys\n{body}", encoding="utf-8")
        java.chmod(0o755)
        return log

    return make


def corpus(*hypotheses: str, references: Any = REFERENCES) -> TokenizedCorpus:
    """Returns tokenized captions."""
    return TokenizedCorpus(*tokenize_corpus(hypotheses, references))


def test_program_is_started_once(fake_java: Any, processes: list[Any]) -> None:
    """Several sets of captions share one program, which ends with the cache."""
    log = fake_java()
    assert Meteor().compute(corpus("A dog runs.", "")).value == 0.3
    assert Meteor().compute(corpus("a dog", "two birds")).value == 0.4
    assert len(processes) == 1 and processes[0].poll() is None
    assert log.read_text("utf-8").splitlines()[:3] == [
        "SCORE ||| a dog is running on the beach ||| a puppy runs ||| a dog runs",
        "SCORE ||| two birds in a tree ||| ",
        "EVAL ||| 3 ||| 0",
    ]
    module._program.cache_clear()
    assert processes[0].returncode is not None


def test_special_characters_stay_in_their_caption(fake_java: Any) -> None:
    """Line ends, separators and half surrogate pairs do not break the program's lines."""
    log = fake_java()
    odd = "a\ndog\r|||a|||| \u2028b ||| \ud83d"
    Meteor().compute(corpus(odd, odd, references=[[odd, "a"], ["b"]]))
    lines = log.read_text("utf-8").split("\n")
    assert len(lines) == 4 and [line.count("|||") for line in lines[:3]] == [3, 2, 2]


def test_interruption_ends_the_program(
    fake_java: Any, processes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of scoring ends the program and does not block its cleanup."""
    fake_java()

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pycocoevalcap.Meteor, "_stat", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Meteor().compute(corpus("a", "b"))
    assert processes[0].wait(timeout=120) is not None
    cleanup = threading.Thread(target=module._program.cache_clear, daemon=True)
    cleanup.start()
    cleanup.join(timeout=120)
    assert not cleanup.is_alive()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('sys.exit("Could not reserve\\nenough space")', "Could not reserve enough space$"),
        ("sys.stdin.readline()", "."),
        (FAKE_JAVA.replace("sum(map(int, parts)) / 10", "'none'"), ".*none"),
    ],
)
def test_failing_program_is_an_error(
    fake_java: Any, processes: list[Any], body: str, reason: str
) -> None:
    """The error has what the program printed, in one line; the next call starts a new one."""
    fake_java(body)
    with pytest.raises(MetricError, match=f"^failed: {reason}") as caught:
        Meteor().compute(corpus("a", "b"))
    assert "\n" not in str(caught.value)
    assert processes[0].wait(timeout=120) is not None
    fake_java()
    assert Meteor().compute(corpus("a", "b")).value == 0.2


def test_missing_requirements_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The reason names Java or the package, whichever is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Meteor().unavailable() == "needs Java, which is not installed"
    monkeypatch.setattr(shutil, "which", lambda name: name)
    assert Meteor().unavailable() is None
    monkeypatch.setattr(module, "_PACKAGE", "no_such_package")
    reason = "needs no_such_package, which is not installed (pip install no_such_package)"
    assert Meteor().unavailable() == reason


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed")
def test_score_equals_pycocoevalcap() -> None:
    """The score is that of pycocoevalcap on the same tokens, with captions of all kinds."""
    from benchmarks.compare_with_pycocoevalcap import CAPTIONS, random_captions
    from igrag.data.coco import read_captions

    images = [list(image.captions) for image in read_captions(CAPTIONS)]
    hypotheses, references = random_captions(images, 100, Random(2))
    hypotheses[3] = ""
    tokens = TokenizedCorpus(*tokenize_corpus(hypotheses, references))
    words = {index: [" ".join(found)] for index, found in enumerate(tokens.hypotheses)}
    texts = {
        index: [" ".join(text) for text in found] for index, found in enumerate(tokens.references)
    }
    expected, _ = pycocoevalcap.Meteor().compute_score(texts, words)
    assert Meteor().compute(tokens).value == expected
