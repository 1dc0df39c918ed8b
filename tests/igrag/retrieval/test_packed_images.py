"""Knowledge bases of images inside of tar files and tables."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from igrag.data.coco import read_captions
from igrag.data.images import open_image
from igrag.data.packed_entries import stream_packed
from igrag.data.packed_images import PackedImage
from igrag.errors import DataError, IgragError, ImageError, UsageError
from igrag.retrieval.build import BuildReport, build_knowledge_base
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase
from tests.tiny import CocoFolder


@pytest.fixture(scope="module")
def encoder(tiny_clip: Path) -> ImageEncoder:
    """Returns the tiny model's encoder."""
    return ImageEncoder(str(tiny_clip), device="cpu")


def save_tar(path: Path, members: Mapping[str, bytes]) -> None:
    """Writes a tar file."""
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def pack_tar(coco: CocoFolder, folder: Path, suffix: str = "JPG") -> None:
    """Writes two tar files, with captions as lines and, in the second, as JSON."""
    entries = read_captions(coco.captions)
    for number, part in enumerate((entries[:7], entries[7:])):
        members: dict[str, bytes] = {}
        for entry in part:
            key = f"a/{entry.image_id:05}"
            if number:
                about = {"id": entry.image_id, "captions": entry.captions}
                members[f"{key}.json"] = json.dumps(about).encode()
            else:
                members[f"{key}.txt"] = "\n".join(entry.captions).encode()
                members[f"{key}.json"] = json.dumps({"id": entry.image_id, "caption": "a"}).encode()
            members[f"{key}.{suffix}"] = coco.image(int(entry.image_id)).read_bytes()
        save_tar(folder / f"{number:05}.tar", members)


def save_key_twice(folder: Path) -> None:
    """Writes two tar files with the same key."""
    for name in "ab":
        save_tar(folder / f"{name}.tar", {"x.jpg": b"a", "x.txt": b"a"})


def rows_of(coco: CocoFolder) -> dict[str, list[Any]]:
    """Returns the columns of a table."""
    entries = read_captions(coco.captions)
    return {
        "image_id": [entry.image_id for entry in entries],
        "image": [
            {"bytes": coco.image(int(entry.image_id)).read_bytes(), "path": None}
            for entry in entries
        ],
        "caption": [list(entry.captions) for entry in entries],
    }


def dataset_of(coco: CocoFolder) -> datasets.Dataset:
    """Returns the images as a data set of the library."""
    features = datasets.Features(
        image_id=datasets.Value("int64"),
        image=datasets.Image(),
        caption=datasets.List(datasets.Value("string")),
    )
    return datasets.Dataset.from_dict(rows_of(coco), features=features)


def pack_parquet(coco: CocoFolder, folder: Path) -> None:
    """Writes Parquet files, in groups of a few rows."""
    for index in range(2):
        shard = dataset_of(coco).shard(2, index)
        shard.to_parquet(folder / f"train-{index:05}-of-00002.parquet", batch_size=4)


def pack_arrow(coco: CocoFolder, folder: Path) -> None:
    """Saves a data set to a folder."""
    dataset_of(coco).save_to_disk(folder, num_shards=2)


def pack_arrow_file(coco: CocoFolder, folder: Path) -> None:
    """Writes a file in Arrow's file format, whose images are a plain column."""
    columns = rows_of(coco)
    columns |= {"jpg": [image["bytes"] for image in columns.pop("image")]}
    table = pyarrow.table(columns)
    with pyarrow.ipc.new_file(str(folder / "images.arrow"), table.schema) as file:
        file.write_table(table, max_chunksize=5)


PACKERS: tuple[Callable[[CocoFolder, Path], None], ...] = (
    pack_tar, pack_parquet, pack_arrow, pack_arrow_file,
)  # fmt: skip


def build(captions: Path | None, images: Path, output: Path, encoder: Any, **options: Any) -> Any:
    """Builds without a progress bar."""
    return build_knowledge_base(
        captions, images, output, encoder=encoder, progress=False, batch_size=5, **options
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("pack", PACKERS)
def test_vectors_are_those_of_a_folder(
    tmp_path: Path,
    coco: CocoFolder,
    encoder: ImageEncoder,
    pack: Callable[[CocoFolder, Path], None],
    workers: int,
) -> None:
    """The same images and captions make the same rows, wherever they lie."""
    (tmp_path / "packed").mkdir()
    pack(coco, tmp_path / "packed")
    report = build(None, tmp_path / "packed", tmp_path / "kb", encoder, workers=workers)
    assert report == BuildReport(12, 8, (), (), 0)
    build(coco.captions, coco.images, tmp_path / "expected", encoder)
    found, expected = (
        KnowledgeBase.open(tmp_path / name, encoder=encoder.identity) for name in ("kb", "expected")
    )
    assert list(found.image_ids) == list(expected.image_ids)
    for image_id in expected.image_ids:
        assert found.captions_of(image_id) == expected.captions_of(image_id)
        one, other = found.vector(image_id), expected.vector(image_id)
        assert one is not None and other is not None
        # Other images are encoded together, which changes the last digits.
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_tar_is_read_as_the_library_reads_it(tmp_path: Path, coco: CocoFolder) -> None:
    """Names, order and bytes are those of the webdataset reader of `datasets`."""
    pack_tar(coco, tmp_path, "jpg")  # It knows lower case alone.
    files = sorted(map(str, tmp_path.glob("*.tar")))
    stream = datasets.load_dataset(
        "webdataset", data_files={"train": files}, split="train", streaming=True
    ).cast_column("jpg", datasets.Image(decode=False))
    found = list(stream_packed(tmp_path))
    for entry, row in zip(found, stream, strict=True):
        file = Path(row["__url__"])
        image = PackedImage(file, entry.file_name, entry.offset, entry.size)
        assert entry.file_name == f"{file.name}/{row['__key__']}.jpg"
        assert file.read_bytes()[entry.offset :][: entry.size] == row["jpg"]["bytes"]
        assert image.open().tobytes() == open_image(coco.image(int(entry.image_id))).tobytes()


def test_one_file_is_enough(tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder) -> None:
    """--images may be the only file; the key is the id where a member names none."""
    image = coco.image(1).read_bytes()
    save_tar(tmp_path / "a.tar", {"x.jpg": image, "x.txt": b"A dog.\n\n A cat. \n", "y.jpg": image})
    report = build(None, tmp_path / "a.tar", tmp_path / "kb", encoder)
    assert [(each.file_name, each.reason) for each in report.skipped] == [
        ("a.tar/y.jpg", "has no captions")
    ]
    opened = KnowledgeBase.open(tmp_path / "kb", encoder=encoder.identity)
    assert opened.captions_of("x") == ("A dog.", "A cat.")


def test_damaged_images_are_left_out(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder
) -> None:
    """They are named with their file, and the others stay aligned."""
    rows = rows_of(coco)
    rows["image"][3] = {"bytes": b"no image", "path": None}
    rows["image"][5] = {"bytes": None, "path": "elsewhere.jpg"}
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "a.parquet", row_group_size=3)
    report = build(None, tmp_path / "a.parquet", tmp_path / "kb", encoder)
    assert [(each.file_name, each.reason) for each in report.skipped] == [
        ("a.parquet/3", "not an image in a known format"),
        ("a.parquet/5", "the row has no bytes of an image"),
    ]
    assert report.count == 10


def test_interrupted_build_continues(
    tmp_path: Path, coco: CocoFolder, encoder: ImageEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was encoded is found again; another tar file in the folder is another plan."""
    monkeypatch.setattr("igrag.retrieval.partial_vectors.SMALLEST_SHARD", 1)
    (tmp_path / "packed").mkdir()
    pack_tar(coco, tmp_path / "packed")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        save, calls = encoder.encode_pixels, []

        def encode(pixels: Any) -> Any:
            calls.append(len(pixels))
            if len(calls) == 3:
                raise KeyboardInterrupt
            return save(pixels)

        patch.setattr(encoder, "encode_pixels", encode)
        build(None, tmp_path / "packed", tmp_path / "kb", encoder)
    assert build(None, tmp_path / "packed", tmp_path / "kb", encoder).resumed >= 5


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda path: None, UsageError, "found no .tar, .parquet or .arrow files"),
        (lambda path: (path / "a.tar").write_bytes(b"\x1f\x8b" + bytes(600)), DataError,
         "cannot be read as a tar file that is not compressed"),
        (lambda path: (path / "a.parquet").write_bytes(b"text"), DataError,
         "cannot be read as a table"),
        (lambda path: (path / "a.arrow").write_bytes(b"text"), DataError,
         "cannot be read as Arrow"),
        (lambda path: pyarrow.parquet.write_table(pyarrow.table({"caption": ["a"]}),
                                                  path / "a.parquet"), DataError,
         "found the columns caption, expected one of bytes"),
        (lambda path: pyarrow.parquet.write_table(pyarrow.table({"image": [b"a"]}),
                                                  path / "a.parquet"), DataError,
         "found the columns image, expected one of captions"),
        (lambda path: save_tar(path / "a.tar", {"x.jpg": b"a", "x.json": b"[1]"}), DataError,
         "a.tar: x.json: found a list, expected an object"),
        (lambda path: save_tar(path / "a.tar", {"x.jpg": b"a", "x.txt": b"\xff"}), DataError,
         "a.tar: x.txt: not UTF-8"),
        (lambda path: save_tar(path / "a.tar", {"x.jpg": b"a", "x.txt": bytes(2 << 20)}), DataError,
         "x.txt: found 2,097,152 bytes"),
        (save_key_twice, DataError, "the id 'x' is there twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_error(
    tmp_path: Path, encoder: ImageEncoder, make: Any, error: type[IgragError], words: str
) -> None:
    """Nothing is made of a folder that cannot be read."""
    (tmp_path / "packed").mkdir()
    make(tmp_path / "packed")
    with pytest.raises(error) as raised:
        build(None, tmp_path / "packed", tmp_path / "kb", encoder)
    assert words in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "kb").exists()


def test_truncated_tar_is_an_error(tmp_path: Path, coco: CocoFolder) -> None:
    """A download that broke off is no shorter data set."""
    pack_tar(coco, tmp_path)
    whole = (tmp_path / "00001.tar").read_bytes()
    (tmp_path / "00001.tar").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(DataError, match=r"00001\.tar: cannot be read as a tar file"):
        list(stream_packed(tmp_path))


def test_file_that_has_gone_is_one_error(tmp_path: Path, coco: CocoFolder) -> None:
    """The image is left out, as a missing file of a folder is."""
    pack_tar(coco, tmp_path)
    entry = next(iter(stream_packed(tmp_path)))
    image = PackedImage(tmp_path / "gone.tar", entry.file_name, entry.offset, entry.size)
    with pytest.raises(ImageError, match=r"00000\.tar/a/00001\.JPG: gone\.tar cannot be read"):
        image.open()
