"""The pipeline from images to captions, on tiny models."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from igrag.captioning.captioner import Captioner
from igrag.captioning.generator import CaptionGenerator, Decoding
from igrag.captioning.language_model import load_language_model
from igrag.captioning.prompt_template import PromptTemplate
from igrag.commands.build_knowledge_base import command as build_knowledge_base
from igrag.data.coco import DetectedObject
from igrag.data.images import open_image
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase
from tests.tiny import CocoFolder

TEMPLATE = "{instruction}\n{captions}\n{objects}\nCaption:"


@pytest.fixture
def parts(
    tmp_path: Path, coco: CocoFolder, tiny_clip: Path, tiny_t5: Path
) -> tuple[ImageEncoder, KnowledgeBase, PromptTemplate, CaptionGenerator]:
    """Encoder, knowledge base, template and generator."""
    paths = ["--captions", coco.captions, "--images", coco.images, "--output", tmp_path / "kb"]
    options = [
        "--device",
        "cpu",
        "--workers",
        "0",
        "--set",
        f"retrieval_config.encoder={tiny_clip}",
    ]
    build_knowledge_base([*map(str, paths), *options])
    encoder = ImageEncoder(str(tiny_clip), device="cpu")
    language = load_language_model(str(tiny_t5), device="cpu")
    return (
        encoder,
        KnowledgeBase.open(tmp_path / "kb", encoder=encoder.identity),
        PromptTemplate(TEMPLATE, instruction="describe"),
        CaptionGenerator(
            language.model,
            language.tokenizer,
            decoding=Decoding(max_new_tokens=4, num_beams=2),
            max_source_length=64,
        ),
    )


def test_image_of_the_knowledge_base_finds_itself_first(
    coco: CocoFolder,
    parts: tuple[ImageEncoder, KnowledgeBase, PromptTemplate, CaptionGenerator],
) -> None:
    """A knowledge base's image is its own best match at 1, and its caption leads the prompt."""
    ids = [3, 11, 7]
    images = [open_image(coco.image(image_id)) for image_id in ids]
    results = Captioner(*parts, top_k=3).caption(images, ["a", "b", "c"])
    assert [result.matches[0].image_id for result in results] == ids
    for image_id, result in zip(ids, results, strict=True):
        assert len(result.matches) == 3
        assert result.matches[0].score == pytest.approx(1, abs=1e-5)
        first = f"- A dog in field {image_id}, way 0."
        others = [f"- {match.captions[0]}" for match in result.matches[1:]]
        assert result.prompt == "\n".join(["describe", first, *others, "Caption:"])
    generator = parts[3]
    assert [result.caption for result in results] == generator.generate(
        [result.prompt for result in results]
    )


def test_long_prompts_are_shortened_to_the_generators_limit(
    coco: CocoFolder,
    parts: tuple[ImageEncoder, KnowledgeBase, PromptTemplate, CaptionGenerator],
) -> None:
    """The model's limit holds, whatever top_k asks for: the farthest captions are left out."""
    image = open_image(coco.image(5))
    result = Captioner(*parts, top_k=12).caption([image], ["5.jpg"])[0]
    assert len(result.matches) == 12
    assert parts[3].count_tokens(result.prompt) <= 64
    shown = result.prompt.count("- A dog")
    assert 1 <= shown < 12
    assert result.prompt.startswith("describe\n- A dog in field 5, way 0.")
    assert result.prompt.endswith("\nCaption:")


def test_detector_sees_the_image_and_its_name(
    coco: CocoFolder,
    parts: tuple[ImageEncoder, KnowledgeBase, PromptTemplate, CaptionGenerator],
) -> None:
    """The objects of each image, found by image and file name, stand in its prompt."""

    def detect(image: Image.Image, name: str) -> Sequence[DetectedObject]:
        return [DetectedObject(f"{name} {image.width}", (0.0, 0.0, 0.1, 0.1))]

    image = open_image(coco.image(1))
    captioner = Captioner(*parts, top_k=1, detector=detect)
    prompts = [result.prompt for result in captioner.caption([image, image], ["dog", "cat"])]
    assert "\n- dog 48: top left\nCaption:" in prompts[0]
    assert "\n- cat 48: top left\nCaption:" in prompts[1]


def test_top_k_of_each_image_is_its_own(
    coco: CocoFolder,
    parts: tuple[ImageEncoder, KnowledgeBase, PromptTemplate, CaptionGenerator],
) -> None:
    """In one batch each image gets what it gets alone from a captioner with its top_k."""
    counts = [1, 5, 3]
    images = [open_image(coco.image(image_id)) for image_id in (3, 11, 7)]
    found = Captioner(*parts, top_k=2).caption(images, ["a", "b", "c"], top_k=counts)
    assert [len(result.matches) for result in found] == counts
    for image, k, result in zip(images, counts, found, strict=True):
        alone = Captioner(*parts, top_k=k).caption([image], ["a"])[0]
        assert (alone.prompt, alone.matches) == (result.prompt, result.matches)
