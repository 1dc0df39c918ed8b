"""Vectors of examples' images: next to them, in a knowledge base, or made from the images once."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from igrag.errors import DataError
from igrag.retrieval.image_encoder import EncoderIdentity, ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase
from igrag.retrieval.vector_files import save_vectors
from igrag.retrieval.vector_lookup import (
    ImageVectors,
    Source,
    find_vectors,
    in_folder,
    in_knowledge_base,
    next_to,
)
from tests.tiny import CocoFolder

FIX = "build it"


def save_lines(path: Path, image_ids: Sequence[object]) -> Path:
    """Saves an example of each image, after a blank line."""
    lines = [{"prompt": "a", "caption": "b", "image_id": image_id} for image_id in image_ids]
    path.write_text("\n" + "".join(json.dumps(line) + "\n" for line in lines))
    return path


def save_rows(examples: Path, image_ids: Sequence[int], encoder: EncoderIdentity) -> list[Source]:
    """Saves vectors next to examples: each the image's id in the first dimension."""
    rows = np.zeros((len(image_ids), encoder.dimension), np.float16)
    rows[:, 0] = image_ids
    save_vectors(examples, io.BytesIO(rows.tobytes()), list(image_ids), encoder)
    return next_to(examples)


ENCODER = EncoderIdentity("clip", 3, "weights", {"size": 32})


def test_examples_of_one_image_share_its_vector(tmp_path: Path) -> None:
    """Vectors are found by id as text, whatever the order; the file itself is not copied."""
    examples = save_lines(tmp_path / "train.jsonl", [5, 3, 5])
    found = find_vectors(
        examples, ["5", "3", "5"], save_rows(examples, [3, 4, 5], ENCODER), fix=FIX
    )
    assert found.of_examples()[:, 0].tolist() == [5, 3, 5] and len(found) == 3
    assert isinstance(found.vectors, np.memmap) and found.rows.tolist() == [2, 0, 2]
    other = ImageVectors(found.vectors, np.array([2, 0, 0]), ENCODER)
    assert found.sha256() != other.sha256()
    assert found.sha256() == ImageVectors(found.vectors, found.rows, ENCODER).sha256()


def test_missing_vector_is_an_error_with_its_line(tmp_path: Path) -> None:
    """The error has file, line, image, where it was looked up, and the fix."""
    examples = save_lines(tmp_path / "train.jsonl", [3, 9])
    sources = save_rows(examples, [3, 4], ENCODER)
    with pytest.raises(
        DataError, match=r"train\.jsonl:3: no vector of image 9 in .*train\.vectors\.npy; build it"
    ):
        find_vectors(examples, ["3", "9"], sources, fix=FIX)
    with pytest.raises(DataError, match=r"train\.jsonl:2: no vector of image 3; build it"):
        find_vectors(examples, ["3", "9"], [], fix=FIX)
    unknown = save_lines(tmp_path / "unknown.jsonl", [3, None])
    with pytest.raises(DataError, match=r'unknown\.jsonl:3: no "image_id" in'):
        find_vectors(unknown, ["3", ""], sources, fix=FIX)


def test_later_sources_are_opened_for_what_earlier_ones_lack(
    tmp_path: Path, knowledge_base: Path, coco: CocoFolder, tiny_clip: Path
) -> None:
    """A knowledge base, then the vectors of another file; all must be of one encoder."""
    opened = KnowledgeBase.open(knowledge_base)
    examples = save_lines(tmp_path / "train.jsonl", [2, 99])
    other = save_rows(tmp_path / "other.jsonl", [99], opened.encoder)

    def unused(missing: Sequence[object]) -> object:
        raise AssertionError(f"opened for {missing}")

    sources: list[Source] = [in_knowledge_base(knowledge_base), *other, unused]  # type: ignore[list-item]
    found = find_vectors(examples, ["2", "99"], sources, fix=FIX).of_examples()
    expected = opened.vector(2)
    assert expected is not None
    np.testing.assert_array_equal(found[0], expected)
    assert found[1, 0] == 99
    foreign = save_rows(tmp_path / "foreign.jsonl", [99], ENCODER)
    with pytest.raises(
        DataError, match=r"foreign.* encoder clip, expected those of clip-8, .*dimension"
    ):
        find_vectors(examples, ["2", "99"], [*sources[:1], *foreign], fix=FIX)


def test_images_of_a_folder_are_encoded_once(
    tmp_path: Path, coco: CocoFolder, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only images that are asked for, and again only if one of the files has changed."""
    encoder = ImageEncoder(str(tiny_clip), device="cpu")
    examples = save_lines(tmp_path / "train.jsonl", [2, 3, 2])
    encoded: list[int] = []

    def encode(images: Sequence[object]) -> object:
        encoded.append(len(images))
        return ImageEncoder.encode(encoder, images)  # type: ignore[arg-type]

    monkeypatch.setattr(encoder, "encode", encode)
    source = in_folder(
        coco.images, get_encoder=lambda: encoder, cache=tmp_path / "cache", batch_size=8
    )
    first = find_vectors(examples, ["2", "3", "2"], [source], fix=FIX)
    again = find_vectors(examples, ["2", "3", "2"], [source], fix=FIX)
    np.testing.assert_array_equal(first.of_examples(), again.of_examples())
    assert encoded == [2] and first.encoder == encoder.identity
    coco.image(2).write_bytes(coco.image(4).read_bytes())
    find_vectors(examples, ["2", "3"], [source], fix=FIX)
    assert encoded == [2, 2]
    with pytest.raises(DataError, match=r"train\.jsonl:2: no vector of image 77 in .*images; "):
        find_vectors(save_lines(examples, [77]), ["77"], [source], fix=FIX)
