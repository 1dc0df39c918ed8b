"""The folder of built training data: which images go in, and the record of how it was made."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from igrag.captioning.prompt_template import PromptTemplate
from igrag.data.coco import CaptionedImage, read_captions
from igrag.errors import ConfigError, DataError, UsageError
from igrag.files import read_json, sha256_file, write_json
from lora_training.data_builder import SplitReport, sample_images, split_images
from lora_training.settings import DataSettings

DATA_NAMES = ("train.jsonl", "val.jsonl")
RECORD_NAME = "data.json"
_UNFINISHED = "unfinished"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the split: its name, its images and their folder."""

    name: str
    images: Sequence[CaptionedImage]
    folder: Path


def choose_images(data: DataSettings) -> list[Side]:
    """Chooses the images of train and val; none is on both sides.

    Raises:
        ConfigError: Only one of the two val paths is set.
        DataError: A side would be empty, or the val file holds images of the train file.
    """
    if (data.val_captions_path is None) != (data.val_images_path is None):
        raise ConfigError("data: val_captions_path and val_images_path: set both or neither")
    sampled = sample_images(
        read_captions(data.captions_path), count=data.sample_count, seed=data.seed
    )
    if data.val_captions_path is None or data.val_images_path is None:
        train, val = split_images(sampled, train_ratio=data.train_ratio)
        return [Side("train", train, data.images_path), Side("val", val, data.images_path)]
    val = sample_images(read_captions(data.val_captions_path), count=None, seed=data.seed)
    sides = [Side("train", sampled, data.images_path), Side("val", val, data.val_images_path)]
    # By file, not by id: unrelated files of captions may both number their images from 1.
    shared = _files(sides[0]) & _files(sides[1])
    if shared:
        raise DataError(
            f"{data.val_captions_path}: {len(shared)} images (such as {min(shared)}) "
            f"are also in {data.captions_path}; a image must not be on both sides"
        )
    return sides


def _files(side: Side) -> set[str]:
    """The image files of a side, links followed."""
    folder = side.folder.resolve()
    return {os.path.realpath(folder / image.file_name) for image in side.images}


def describe(
    data: DataSettings,
    template: PromptTemplate,
    *,
    top_k: int,
    max_tokens: int,
    tokenizer: str,
    knowledge_base: Path,
    objects: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describes what the data depends on; no path of this machine is in it.

    Args:
        data: Which images go in.
        template: The prompt builder.
        top_k: Matches in a prompt.
        max_tokens: Longest prompt in tokens.
        tokenizer: The fingerprint of what counts them.
        knowledge_base: Its folder.
        objects: How objects are found; None where prompts show none.
    """
    captions = [data.captions_path, data.val_captions_path]
    description = {
        "format_version": FORMAT_VERSION,
        "captions_sha256": [sha256_of(path) for path in captions if path is not None],
        "knowledge_base_sha256": sha256_of(knowledge_base / "knowledge_base.json"),
        "template_sha256": template.fingerprint(),
        "top_k": top_k,
        "max_source_length": max_tokens,
        "tokenizer": tokenizer,
        "sample_count": data.sample_count,
        "train_ratio": data.train_ratio if data.val_captions_path is None else None,
        "seed": data.seed,
    }
    # Data without objects stay what they were before there were any.
    return description | ({"objects": dict(objects)} if objects else {})


def sha256_of(path: Path) -> str:
    """Hashes a file; a missing one is a DataError."""
    try:
        return sha256_file(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def is_built(folder: Path, description: Mapping[str, Any], *, force: bool) -> bool:
    """Tells whether the folder holds this very data.

    A build of these settings that was interrupted is not in the way of the next one.

    Raises:
        UsageError: It holds other data, which only --force-rebuild replaces.
    """
    present = [name for name in (*DATA_NAMES, RECORD_NAME) if (folder / name).exists()]
    if force or not present:
        return False
    found = f"holds {', '.join(present)} of other settings"
    if RECORD_NAME in present:
        built = read_json(folder / RECORD_NAME)
        same = isinstance(built, dict) and built.get("settings") == dict(description)
        if same and built.get(_UNFINISHED):
            return False
        if same and set(DATA_NAMES) <= set(present):
            return True
        if same:
            found = f"holds {', '.join(present)} alone, expected {' and '.join(DATA_NAMES)} too"
    else:
        found = f"holds {', '.join(present)} without {RECORD_NAME}: not known to be built here"
    raise UsageError(
        f"{folder}: {found}; use --force-rebuild to replace them, or another --output-data"
    )


@contextmanager
def new_data(folder: Path) -> Iterator[Path]:
    """Yields an empty folder inside `folder` to build in; it is gone at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=f".{DATA_NAMES[0]}.", suffix=".tmp") as new:
        yield Path(new)


def swap_in(
    new: Path, folder: Path, description: Mapping[str, Any], reports: Mapping[str, SplitReport]
) -> None:
    """Puts the finished files of `new` in the place of the folder's, and writes data.json last.

    Wherever this is interrupted, the folder never holds train data of one build beside val data of
    another: before a new file comes, the old train data go, and nothing trains without any.
    """
    first, *others = DATA_NAMES
    write_json(folder / RECORD_NAME, {"settings": dict(description), _UNFINISHED: True})
    (folder / first).unlink(missing_ok=True)
    for name in (*others, first):
        (new / name).replace(folder / name)
    splits = {
        name: {key: value for key, value in asdict(report).items() if key != "skipped"}
        | {"skipped": len(report.skipped)}
        for name, report in reports.items()
    }
    write_json(folder / RECORD_NAME, {"settings": dict(description), "splits": splits})
