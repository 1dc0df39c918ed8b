"""The folder of built training data: which pictures go in, and the record of how it was made."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from igrag.coco import CaptionedImage, read_captions
from igrag.errors import ConfigError, DataError, UsageError
from igrag.files import read_json, sha256_file, write_json
from igrag.prompt_template import PromptTemplate
from lora_training.data_builder import SplitReport, sample_images, split_images
from lora_training.settings import DataSettings

RECORD_NAME = "data.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the split: its name, its pictures and their folder."""

    name: str
    images: Sequence[CaptionedImage]
    folder: Path


def choose_images(data: DataSettings) -> list[Side]:
    """Chooses the pictures of train and val; none is on both sides.

    Raises:
        ConfigError: Only one of the two val paths is set.
        DataError: A side would be empty, or the val file holds pictures of the train file.
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
    shared = {image.image_id for image in sampled} & {image.image_id for image in val}
    if shared:
        raise DataError(
            f"{data.val_captions_path}: {len(shared)} pictures (such as {min(shared, key=str)}) "
            f"are also in {data.captions_path}; a picture must not be on both sides"
        )
    return [Side("train", sampled, data.images_path), Side("val", val, data.val_images_path)]


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
        data: Which pictures go in.
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

    Raises:
        UsageError: It holds other data, which only --force-rebuild replaces.
    """
    names = ("train.jsonl", "val.jsonl", RECORD_NAME)
    present = [name for name in names if (folder / name).exists()]
    if force or not present:
        return False
    if len(present) == len(names):
        built = read_json(folder / RECORD_NAME)
        if isinstance(built, dict) and built.get("settings") == dict(description):
            return True
    raise UsageError(
        f"{folder}: holds {', '.join(present)} of other settings; "
        "use --force-rebuild to replace them, or another --output-data"
    )


def forget(folder: Path) -> None:
    """Removes data.json, so that files half replaced are not taken for the finished ones."""
    (folder / RECORD_NAME).unlink(missing_ok=True)


def record(
    folder: Path, description: Mapping[str, Any], reports: Mapping[str, SplitReport]
) -> None:
    """Writes data.json beside the data; it comes last, so that it stands for finished data."""
    splits = {
        name: {key: value for key, value in asdict(report).items() if key != "skipped"}
        | {"skipped": len(report.skipped)}
        for name, report in reports.items()
    }
    write_json(folder / RECORD_NAME, {"settings": dict(description), "splits": splits})
