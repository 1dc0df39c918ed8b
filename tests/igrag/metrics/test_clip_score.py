"""CLIPScore and RefCLIPScore."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoModel, AutoTokenizer, CLIPImageProcessorPil

from igrag.config import REPO_ROOT
from igrag.data.coco import read_captions
from igrag.metrics import score_captions
from igrag.metrics.clip_score import ClipScore, ClipVectors, RefClipScore, ref_clip_scores
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.text_encoder import TextEncoder

CLIP = str(REPO_ROOT / "demo" / "models" / "clip-mini")
COCO = REPO_ROOT / "demo" / "coco"
SKIP = ("meteor", "spice")


def angles(*degrees: float) -> NDArray[np.float32]:
    """Returns unit vectors [B, 2] at these angles."""
    radians = np.radians(degrees)
    return np.column_stack([np.cos(radians), np.sin(radians)]).astype(np.float32)


def encode_angles(texts: Sequence[str]) -> NDArray[np.float32]:
    """Encodes "A photo depicts 60" as the unit vector at 60 degrees."""
    assert all(text.startswith("A photo depicts ") for text in texts)
    return angles(*(float(text.rpartition(" ")[2]) for text in texts))


def test_scores_equal_plain_transformers() -> None:
    """Both scores are those of a computation with the whole CLIP model and nothing of ours."""
    images = read_captions(COCO / "annotations" / "captions_val.json")[:6]
    pictures = [Image.open(COCO / "val" / each.file_name).convert("RGB") for each in images]
    hypotheses = [each.captions[0] for each in [*images[1:], images[0]]]
    references = [each.captions[1:] for each in images]
    vectors = ClipVectors(ImageEncoder(CLIP).encode(pictures), TextEncoder(CLIP).encode)
    metrics = [ClipScore(vectors), RefClipScore(vectors)]
    found = score_captions(hypotheses, references, skip=SKIP, extra=metrics)

    model = AutoModel.from_pretrained(CLIP, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(CLIP)
    pixels = CLIPImageProcessorPil.from_pretrained(CLIP)(pictures, return_tensors="pt")
    scores, with_references = [], []
    for index, (caption, texts) in enumerate(zip(hypotheses, references, strict=True)):
        prompts = [f"A photo depicts {text}" for text in (caption, *texts)]
        tokens = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
        with torch.no_grad():
            image = model.get_image_features(pixels["pixel_values"][index : index + 1])
            text = model.get_text_features(**tokens)
        text, image = text.pooler_output, image.pooler_output
        text, image = text / text.norm(dim=-1, keepdim=True), image / image.norm()
        score = 2.5 * max(float(text[0] @ image[0]), 0)
        best = max(float((text[1:] @ text[0]).max()), 0)
        scores.append(score)
        with_references.append(2 * score * best / (score + best))
    assert found["clip_score"] == pytest.approx(np.mean(scores), abs=1e-5)
    assert found["ref_clip_score"] == pytest.approx(np.mean(with_references), abs=1e-5)
    statistics = found.scores["clip_score"].statistics
    assert statistics is not None and statistics[:, 0].tolist() == pytest.approx(scores, abs=1e-5)


def test_scores_of_angles() -> None:
    """A caption at 60 degrees scores 2.5 cos 60; one on the other side of the image scores 0."""
    vectors = ClipVectors(angles(0, 0), encode_angles)
    metrics = [ClipScore(vectors), RefClipScore(vectors)]
    found = score_captions(["60", "120"], [["60", "0"], ["120"]], skip=SKIP, extra=metrics)
    assert found["clip_score"] == pytest.approx((2.5 * 0.5 + 0) / 2)
    assert found["ref_clip_score"] == pytest.approx((2 * 1.25 * 1 / 2.25 + 0) / 2)


def test_unrelated_references_score_nothing() -> None:
    """Without any similarity to image or references the harmonic mean is 0, not undefined."""
    found = ref_clip_scores(angles(0), angles(180), [angles(0, 10)])
    assert found.tolist() == [0.0]


def test_texts_are_encoded_once() -> None:
    """Captions that several methods share are not encoded again."""
    calls: list[str] = []

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        calls.extend(texts)
        return angles(*range(len(texts)))

    vectors = ClipVectors(angles(0), encode)
    first = vectors.captions(["a dog", "a cat", "a dog"])
    assert first.shape == (3, 2) and np.array_equal(first[0], first[2])
    assert np.array_equal(vectors.captions(["a cat"])[0], first[1])
    assert calls == ["A photo depicts a dog", "A photo depicts a cat"]


def test_scores_without_images_are_left_out() -> None:
    """Without vectors the scores are left out by name, with the reason."""
    found = score_captions(["a dog"], [["a dog"]], skip=SKIP)
    assert found.unavailable["CLIPScore"] == "needs the images and their CLIP model"
    assert "RefCLIPScore" in found.unavailable and "clip_score" not in found.values
    given = [ClipScore(reason="needs all images: 3 are missing")]
    other = score_captions(["a dog"], [["a dog"]], skip=SKIP, extra=given)
    assert other.unavailable["CLIPScore"] == "needs all images: 3 are missing"
