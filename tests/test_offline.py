"""main.py without a network, and without HF_HUB_OFFLINE."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from igrag.config import REPO_ROOT
from tests.tiny import CocoFolder

# No server is there; the library tries five times, at ever longer intervals, with a warning each.
NO_HUB = "http://127.0.0.1:9"


def run(cache: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Runs main.py with an empty cache, or one of the test's own."""
    environment = {**os.environ, "HF_HOME": str(cache), "HF_ENDPOINT": NO_HUB}
    del environment["HF_HUB_OFFLINE"]  # set for all tests
    return subprocess.run(
        [sys.executable, "main.py", *map(str, words)],
        cwd=REPO_ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def words(knowledge_base: Path, tiny_clip: Path, coco: CocoFolder) -> list[object]:
    """The command line but for the model."""
    settings = [
        f"retrieval_config.encoder={tiny_clip}",
        f"knowledge_base_config.path={knowledge_base}",
        "generation_config.max_new_tokens=4",
    ]
    return ["--i", coco.image(1), *(w for item in settings for w in ("--set", item))]


@pytest.mark.slow
def test_unknown_model_is_one_error(words: list[object], tmp_path: Path) -> None:
    """The error is the whole output, once, whatever the library tried meanwhile."""
    done = run(tmp_path, *words, "--model", "nobody/no-such-model")
    assert done.returncode == 1
    assert done.stderr.startswith("error: nobody/no-such-model: no such folder, and the model")
    assert done.stderr.count("\n") == 1 and done.stdout == ""


@pytest.mark.slow
def test_cached_model_is_used_without_output(
    words: list[object], tmp_path: Path, tiny_t5: Path
) -> None:
    """A model that was downloaded once captions as if there were a network."""
    stored = tmp_path / "hub" / "models--some--t5"
    (stored / "refs").mkdir(parents=True)
    (stored / "refs" / "main").write_text("a" * 40)
    shutil.copytree(tiny_t5, stored / "snapshots" / ("a" * 40))
    done = run(tmp_path, *words, "--model", "some/t5")
    assert done.returncode == 0 and "Caption:" in done.stdout
    # The tiny tokenizer does not know the words of the prompt, which is said.
    assert [line for line in done.stderr.splitlines() if "unknown tokens" not in line] == []
