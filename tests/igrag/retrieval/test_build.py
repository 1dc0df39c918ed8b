"""Building a knowledge base from captioned images, with interruptions."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from igrag.data.coco import read_captions
from igrag.data.images import open_image
from igrag.errors import DataError, KnowledgeBaseError, OutputError
from igrag.processes import Processes, Ranks
from igrag.retrieval.build import BuildReport, build_knowledge_base, build_planned
from igrag.retrieval.build_plan import plan_build
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase
from tests.igrag.test_processes import Store
from tests.tiny import CocoFolder


@pytest.fixture(scope="module")
def encoder(tiny_clip: Path) -> ImageEncoder:
    """Returns the tiny model's encoder."""
    return ImageEncoder(str(tiny_clip), device="cpu")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a shard of every batch."""
    monkeypatch.setattr("igrag.retrieval.partial_vectors.SMALLEST_SHARD", 1)


class Failing:
    """An encoder that counts the images and breaks down at a given one."""

    def __init__(self, encoder: ImageEncoder, *, at: int = 10**9) -> None:
        self.identity, self.dtype = encoder.identity, encoder.dtype
        self.preprocess, self.is_on_cpu = encoder.preprocess, True
        self._encoder, self._at = encoder, at
        self.encoded = 0

    def encode_pixels(self, pixels: torch.Tensor) -> NDArray[np.float32]:
        """Encodes, or break down."""
        self.encoded += len(pixels)
        if self.encoded >= self._at:
            raise KeyboardInterrupt
        return self._encoder.encode_pixels(pixels)


def build(coco: CocoFolder, output: Path, encoder: Any, **options: Any) -> BuildReport:
    """Builds without a progress bar."""
    return build_knowledge_base(
        coco.captions, coco.images, output, encoder=encoder, progress=False, **options
    )


def interrupt(coco: CocoFolder, output: Path, encoder: ImageEncoder, **options: Any) -> None:
    """Builds in batches of 2 and break down in the fourth."""
    with pytest.raises(KeyboardInterrupt):
        build(coco, output, Failing(encoder, at=7), batch_size=2, **options)
    assert not output.exists()


def build_together(coco: CocoFolder, output: Path, encoders: Sequence[Any]) -> list[BaseException]:
    """Builds in one thread for each encoder, as processes do; returns what they raised."""
    store, errors = Store(), list[BaseException]()

    def work(rank: int) -> None:
        processes = Processes(Ranks(rank, len(encoders), rank, len(encoders)), store)
        options: dict[str, Any] = {"processes": processes}
        try:
            with plan_build(coco.captions, coco.images, output, **options) as plan:
                options |= {"encoder": encoders[rank], "batch_size": 2, "progress": False}
                build_planned(plan, **options)
        except BaseException as error:
            processes.fails_first()
            errors.append(error)

    threads = [Thread(target=work, args=(rank,)) for rank in range(len(encoders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the files of a knowledge base."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def assert_aligned(output: Path, coco: CocoFolder, encoder: ImageEncoder) -> None:
    """Checks every row against its image and its captions."""
    opened = KnowledgeBase.open(output, encoder=encoder.identity)
    entries = {entry.image_id: entry for entry in read_captions(coco.captions)}
    for image_id in opened.image_ids:
        image = open_image(coco.images / entries[image_id].file_name)
        vector = opened.vector(image_id)
        assert vector is not None
        np.testing.assert_allclose(vector, encoder.encode([image])[0], atol=1e-6)
        assert opened.captions_of(image_id) == entries[image_id].captions


@pytest.mark.parametrize(("batch_size", "workers"), [(5, 0), (1, 0), (50, 2)])
def test_rows_and_captions_are_aligned(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder, batch_size: int, workers: int
) -> None:
    """With any batch size and number of workers each row is its own image's."""
    output = tmp_path / "new" / "kb"
    report = build(coco, output, encoder, batch_size=batch_size, workers=workers)
    assert report == BuildReport(12, 8, (), (), 0)
    assert_aligned(output, coco, encoder)
    assert [path.name for path in output.parent.iterdir()] == ["kb"]


def test_unusable_images_are_skipped_and_listed(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder
) -> None:
    """Damaged, missing and uncaptioned images are left out by name; the others stay aligned."""
    coco.image(1).write_text("no image")
    coco.image(6).write_bytes(coco.image(6).read_bytes()[:200])
    coco.image(12).unlink()
    coco.edit(lambda data: data["annotations"].__delitem__(slice(4, 6)))  # image 3's
    (coco.images / "stranger.png").touch()
    report = build(coco, tmp_path / "kb", encoder, batch_size=3)
    assert report.count == 8
    reasons = {image.file_name: image.reason for image in report.skipped}
    assert set(reasons) == {coco.image(n).name for n in (1, 3, 6, 12)}
    for image_id, words in (
        (1, "not an image"),
        (3, "has no captions"),
        (6, "cannot be read"),
        (12, "no such image"),
    ):
        assert words in reasons[coco.image(image_id).name]
    assert report.uncaptioned == ("stranger.png",)
    assert_aligned(tmp_path / "kb", coco, encoder)
    manifest = json.loads((tmp_path / "kb" / "knowledge_base.json").read_text())
    assert {image["file_name"] for image in manifest["skipped"]} == set(reasons)
    assert str(tmp_path) not in json.dumps(manifest)


def test_reduced_decoding_is_recorded_and_not_mixed(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    """Large JPEGs have nearly the same vectors, and an unfinished build is not continued so."""
    noise = np.random.default_rng(0).integers(0, 255, (5, 6, 3)).astype(np.uint8)
    for number in range(1, 13):
        large = Image.fromarray(noise).resize((480, 400), Image.Resampling.BICUBIC)
        large.rotate(number).save(coco.image(number))
    interrupt(coco, tmp_path / "kb", encoder)
    with plan_build(coco.captions, coco.images, tmp_path / "kb") as plan:
        build_planned(plan, encoder=encoder, reduced_decoding=True)
    assert "starting over" in caplog.text
    build(coco, tmp_path / "whole", encoder)
    reduced, whole = (KnowledgeBase.open(tmp_path / name) for name in ("kb", "whole"))
    cosines = (reduced.vectors * whole.vectors).sum(axis=1)
    assert not np.array_equal(reduced.vectors, whole.vectors) and cosines.min() > 1 - 1e-3
    source = [json.loads((each.path / "knowledge_base.json").read_text())["source"]
              for each in (reduced, whole)]  # fmt: skip
    assert [each.get("decoding") for each in source] == ["reduced", None]


def test_name_too_long_is_one_image_less(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder
) -> None:
    """A file name that the system refuses to look up costs its image and not the build."""
    coco.edit(lambda data: data["images"][0].update(file_name="a" * 300 + ".jpg"))
    report = build(coco, tmp_path / "kb", encoder)
    assert report.count == 11
    assert "name too long" in report.skipped[0].reason


def test_interrupted_build_is_continued(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder
) -> None:
    """What was encoded, and what was skipped, before the interruption is not done again."""
    coco.image(2).write_text("no image")
    interrupt(coco, tmp_path / "kb", encoder)
    counting = Failing(encoder)
    report = build(coco, tmp_path / "kb", counting, batch_size=5)
    assert (report.count, report.resumed, counting.encoded) == (11, 6, 6)
    assert [image.file_name for image in report.skipped] == [coco.image(2).name]
    assert_aligned(tmp_path / "kb", coco, encoder)
    assert not (tmp_path / "kb.partial").exists()


@pytest.mark.parametrize("damage", ["vectors without record", "lost", "cut off", "of another"])
def test_shard_that_is_not_whole_is_made_again(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder, damage: str
) -> None:
    """Killed between writing vectors and recording them, a build still continues aligned."""
    interrupt(coco, tmp_path / "kb", encoder)
    vectors = tmp_path / "kb.partial" / "shards" / "000001.npy"
    record = vectors.with_suffix(".json")
    if damage == "vectors without record":
        record.unlink()
        vectors.write_bytes(b"others")
        (vectors.parent / ".000001.npy.x.tmp.npy").touch()
    elif damage == "lost":
        vectors.unlink()
    elif damage == "cut off":
        os.truncate(vectors, 130)
    else:
        content = json.loads(record.read_text()) | {"made_from": "other inputs"}
        record.write_text(json.dumps(content))
    assert build(coco, tmp_path / "kb", encoder).resumed == 4
    assert_aligned(tmp_path / "kb", coco, encoder)


def test_damaged_vectors_are_not_merged(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder
) -> None:
    """Values that changed on the disk are found by their checksum, and made again on request."""
    interrupt(coco, tmp_path / "kb", encoder)
    vectors = tmp_path / "kb.partial" / "shards" / "000001.npy"
    content = bytearray(vectors.read_bytes())
    content[-1] ^= 1
    vectors.write_bytes(content)
    with pytest.raises(KnowledgeBaseError, match=r"000001\.npy: found another checksum"):
        build(coco, tmp_path / "kb", encoder)
    vectors.unlink()
    assert build(coco, tmp_path / "kb", encoder).count == 12
    assert_aligned(tmp_path / "kb", coco, encoder)


def test_build_of_an_earlier_version_is_continued(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder
) -> None:
    """The rows that it kept in one file are cut into shards; only the last ones are made again."""
    coco.image(2).write_text("no image")
    interrupt(coco, tmp_path / "kb", encoder)
    folder = tmp_path / "kb.partial"
    inputs = json.loads((folder / "progress.json").read_text())["inputs"]
    shutil.rmtree(folder)
    folder.mkdir()
    numbers = (1, 3, 4, 5, 6, 7, 8)
    rows = [encoder.encode([open_image(coco.image(number))]) for number in numbers]
    (folder / "vectors.f32").write_bytes(np.concatenate(rows).tobytes() + b"half a row")
    (folder / "skipped.jsonl").write_bytes(b'[1, "was no image"]\n')
    state = {"format": "igrag unfinished knowledge base 2", "inputs": inputs}
    content = json.dumps(state | {"processed": 8, "skipped_bytes": 20})
    (folder / "progress.json").write_text(content)
    counting = Failing(encoder)
    report = build(coco, tmp_path / "kb", counting, batch_size=3)
    assert (report.count, report.resumed, counting.encoded) == (11, 6, 6)
    assert [image.reason for image in report.skipped] == ["was no image"]
    assert_aligned(tmp_path / "kb", coco, encoder)


@pytest.mark.parametrize("change", ["captions", "encoder", "limit", "images"])
def test_build_from_other_inputs_starts_over(
    tmp_path: Path,
    coco: CocoFolder,
    encoder: ImageEncoder,
    other_clip: Path,
    change: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Vectors of other captions, images, models or lengths are dropped with a warning."""
    interrupt(coco, tmp_path / "kb", encoder)
    options = {"limit": 9} if change == "limit" else {}
    if change == "captions":
        coco.edit(lambda data: data["images"].reverse())
    elif change == "encoder":
        encoder = ImageEncoder(str(other_clip), device="cpu")
    elif change == "images":
        coco.images.rename(tmp_path / "moved")
        coco = CocoFolder(coco.captions, tmp_path / "moved", coco.count)
    report = build(coco, tmp_path / "kb", encoder, **options)
    assert (report.count, report.resumed) == (options.get("limit", 12), 0)
    assert "starting over" in caplog.text
    assert_aligned(tmp_path / "kb", coco, encoder)


@pytest.mark.parametrize("sizes", [(1, 3, 2), (3, 1), (2,)])
def test_any_number_of_processes_makes_the_same_files(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder, sizes: tuple[int, ...]
) -> None:
    """Begun by some processes and continued by others, a build has the bytes of one process's."""
    coco.image(5).write_text("no image")
    build(coco, tmp_path / "one", encoder, batch_size=2)
    *interrupted, last = sizes
    for size in interrupted:
        encoders = [Failing(encoder, at=3) for _ in range(size)]
        errors = build_together(coco, tmp_path / "many", encoders)
        assert [error for error in errors if isinstance(error, KeyboardInterrupt)]
        assert not (tmp_path / "many").exists()
    counting = [Failing(encoder) for _ in range(last)]
    assert build_together(coco, tmp_path / "many", counting) == []
    assert sum(each.encoded for each in counting) < (11 if interrupted else 12)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert not (tmp_path / "many.partial").exists()


def test_process_with_another_encoder_ends_the_build(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder, other_clip: Path
) -> None:
    """On a second machine the model's folder may be another one: no vector of it is merged."""
    other = ImageEncoder(str(other_clip), device="cpu")
    errors = build_together(coco, tmp_path / "kb", [encoder, other])
    assert "process 1: found other inputs or another encoder" in str(errors)
    assert not (tmp_path / "kb").exists()


def test_interrupted_rebuild_leaves_the_old_one(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder
) -> None:
    """Until the new knowledge base is complete the replaced one can be opened."""
    build(coco, tmp_path / "kb", encoder, limit=3)
    with pytest.raises(KeyboardInterrupt):
        build(coco, tmp_path / "kb", Failing(encoder, at=7), batch_size=2, force=True)
    assert len(KnowledgeBase.open(tmp_path / "kb")) == 3
    assert build(coco, tmp_path / "kb", encoder, force=True).resumed == 6
    assert len(KnowledgeBase.open(tmp_path / "kb")) == 12


def test_foreign_folder_in_the_way_is_left(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder
) -> None:
    """A folder of the user's with the name of the unfinished build is refused and kept."""
    (tmp_path / "kb.partial").mkdir()
    (tmp_path / "kb.partial" / "mine.txt").write_text("mine")
    with pytest.raises(KnowledgeBaseError, match=r"kb\.partial: holds something else"):
        build(coco, tmp_path / "kb", encoder)
    assert (tmp_path / "kb.partial" / "mine.txt").read_text() == "mine"


def test_link_to_knowledge_base_stays_a_link(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder
) -> None:
    """Rebuilding through a link replaces the folder behind it."""
    build(coco, tmp_path / "kb", encoder, limit=3)
    (tmp_path / "link").symlink_to(tmp_path / "kb")
    build(coco, tmp_path / "link", encoder, force=True)
    assert (tmp_path / "link").is_symlink()
    assert len(KnowledgeBase.open(tmp_path / "kb")) == 12


@pytest.mark.parametrize("workers", [0, 2])
def test_second_build_of_the_same_output_is_refused(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder, workers: int
) -> None:
    """A second build does not start while the first is running; the first stays aligned."""
    refused = []

    class Meddling(Failing):
        def encode_pixels(self, pixels: torch.Tensor) -> NDArray[np.float32]:
            with pytest.raises(OutputError, match=f"{os.getpid()} .* is writing there") as error:
                build(coco, tmp_path / "kb", encoder)
            refused.append(str(error.value))
            return super().encode_pixels(pixels)

    build(coco, tmp_path / "kb", Meddling(encoder), batch_size=4, workers=workers)
    assert len(refused) == 3
    assert refused[0].startswith(f"{tmp_path / 'kb.partial'}: ")
    assert_aligned(tmp_path / "kb", coco, encoder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coco", "kb"]


def test_read_error_is_not_reported_as_write_error(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder
) -> None:
    """An error of the system's while encoding keeps its own words, and the build can go on."""

    class Starved(Failing):
        def encode_pixels(self, pixels: torch.Tensor) -> NDArray[np.float32]:
            raise OSError(errno.EMFILE, "Too many open files")

    with pytest.raises(OSError, match="Too many open files"):
        build(coco, tmp_path / "kb", Starved(encoder))
    assert build(coco, tmp_path / "kb", encoder).count == 12


def test_if_no_image_can_be_read_nothing_is_made(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder
) -> None:
    """All images failing is an error that shows the first, and leaves nothing behind."""
    for image_id in range(1, 13):
        coco.image(image_id).write_text("no image")
    with pytest.raises(KnowledgeBaseError, match=r"none of its 12 .*000000000001\.jpg: not"):
        build(coco, tmp_path / "kb", encoder)
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]


def test_wrong_inputs_are_refused(tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder) -> None:
    """Missing or mismatched inputs are refused before anything is written."""
    (tmp_path / "empty").mkdir()
    wrong = CocoFolder(coco.captions, tmp_path / "empty", 12)
    with pytest.raises(KnowledgeBaseError, match="holds none of the 12 images"):
        build(wrong, tmp_path / "kb", encoder)
    missing = CocoFolder(coco.captions, tmp_path / "missing", 12)
    with pytest.raises(KnowledgeBaseError, match="no such folder"):
        build(missing, tmp_path / "kb", encoder)
    with pytest.raises(DataError, match="no such file"):
        build(CocoFolder(tmp_path / "c.json", coco.images, 12), tmp_path / "kb", encoder)
    coco.edit(lambda data: data["annotations"].clear())
    with pytest.raises(KnowledgeBaseError, match="none of its 12 images has a caption"):
        build(coco, tmp_path / "kb", encoder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coco", "empty"]
