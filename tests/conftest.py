"""Shared fixtures: tiny models of random weights, saved to a folder, and tiny data."""

from __future__ import annotations

import os

# Before any import of the libraries: tests must not reach for the hub.
os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path

import pytest

from tests.tiny import WORDS, CocoFolder, save_clip, save_coco, save_t5


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
    """Folder of a T5 model (gated GELU, d_model 32) whose tokenizer knows ``WORDS``."""
    return save_t5(tmp_path_factory.mktemp("models") / "t5", words=WORDS.split(), seed=0)


@pytest.fixture
def coco(tmp_path: Path) -> CocoFolder:
    """Twelve captioned pictures, a test's own to change."""
    return save_coco(tmp_path / "coco", count=12)
