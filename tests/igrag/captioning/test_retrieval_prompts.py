"""Retrieval for a batch of images: what their prompts may show."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from igrag.captioning.prompt_template import PromptTemplate
from igrag.captioning.retrieval_prompts import RetrievalPrompts
from igrag.data.coco import DetectedObject
from igrag.data.images import open_image
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase, Match
from tests.tiny import CocoFolder

TEMPLATE = PromptTemplate("{instruction}\n{captions}\n{objects}\nCaption:", instruction="describe")


def count(text: str) -> int:
    """Counts words, in place of a tokenizer."""
    return len(text.split())


@pytest.fixture
def encoder(tiny_clip: Path) -> ImageEncoder:
    """The encoder of the knowledge base."""
    return ImageEncoder(str(tiny_clip), device="cpu")


@pytest.fixture
def opened(knowledge_base: Path, encoder: ImageEncoder) -> KnowledgeBase:
    """The knowledge base of twelve images."""
    return KnowledgeBase.open(knowledge_base, encoder=encoder.identity)


@pytest.fixture
def images(coco: CocoFolder) -> list[Image.Image]:
    """Three images of the knowledge base: 3, 11 and 7."""
    return [open_image(coco.image(image_id)) for image_id in (3, 11, 7)]


def test_vectors_and_images_give_the_same_prompts(
    encoder: ImageEncoder, opened: KnowledgeBase, images: list[Image.Image]
) -> None:
    """Known vectors and objects make the prompts that the images make."""

    def detect(image: Image.Image, name: str) -> Sequence[DetectedObject]:
        return [DetectedObject(name, (0.0, 0.0, 0.1, 0.1))]

    prompts = RetrievalPrompts(encoder, opened, TEMPLATE, top_k=3, detector=detect)
    names = ["a", "b", "c"]
    built = prompts.build(images, names, count_tokens=count, max_tokens=99)
    without_encoder = RetrievalPrompts(None, opened, TEMPLATE, top_k=3)
    objects = [detect(image, name) for image, name in zip(images, names, strict=True)]
    vectors = encoder.encode(images)
    assert built == without_encoder.from_vectors(
        vectors, objects, count_tokens=count, max_tokens=99
    )
    assert [each.matches[0].image_id for each in built] == [3, 11, 7]
    assert "\n- b: top left\n" in built[1].prompt
    with pytest.raises(ValueError, match="no encoder"):
        without_encoder.build(images, names, count_tokens=count, max_tokens=99)


def test_own_images_and_copies_are_skipped(
    encoder: ImageEncoder, opened: KnowledgeBase, images: list[Image.Image]
) -> None:
    """An image finds neither itself, by its id, nor an exact copy of itself."""
    prompts = RetrievalPrompts(encoder, opened, TEMPLATE, top_k=4)
    for options in ({"skip_ids": [3, 11, 7]}, {"skip_duplicates": True}):
        built = prompts.build(images, ["a", "b", "c"], count_tokens=count, max_tokens=99, **options)
        for own, each in zip((3, 11, 7), built, strict=True):
            assert len(each.matches) == 4
            assert own not in [match.image_id for match in each.matches]


def test_filtered_matches_are_replaced_by_farther_ones(
    encoder: ImageEncoder, opened: KnowledgeBase, images: list[Image.Image]
) -> None:
    """A filter may drop matches or captions of each image; the search goes on until it ends."""
    prompts = RetrievalPrompts(encoder, opened, TEMPLATE, top_k=2)
    vectors = encoder.encode(images)
    nearest = opened.search(vectors, 12)

    def keep(index: int, matches: Sequence[Match]) -> list[Match]:
        dropped = {match.image_id for match in nearest[index][: (0, 5, 11)[index]]}
        kept = [match for match in matches if match.image_id not in dropped]
        return [replace(match, captions=match.captions[1:]) for match in kept]

    built = prompts.from_vectors(
        vectors, [()] * 3, count_tokens=count, max_tokens=99, filter_matches=keep
    )
    found = [[match.image_id for match in each.matches] for each in built]
    ids = [[match.image_id for match in matches] for matches in nearest]
    assert found == [ids[0][:2], ids[1][5:7], ids[2][11:]]
    assert "way 1." in built[0].prompt and "way 0." not in built[0].prompt


def test_prompts_are_shortened(
    encoder: ImageEncoder, opened: KnowledgeBase, images: list[Image.Image]
) -> None:
    """The longest prompt holds for each, whatever top_k asks for."""
    prompts = RetrievalPrompts(encoder, opened, TEMPLATE, top_k=12)
    built = prompts.build(images, ["a", "b", "c"], count_tokens=count, max_tokens=30)
    for each in built:
        assert len(each.matches) == 12
        assert count(each.prompt) <= 30 and each.prompt.count("- A dog") >= 1
