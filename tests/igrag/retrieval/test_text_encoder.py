"""CLIP's text tower."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from igrag.config import REPO_ROOT
from igrag.errors import ModelError
from igrag.retrieval.text_encoder import TextEncoder

CLIP = REPO_ROOT / "demo" / "models" / "clip-mini"
TEXTS = ["A dog in the park.", "", "A very long caption of a red bus " * 12, "Two cats \ud83d"]


def test_vectors_equal_those_of_the_whole_model() -> None:
    """Unit vectors in the order of the texts, whatever their lengths; long ones are truncated."""
    vectors = TextEncoder(str(CLIP)).encode(TEXTS)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    model = AutoModel.from_pretrained(CLIP, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(CLIP)
    for text, vector in zip(TEXTS[:3], vectors, strict=False):
        tokens = tokenizer(text, truncation=True, max_length=32, return_tensors="pt")
        assert tokens["input_ids"].shape[1] <= 32
        with torch.no_grad():
            features = model.get_text_features(**tokens).pooler_output[0]
        expected = (features / features.norm()).numpy()
        assert vector == pytest.approx(expected, abs=1e-5)


def test_no_texts_have_no_vectors() -> None:
    """An empty batch has vectors [0, D]."""
    assert TextEncoder(str(CLIP)).encode([]).shape == (0, 128)


def test_model_without_tokenizer_is_an_error(tmp_path: Path) -> None:
    """A folder without its tokenizer is not used with another, empty one."""
    for name in ("config.json", "model.safetensors"):
        shutil.copy(CLIP / name, tmp_path)
    with pytest.raises(ModelError, match="expected that of its text tower, about 700"):
        TextEncoder(str(tmp_path))


def test_missing_model_is_an_error(tmp_path: Path) -> None:
    """A folder that is not there is an error of the user."""
    with pytest.raises(ModelError, match="no such model folder"):
        TextEncoder(str(tmp_path / "none"))
