"""Examples from captioned images: no prompt has its own caption, and no image is lost."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from igrag.captioning.prompt_template import PromptTemplate
from igrag.data.coco import CaptionedImage
from igrag.errors import DataError
from igrag.retrieval.image_encoder import EncoderIdentity, ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase
from igrag.retrieval.vector_files import open_vectors
from lora_training import chunks
from lora_training.chunks import build_split
from lora_training.examples import ExampleBuilder, ImageVectors, audit_leaks
from lora_training.splits import sample_images, split_images

Floats = NDArray[np.float32]


def fan(count: int, *, step: float = 0.05) -> Floats:
    """Returns unit vectors [count, 2] at growing angles: row n is the n-th nearest of row 0."""
    angles = np.arange(count) * step
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def captioned_images(*captions: str | tuple[str, ...]) -> list[CaptionedImage]:
    """Returns images with the ids 0, 1, ... and these captions."""
    texts = [(text,) if isinstance(text, str) else text for text in captions]
    return [CaptionedImage(n, f"{n}.png", text) for n, text in enumerate(texts)]


def save(path: Path, images: Sequence[CaptionedImage], vectors: Floats) -> KnowledgeBase:
    """Saves and opens a knowledge base."""
    encoder = EncoderIdentity("none", vectors.shape[1], "none", {})
    KnowledgeBase.write(path / "kb", vectors=vectors, entries=images, encoder=encoder)
    return KnowledgeBase.open(path / "kb")


def example_builder(
    knowledge_base: KnowledgeBase, *, top_k: int = 2, seed: int = 0, listed: int = 0
) -> ExampleBuilder:
    """Returns a builder whose prompts are the captions alone."""
    template = PromptTemplate("{instruction}\n{captions}", instruction="describe")
    return ExampleBuilder(
        knowledge_base,
        template,
        top_k=top_k,
        count_tokens=lambda text: len(text.split()),
        max_tokens=1000,
        seed=seed,
        listed=listed,
    )


def retrieved(examples: Sequence[dict[str, object]]) -> list[list[int]]:
    """Returns the ids of each example's matches."""
    found = []
    for example in examples:
        metadata = example["metadata"]
        assert isinstance(metadata, dict)
        found.append([image_id for image_id, _ in metadata["retrieved"]])
    return found


class FakeEncoder(ImageEncoder):
    """Encodes an image as the unit vector of its mean color's first two channels."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def encode(self, images: Sequence[Image.Image]) -> Floats:
        """Returns unit vectors [B, 2]."""
        return self.encode_pixels(torch.stack([self.preprocess(image) for image in images]))

    def preprocess(self, image: Image.Image) -> torch.Tensor:  # type: ignore[override]
        """Returns the first two channels of the first pixel [2]."""
        return torch.tensor(np.asarray(image)[0, 0, :2], dtype=torch.float32)

    def encode_pixels(self, pixels: torch.Tensor) -> Floats:
        """Returns unit vectors [B, 2]."""
        self.batches.append(len(pixels))
        unit: Floats = torch.nn.functional.normalize(pixels, dim=-1).numpy()
        return unit


def no_encoder() -> FakeEncoder:
    """Fails where an encoder would be loaded."""
    raise AssertionError("the encoder was loaded")


def test_prompt_has_neither_the_image_nor_its_copy(tmp_path: Path) -> None:
    """The image itself, and one with the same vector under another id, are skipped."""
    vectors = fan(5)
    vectors[3] = vectors[0]
    images = captioned_images("own", "b", "c", "copy", "e")
    builder = example_builder(save(tmp_path, images, vectors))
    found = builder.build(images[:2], vectors[:2], split="train")
    assert retrieved(found)[0] == [1, 2]
    assert sorted(retrieved(found)[1]) == [0, 2]
    assert found[0]["prompt"] == "describe\n- b\n- c"


def test_prompt_never_has_the_image_of_the_same_id(tmp_path: Path) -> None:
    """An image encoded a little differently, with other captions, still never finds its own id."""
    images, vectors = captioned_images("first wording", "b", "c"), fan(3)
    builder = example_builder(save(tmp_path, images, vectors))
    query = CaptionedImage(0, "0.png", ("second wording",))
    near = np.array([[np.cos(0.01), np.sin(0.01)]], np.float32)
    assert retrieved(builder.build([query], near, split="train")) == [[1, 2]]


def test_prompt_never_has_a_reference_word_for_word(tmp_path: Path) -> None:
    """A near image's captions that say one of the answers are left out, its others are used."""
    images = captioned_images(
        ("A dog runs.", "One dog."),
        ("look, a DOG runs", "something else"),
        ("one dog", "a dog runs"),
        "a dog runs away",
        "a cat",
    )
    vectors = fan(5)
    builder = example_builder(save(tmp_path, images, vectors))
    example = builder.build(images[:1], vectors[:1], split="val")[0]
    assert example["prompt"] == "describe\n- something else\n- a cat"
    assert retrieved([example]) == [[1, 4]]


def test_dropped_matches_are_replaced_by_farther_ones(tmp_path: Path) -> None:
    """Where the nearest all say the answer, farther ones are found, however many there are."""
    images = captioned_images(*["the same"] * 40, "b", "c", "d")
    vectors = fan(43, step=0.02)
    example = example_builder(save(tmp_path, images, vectors)).build(
        images[:1], vectors[:1], split="train"
    )[0]
    assert retrieved([example]) == [[40, 41]]
    assert example["prompt"] == "describe\n- b\n- c"


def test_examples_list_the_nearest_images_on_request(tmp_path: Path) -> None:
    """So many are listed as asked for, none with the answer; all else is as without the list."""
    images = captioned_images("own", "b", "own", ("d", "second"), "e", "f")
    vectors = fan(6)
    knowledge_base = save(tmp_path, images, vectors)
    plain = example_builder(knowledge_base).build(images[:1], vectors[:1], split="train")[0]
    for count, captions in ((1, "b"), (3, "bde"), (9, "bdef")):
        builder = example_builder(knowledge_base, listed=count)
        (example,) = builder.build(images[:1], vectors[:1], split="train")
        listed = example.pop("retrieved")
        assert example == plain and "retrieved" not in plain
        assert [entry["captions"] for entry in listed] == [[text] for text in captions]
        assert listed[0]["similarity"] == pytest.approx(np.cos(0.05), abs=1e-6)


@pytest.mark.parametrize("others", [0, 1])
def test_small_knowledge_base_gives_shorter_prompts(tmp_path: Path, others: int) -> None:
    """A knowledge base with little or nothing else gives shorter prompts, not an error."""
    images = captioned_images("own", *["b"] * others)
    vectors = fan(1 + others)
    example = example_builder(save(tmp_path, images, vectors)).build(
        images[:1], vectors[:1], split="train"
    )[0]
    assert example["prompt"] == ("describe\n- b" if others else "describe\n(none)")


def test_example_holds_target_references_and_metadata(tmp_path: Path) -> None:
    """The target is one of the references, drawn by seed and image, whatever else is built."""
    images = captioned_images(*[tuple(f"{n} way {way}" for way in range(5)) for n in range(30)])
    vectors = fan(30)
    knowledge_base = save(tmp_path, images, vectors)
    first = example_builder(knowledge_base).build(images, vectors, split="train")
    example = first[4]
    assert set(example) == {"image_id", "prompt", "caption", "references", "metadata"}
    assert example["image_id"] == 4
    assert example["references"] == list(images[4].captions)
    assert example["caption"] == images[4].captions[example["metadata"]["target"]]
    assert example["metadata"]["split"] == "train"
    scores = [score for _, score in example["metadata"]["retrieved"]]
    assert scores == pytest.approx([np.cos(0.05)] * 2, abs=1e-3)
    targets = [example["metadata"]["target"] for example in first]
    assert set(targets) == set(range(5))
    alone = example_builder(knowledge_base).build(images[4:5], vectors[4:5], split="train")
    assert alone == [example]
    other = example_builder(knowledge_base, seed=1).build(images, vectors, split="train")
    assert [example["metadata"]["target"] for example in other] != targets


def test_split_is_by_image_and_by_seed() -> None:
    """Each image is in one split, by the seed; images without captions are in none."""
    images = [
        *captioned_images(*[f"caption {n}" for n in range(20)]),
        CaptionedImage(99, "99.png", ()),
    ]
    sampled = sample_images(images, count=None, seed=3)
    train, val = split_images(sampled, train_ratio=0.75)
    ids = [image.image_id for image in train], [image.image_id for image in val]
    assert (len(ids[0]), len(ids[1])) == (15, 5)
    assert sorted(ids[0] + ids[1]) == list(range(20))
    assert sampled == sample_images(images, count=None, seed=3)
    assert sampled != sample_images(images, count=None, seed=4)


def test_sample_count_beyond_the_images_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """The images drawn are distinct; a sample_count beyond them gives a warning."""
    images = captioned_images(*[f"caption {n}" for n in range(9)])
    assert len({image.image_id for image in sample_images(images, count=4, seed=0)}) == 4
    with caplog.at_level(logging.WARNING):
        assert len(sample_images(images, count=10, seed=0)) == 9
    assert "10 samples requested, only 9 images have captions" in caplog.text


def test_empty_split_is_refused() -> None:
    """A ratio that leaves train or val without images is an error."""
    with pytest.raises(DataError, match=r"train_ratio 0.9 of 3 images leaves a split empty"):
        split_images(captioned_images("a", "b", "c"), train_ratio=0.9)


def color(path: Path, name: str, vector: Floats) -> None:
    """Saves an image that `FakeEncoder` turns into about this vector."""
    pixel = tuple(round(255 * float(value)) for value in vector)
    Image.new("RGB", (4, 4), (*pixel, 0)).save(path / name)


def test_vectors_of_the_knowledge_base_are_reused(tmp_path: Path) -> None:
    """Images that are held need neither the encoder nor their file."""
    images, vectors = captioned_images("a", "b", "c"), fan(3)
    source = ImageVectors(
        save(tmp_path, images, vectors), tmp_path, get_encoder=no_encoder, batch_size=2
    )
    readable, found = source([images[2], images[0]])
    assert readable == [images[2], images[0]]
    np.testing.assert_array_equal(found, vectors[[2, 0]])
    assert (source.reused, source.skipped) == (2, [])


def test_images_outside_the_knowledge_base_are_encoded_in_batches(tmp_path: Path) -> None:
    """Images that are not held, or only another one under their id, are encoded in order."""
    images, vectors = captioned_images("a", "b", "c", "d"), fan(4, step=0.4)
    knowledge_base = save(tmp_path, images[:2], vectors[:2])
    stranger = CaptionedImage(1, "stranger.png", ("another image numbered alike",))
    for image, vector in zip([*images, stranger], [*vectors, vectors[3]], strict=True):
        color(tmp_path, image.file_name, vector)
    encoder = FakeEncoder()
    source = ImageVectors(knowledge_base, tmp_path, get_encoder=lambda: encoder, batch_size=2)
    wanted = [images[3], images[0], stranger, images[2]]
    readable, found = source(wanted)
    assert readable == wanted
    np.testing.assert_allclose(found, vectors[[3, 0, 3, 2]], atol=0.01)
    assert (encoder.batches, source.reused) == ([2, 1], 1)


def test_unreadable_images_are_skipped_and_listed(tmp_path: Path) -> None:
    """Unreadable images are left out and reported; images and vectors stay aligned."""
    images, vectors = captioned_images("a", "b", "c", "d"), fan(4, step=0.4)
    knowledge_base = save(tmp_path, images[:1], vectors[:1])
    (tmp_path / "1.png").write_text("no image")
    color(tmp_path, "3.png", vectors[3])
    encoder = FakeEncoder()
    source = ImageVectors(knowledge_base, tmp_path, get_encoder=lambda: encoder, batch_size=8)
    report = build_split(
        tmp_path / "train.jsonl",
        images,
        vectors=source,
        builder=example_builder(knowledge_base),
        split="train",
        progress=False,
    )
    assert (report.written, report.reused, len(report.skipped)) == (2, 1, 2)
    assert "1.png" in report.skipped[0]
    assert "2.png" in report.skipped[1]
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)["image_id"] for line in lines] == [0, 3]
    saved = open_vectors(tmp_path / "train.jsonl")
    assert saved.image_ids == [0, 3] and saved.encoder == knowledge_base.encoder
    np.testing.assert_allclose(saved.vectors, vectors[[0, 3]], atol=0.01)
    with pytest.raises(DataError, match="none of the images could be used"):
        build_split(
            tmp_path / "val.jsonl",
            images[1:3],
            vectors=source,
            builder=example_builder(knowledge_base),
            split="val",
            progress=False,
        )
    assert not list(tmp_path.glob("val.*"))


def test_build_shows_no_progress_bar_without_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The progress bar is hidden if stderr is no terminal."""
    images = captioned_images("a", "b", "c", "d")
    opened = save(tmp_path, images, fan(4))
    vectors = ImageVectors(opened, tmp_path, get_encoder=no_encoder, batch_size=2)
    builder = example_builder(opened)
    build_split(tmp_path / "x.jsonl", images, vectors=vectors, builder=builder, split="train")
    assert capsys.readouterr().err == ""


def test_chunks_do_not_change_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a chunk of images is in memory at a time; the file is the same for any chunk size."""
    images = captioned_images(*[f"Größe {n}" for n in range(11)])
    vectors = fan(11)
    knowledge_base = save(tmp_path, images, vectors)
    held = []

    class Recorded(ImageVectors):
        def __call__(self, images: Sequence[CaptionedImage]) -> tuple[list[CaptionedImage], Floats]:
            held.append(len(images))
            return super().__call__(images)

    def write(name: str) -> str:
        source = Recorded(knowledge_base, tmp_path, get_encoder=no_encoder, batch_size=2)
        build_split(
            tmp_path / name,
            images,
            vectors=source,
            builder=example_builder(knowledge_base),
            split="train",
            progress=False,
        )
        saved = open_vectors(tmp_path / name)
        assert saved.image_ids == list(range(11)) and saved.vectors.dtype == np.float16
        np.testing.assert_array_equal(saved.vectors, vectors.astype(np.float16))
        return (tmp_path / name).read_text(encoding="utf-8")

    whole = write("whole.jsonl")
    assert "Größe" in whole
    monkeypatch.setattr(chunks, "_CHUNK", 4)
    assert write("chunks.jsonl") == whole
    assert held == [11, 4, 4, 3]
    assert list(audit_leaks(tmp_path / "whole.jsonl")) == []


def test_interrupted_split_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new file appears complete or not at all."""
    images, vectors = captioned_images("a", "b", "c", "d"), fan(4)
    knowledge_base = save(tmp_path, images, vectors)
    monkeypatch.setattr(chunks, "_CHUNK", 2)
    file = tmp_path / "train.jsonl"
    file.write_text("old")

    class Interrupted(ImageVectors):
        def __call__(self, images: Sequence[CaptionedImage]) -> tuple[list[CaptionedImage], Floats]:
            if images[0].image_id == 2:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt):
        build_split(
            file,
            images,
            vectors=Interrupted(knowledge_base, tmp_path, get_encoder=no_encoder, batch_size=2),
            builder=example_builder(knowledge_base),
            split="train",
            progress=False,
        )
    assert file.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kb", "train.jsonl"]
