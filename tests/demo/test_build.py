"""python -m demo.build, with few images and few steps."""

from functools import partial
from pathlib import Path

import pytest

from demo.build import STAGES, main, parse_arguments
from demo.train_clip import Round as ClipRound
from demo.train_clip import train_clip
from demo.train_t5 import Plan, train_t5
from demo.world.splits import SPLIT_SIZES
from igrag.captioning.language_model import load_language_model
from igrag.data.coco import read_captions
from igrag.data.examples import iter_examples, split_file
from igrag.errors import UsageError
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase
from lora_training.examples import audit_leaks

_FEW = {"train": 30, "val": 6, "dev": 6, "test": 6}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A demo of few images, and models that hardly train."""
    for split, size in _FEW.items():
        monkeypatch.setitem(SPLIT_SIZES, split, size)
    once = (ClipRound("", 1, 1e-3),)
    monkeypatch.setattr("demo.train_clip.BATCH_SIZE", 125)
    monkeypatch.setattr("demo.train_clip.train_clip", partial(train_clip, images=250, rounds=once))
    monkeypatch.setattr("demo.train_t5.train_t5", partial(train_t5, plan=Plan(3, 1e-3)))
    monkeypatch.setattr("demo.build.CHECKPOINTS", tmp_path_factory.mktemp("checkpoints"))
    monkeypatch.setattr("demo.train_t5.BATCH_SIZE", 4)
    monkeypatch.setattr("demo.train_t5._TOKENIZER_EXAMPLES", 500)


def _build(root: Path, *words: str) -> int:
    return main(parse_arguments(["--root", str(root), *words]))


@pytest.mark.slow
@pytest.mark.usefixtures("few", "emoji_font")
def test_all_stages_build_a_consistent_demo(tmp_path: Path) -> None:
    """All stages in a row leave images, models, a knowledge base and data that fit together."""
    root = tmp_path / "demo"
    assert _build(root) == 0
    for split, size in _FEW.items():
        images = read_captions(root / "coco" / "annotations" / f"captions_{split}.json")
        assert len(images) == size
        assert all((root / "coco" / split / image.file_name).is_file() for image in images)
        data = split_file(root / "data", split)
        assert [example.image_id for example in iter_examples(data)] == [
            image.image_id for image in images
        ]
        assert list(audit_leaks(data)) == []
        uncovered = iter_examples(split_file(root / "uncovered" / "data", split))
        assert len(list(uncovered)) == size
    encoder = ImageEncoder(str(root / "models" / "clip-mini"), device="cpu")
    opened = KnowledgeBase.open(root / "knowledge_base", encoder=encoder.identity)
    assert len(opened) == _FEW["train"]
    half = KnowledgeBase.open(root / "uncovered" / "knowledge_base", encoder=encoder.identity)
    assert 0 < len(half) < _FEW["train"]
    assert load_language_model(str(root / "models" / "t5-mini"), device="cpu").tokenizer
    assert {path.name for path in tmp_path.iterdir()} == {"demo"}
    assert len(list((root / "input").iterdir())) == 11


@pytest.mark.slow
@pytest.mark.usefixtures("few", "emoji_font")
def test_drawn_images_are_reproducible(tmp_path: Path) -> None:
    """The stage that draws gives the same files each time, and removes images of other scenes."""
    one, other = tmp_path / "one", tmp_path / "other"
    _build(one, "--stages", "pictures")
    stale = other / "coco" / "train" / "000000000001.jpg"
    stale.parent.mkdir(parents=True)
    stale.touch()
    _build(other, "--stages", "pictures")
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) > sum(_FEW.values())
    assert files == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert all((one / path).read_bytes() == (other / path).read_bytes() for path in files)


def test_unknown_stage_is_refused(tmp_path: Path) -> None:
    """The error for a misspelled stage names the stages, before anything is made."""
    with pytest.raises(UsageError, match=f"picture: expected some of {' '.join(STAGES)}"):
        _build(tmp_path / "demo", "--stages", "picture")
    assert not (tmp_path / "demo").exists()
