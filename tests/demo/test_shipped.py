"""The files of demo/ as they are shipped: complete, small, and what the code makes."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from demo.coco_files import IMAGE_SIZE, file_name
from demo.world.kinds import MAIN_KINDS
from demo.world.splits import SPLIT_SIZES, captioned_scenes, covered_kinds
from igrag.config import REPO_ROOT
from igrag.data.examples import iter_examples, split_file
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase
from lora_training.examples import audit_leaks

_DEMO = REPO_ROOT / "demo"
_LARGEST = 25_000_000  # bytes


def _annotations(kind: str, split: str) -> dict[str, Any]:
    path = _DEMO / "coco" / "annotations" / f"{kind}_{split}.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_demo_is_smaller_than_25_mb() -> None:
    """The files of demo/ in a clone are less than 25 MB."""

    def is_shipped(path: Path) -> bool:
        made = "__pycache__" in path.parts or path.name.startswith("cache-")
        return path.is_file() and not made

    assert sum(path.stat().st_size for path in _DEMO.rglob("*") if is_shipped(path)) < _LARGEST


@pytest.mark.parametrize("split", SPLIT_SIZES)
def test_captions_are_those_of_the_scenes(split: str) -> None:
    """The captions file has what the grammar generates for the split's scenes, in its order."""
    content = _annotations("captions", split)
    scenes = captioned_scenes(split)
    assert [image["id"] for image in content["images"]] == [item.image_id for item in scenes]
    saved = [(note["image_id"], note["caption"]) for note in content["annotations"]]
    assert saved == [(item.image_id, text) for item in scenes for text in item.captions]


@pytest.mark.parametrize("split", SPLIT_SIZES)
def test_images_have_their_size_and_boxes(split: str) -> None:
    """Every image opens in its size, and each main thing has its boxes within it."""
    content = _annotations("instances", split)
    names = {category["id"]: category["name"] for category in content["categories"]}
    found: dict[int, list[str]] = {}
    for note in content["annotations"]:
        x, y, width, height = note["bbox"]
        assert 0 <= x < x + width <= IMAGE_SIZE[0]
        assert 0 <= y < y + height <= IMAGE_SIZE[1]
        found.setdefault(note["image_id"], []).append(names[note["category_id"]])
    for item in captioned_scenes(split):
        with Image.open(_DEMO / "coco" / split / file_name(item.image_id)) as image:
            assert image.size == IMAGE_SIZE
        main = item.scene.main
        assert found[item.image_id].count(main.kind.name) >= main.count


@pytest.mark.parametrize("split", SPLIT_SIZES)
@pytest.mark.parametrize("folder", ["data", "uncovered/data"])
def test_data_match_the_split_without_leaks(folder: str, split: str) -> None:
    """Each line is an image of the split with its own captions, none of them in its prompt."""
    path = split_file(_DEMO / folder, split)
    captions = {item.image_id: item.captions for item in captioned_scenes(split)}
    for example in iter_examples(path):
        assert tuple(example.references) == captions.pop(int(str(example.image_id)))
        assert example.caption in example.references
    assert captions == {}
    assert list(audit_leaks(path)) == []


def test_uncovered_knowledge_base_lacks_half_of_the_kinds() -> None:
    """It holds the training images of the covered kinds, and none of the others."""
    covered = covered_kinds()
    assert len(covered) == pytest.approx(len(MAIN_KINDS) / 2, abs=1)
    encoder = ImageEncoder(str(_DEMO / "models" / "clip-mini"), device="cpu")
    opened = KnowledgeBase.open(_DEMO / "uncovered" / "knowledge_base", encoder=encoder.identity)
    scenes = captioned_scenes("train")
    shown = {item.image_id for item in scenes if item.scene.main.kind.name in covered}
    assert {int(str(image_id)) for image_id in opened.image_ids} == shown


@pytest.mark.parametrize("name", ["clip-mini", "t5-mini"])
def test_model_card_has_size_and_command(name: str) -> None:
    """The card names the parameters that the training counted, and the command that trains."""
    folder = _DEMO / "models" / name
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"{record['parameters']:,} parameters" in " ".join(card.split())
    assert f"python -m demo.build --stages {name.partition('-')[0]}" in card
