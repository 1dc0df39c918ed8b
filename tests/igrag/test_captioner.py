"""The pipeline from picture to caption."""

from pathlib import Path

import pytest

from igrag.captioner import Captioner
from igrag.coco import DetectedObject
from igrag.generator import CaptionGenerator, Decoding
from igrag.image_encoder import ImageEncoder
from igrag.images import open_image
from igrag.knowledge_base import KnowledgeBase
from igrag.knowledge_base_builder import build_knowledge_base
from igrag.language_model import load_language_model
from igrag.prompt_template import PromptTemplate
from tests.tiny import CocoFolder


@pytest.fixture
def captioner(tmp_path: Path, coco: CocoFolder, tiny_clip: Path, tiny_t5: Path) -> Captioner:
    """A captioner on tiny models that knows the tiny pictures and sees a dog everywhere."""
    encoder = ImageEncoder(str(tiny_clip), device="cpu")
    build_knowledge_base(coco.captions, coco.images, tmp_path / "kb", encoder=encoder)
    language = load_language_model(str(tiny_t5), device="cpu")
    return Captioner(
        encoder,
        KnowledgeBase.open(tmp_path / "kb", encoder=encoder.identity),
        PromptTemplate("{instruction} {captions} {objects} Caption:", instruction="Describe."),
        CaptionGenerator(language.model, language.tokenizer, decoding=Decoding(max_new_tokens=5)),
        top_k=3,
        detector=lambda image, name: [DetectedObject(name, (0.0, 0.0, 1.0, 1.0))],
    )


def test_a_known_picture_finds_itself_first(captioner: Captioner, coco: CocoFolder) -> None:
    """A picture of the knowledge base brings its own captions first, at score 1."""
    results = captioner.caption([open_image(coco.picture(n)) for n in (3, 7)], ["3.jpg", "7.jpg"])
    for image_id, result in zip((3, 7), results, strict=True):
        best = result.matches[0]
        assert best.image_id == image_id and best.score == pytest.approx(1.0, abs=1e-5)
        assert len(result.matches) == 3
        assert result.prompt.startswith(f"Describe. - A dog in field {image_id}, way 0.")
        assert f"- {image_id}.jpg: center" in result.prompt
