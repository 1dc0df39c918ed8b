"""The command line that makes an index, and captions that are found with one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from igrag.commands.build_knowledge_base import command as build
from igrag.commands.index import command
from igrag.config import REPO_ROOT, Config
from igrag.data.images import open_image
from igrag.retrieval.knowledge_base import KnowledgeBase
from prompt_tuning.methods import load_captioner
from tests.tiny import CocoFolder


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo's knowledge base, with both indexes."""
    path = tmp_path_factory.mktemp("demo") / "kb"
    shutil.copytree(REPO_ROOT / "demo" / "knowledge_base", path)
    assert command([str(path), "--type", "faiss"]) == 0
    assert command([str(path), "--type", "milvus"]) == 0
    return path


@pytest.mark.slow
def test_demo_captions_are_equal_with_every_index(demo: Path) -> None:
    """The captions, the prompts and the matches are those of the exact search."""
    images = [open_image(path) for path in sorted((REPO_ROOT / "input").glob("*.jpg"))[:8]]
    found = []
    for index in ("exact", "faiss", "milvus"):
        keys = [f"knowledge_base_config.path={demo}", f"knowledge_base_config.index={index}"]
        config = Config.load(overrides=[*keys, "generation_config.num_beams=1"])
        captioner = load_captioner(config)
        found.append(captioner.caption(images))
    assert found[0] == found[1] == found[2]
    assert all(result.caption and result.matches for result in found[0])


def test_result_is_printed(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stdout: the measured recall, the lists searched, the time beside the exact."""
    assert (
        command([str(demo), "--type", "faiss", "--storage", "sq8", "--target_recall", "0.5"]) == 0
    )
    out, err = capsys.readouterr()
    assert out.startswith(f"{demo}: faiss index of 2000 vectors, recall@5 ")
    assert out.count("\n") == 1 and " ms a query (exact: " in out and err == ""
    assert KnowledgeBase.open(demo, index="faiss")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["missing", "--type", "faiss"], 1, "missing: no such knowledge base"),
        (["{demo}", "--type", "milvus", "--storage", "pq"], 2, "--storage: is of faiss alone"),
        (["{demo}", "--type", "faiss", "--milvus_uri", "x"], 2, "--milvus_uri: is of milvus alone"),
        (["{demo}", "--type", "exact"], 2, "invalid choice: 'exact'"),
        (["{demo}", "--type", "faiss", "--target_recall", "2"], 2, "'2', expected a number above"),
    ],
)
def test_mistakes_are_one_line(
    demo: Path, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake on the command line is named, and nothing is written."""
    try:
        found = command([word.format(demo=demo) for word in words])
    except SystemExit as error:
        found = error.code  # type: ignore[assignment]
    assert found == code
    assert message in capsys.readouterr().err
    assert not Path("missing").exists()


def test_build_makes_the_index(
    tmp_path: Path, coco: CocoFolder, tiny_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--index faiss makes the index of what was built."""
    output = tmp_path / "kb"
    paths = ["--captions", coco.captions, "--images", coco.images, "--output", output]
    options = ["--workers", "0", "--set", f"retrieval_config.encoder={tiny_clip}"]
    assert build([*map(str, paths), *options, "--index", "faiss"]) == 0
    assert f"{output}: faiss index of 12 vectors" in capsys.readouterr().out
    vectors = KnowledgeBase.open(output).vectors
    exact, other = KnowledgeBase.open(output), KnowledgeBase.open(output, index="faiss")
    assert other.search(vectors, 3) == exact.search(vectors, 3)
