"""METEOR by its own program, with a stand-in for it where it is not installed."""

import shutil
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from igrag.metrics import meteor as module
from igrag.metrics.meteor import MeteorError, corpus_meteor
from igrag.metrics.tokens import tokenize_corpus

REFERENCES = [["a dog is running on the beach", "a puppy runs"], ["two birds in a tree"]]
# Counts words, and is as good as the number of images is great; notes what it reads.
STAND_IN = """
for line in sys.stdin:
    with open("heard.txt", "a", encoding="utf-8") as file:
        file.write(line)
    command, *parts = line.rstrip("\\n").split(" ||| ")
    if command == "SCORE":
        print(len(parts[-1].split()), flush=True)
    else:
        print(*parts, sum(map(int, parts)) / 10, sep="\\n", flush=True)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A maker of a program that is found as Java, and of the package."""
    jar = tmp_path / "package" / "meteor" / "meteor-1.5.jar"
    jar.parent.mkdir(parents=True)
    jar.touch()
    monkeypatch.setattr(module, "_find_jar", lambda: jar)
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(body: str) -> Path:
        java = tmp_path / "java"
        java.write_text(f"#!{sys.executable}\nimport sys\n{body}", encoding="utf-8")
        java.chmod(0o755)
        return jar.parent / "heard.txt"

    return make


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Every process that is started."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> Any:
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(module.subprocess, "Popen", start)
    return started


def test_every_method_by_one_program(stand_in: Any, processes: list[Any]) -> None:
    """What is compared goes to one program, which is gone afterwards; empty captions go too."""
    heard = stand_in(STAND_IN)
    captions = {"base": ["A dog runs.", ""], "prompt": ["a dog", "two birds"]}
    assert corpus_meteor(captions, REFERENCES) == {"base": 0.3, "prompt": 0.4}
    assert len(processes) == 1 and processes[0].returncode is not None
    assert heard.read_text("utf-8").splitlines()[:3] == [
        "SCORE ||| a dog is running on the beach ||| a puppy runs ||| a dog runs",
        "SCORE ||| two birds in a tree ||| ",
        "EVAL ||| 3 ||| 0",
    ]


def test_no_caption_breaks_the_lines(stand_in: Any) -> None:
    """Line ends, separators and halves of characters stay inside of their caption."""
    heard = stand_in(STAND_IN)
    odd = "a\ndog\r|||a|||| \u2028b ||| \ud83d"
    corpus_meteor({"base": [odd, odd]}, [[odd, "a"], ["b"]])
    lines = heard.read_text("utf-8").split("\n")
    assert len(lines) == 4 and [line.count("|||") for line in lines[:3]] == [3, 2, 2]


def test_the_program_is_ended_whatever_happens(
    stand_in: Any, processes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C does not leave it behind."""
    stand_in(STAND_IN)

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_line", interrupt)
    with pytest.raises(KeyboardInterrupt):
        corpus_meteor({"base": ["a", "b"]}, REFERENCES)
    assert processes[0].returncode is not None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('sys.exit("Could not reserve\\nenough space")', "ended with 1 .Could not reserve enough"),
        ("sys.stdin.readline()", "ended with 0"),
    ],
)
def test_a_failing_program_says_why(
    stand_in: Any, processes: list[Any], body: str, reason: str
) -> None:
    """In one line, with what it said itself, and it never hangs."""
    stand_in(body)
    with pytest.raises(MeteorError, match=f"failed: its program {reason}") as caught:
        corpus_meteor({"base": ["a", "b"]}, REFERENCES)
    assert "\n" not in str(caught.value) and processes[0].returncode is not None


def test_an_answer_that_is_no_figure(stand_in: Any) -> None:
    """It is quoted."""
    stand_in(STAND_IN.replace("sum(map(int, parts)) / 10", "'none'"))
    with pytest.raises(MeteorError, match="its program answered 'none'"):
        corpus_meteor({"base": ["a", "b"]}, REFERENCES)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Java, or the package: whichever it is."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MeteorError, match="needs Java, which is not installed"):
        corpus_meteor({"base": ["a", "b"]}, REFERENCES)
    monkeypatch.setattr(module, "_find_java", lambda: "java")
    monkeypatch.setattr(module, "_PACKAGE", "no_such_package")
    with pytest.raises(MeteorError, match="needs no_such_package, which is not installed"):
        corpus_meteor({"base": ["a", "b"]}, REFERENCES)


@pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed")
def test_agrees_with_pycocoevalcap() -> None:
    """The figure is that of pycocoevalcap on the same tokens, with captions of all kinds."""
    theirs = pytest.importorskip("pycocoevalcap.meteor.meteor", reason="it is not installed")
    from benchmarks.compare_with_pycocoevalcap import CAPTIONS, random_captions
    from igrag.data.coco import read_captions

    images = [list(image.captions) for image in read_captions(CAPTIONS)]
    hypotheses, references = random_captions(images, 100, Random(2))
    hypotheses[3] = ""
    tokens = tokenize_corpus(hypotheses, references)
    words = {index: [" ".join(found)] for index, found in enumerate(tokens[0])}
    texts = {index: [" ".join(text) for text in found] for index, found in enumerate(tokens[1])}
    program = theirs.Meteor()
    expected, _ = program.compute_score(texts, words)
    assert corpus_meteor({"mine": hypotheses}, references) == {
        "mine": pytest.approx(expected, abs=1e-9)
    }
