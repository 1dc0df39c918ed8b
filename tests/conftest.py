"""Shared fixtures: tiny models of random weights, saved to a folder, and tiny data."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator

# Before any import of the libraries: tests must not reach for the hub.
os.environ["HF_HUB_OFFLINE"] = "1"
# Where bfloat16 is fast, `dtype: auto` would choose it, and the tests compare float32's digits.
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
# A shell that runs the tests in the background ignores Ctrl-C for them, and so for what they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from pathlib import Path

import pytest

from tests.command import Command
from tests.hub_server import LocalHub, serve_hub, use_hub
from tests.tiny import WORDS, CocoFolder, save_clip, save_coco, save_t5

# Minutes each.
_LONGEST = "test_every_command_runs"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Moves files that take long to the front: at the end, all but one process would be idle.

    A file's tests stay together, so that they share its fixtures.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    longest = {item.path for item in items if item.name.startswith(_LONGEST)}
    items.sort(key=lambda item: (item.path not in longest, -slow[item.path], item.path))


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a CLIP model with vectors of length 8."""
    return save_clip(tmp_path_factory.mktemp("models") / "clip-8", dimension=8, seed=0)


@pytest.fixture(scope="session")
def other_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of another CLIP model, with vectors of length 12."""
    return save_clip(tmp_path_factory.mktemp("models") / "clip-12", dimension=12, seed=1)


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a T5 model (gated GELU, d_model 32) whose tokenizer knows `WORDS`."""
    return save_t5(tmp_path_factory.mktemp("models") / "t5", words=WORDS.split(), seed=0)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """An empty hub on this machine, and an empty local cache."""
    with serve_hub() as served:
        use_hub(served, str(tmp_path / "cache"), monkeypatch)
        yield served


@pytest.fixture
def coco(tmp_path: Path) -> CocoFolder:
    """Twelve captioned images, a test's own to change."""
    return save_coco(tmp_path / "coco", count=12)


@pytest.fixture(scope="session")
def built_knowledge_base(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Path:
    """A knowledge base of the tiny images, for tests that leave it as it is."""
    from igrag.retrieval.build import build_knowledge_base
    from igrag.retrieval.image_encoder import ImageEncoder

    folder = tmp_path_factory.mktemp("knowledge_base")
    images = save_coco(folder / "coco", count=12)
    encoder = ImageEncoder(str(tiny_clip), device="cpu")
    build_knowledge_base(
        images.captions, images.images, folder / "kb", encoder=encoder, progress=False
    )
    return folder / "kb"


@pytest.fixture
def knowledge_base(tmp_path: Path, coco: CocoFolder, built_knowledge_base: Path) -> Path:
    """A knowledge base of the tiny images, a test's own to change."""
    shutil.copytree(built_knowledge_base, tmp_path / "kb")
    return tmp_path / "kb"


@pytest.fixture
def command(
    knowledge_base: Path, tiny_clip: Path, tiny_t5: Path, capfd: pytest.CaptureFixture[str]
) -> Command:
    """The command with tiny models in place of the demo's."""
    settings = [
        f"retrieval_config.encoder={tiny_clip}",
        f"model_config.models.flan-t5.path={tiny_t5}",
        f"knowledge_base_config.path={knowledge_base}",
        "generation_config.max_new_tokens=4",
    ]
    return Command(settings, capfd)


def pytest_collection_finish() -> None:
    """Leaves what the libraries have made out of all later garbage collections."""
    gc.collect()
    gc.freeze()
