"""What a knowledge base will be built from, checked before any model is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from igrag.data.coco import CaptionedImage, read_captions
from igrag.data.images import SUFFIXES
from igrag.errors import KnowledgeBaseError
from igrag.files import exists, sha256_file
from igrag.retrieval.storage import SkippedImage, check_output_folder


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What to encode, and where it goes.

    Attributes:
        captions: COCO captions file.
        images: Folder that its file names count from.
        output: Folder to make.
        force: Replace an existing knowledge base.
        limit: Only so many images of the file were taken, the first; None for all.
        captions_sha256: The file's hash.
        entries: The images to be encoded, in this order.
        without_captions: Images of the file that have none.
        uncaptioned: Names of images in the folder that the file does not list.
    """

    captions: Path
    images: Path
    output: Path
    force: bool
    limit: int | None
    captions_sha256: str
    entries: list[CaptionedImage]
    without_captions: tuple[SkippedImage, ...]
    uncaptioned: tuple[str, ...]

    @property
    def inputs(self) -> dict[str, Any]:
        """What decides which images are encoded in which order, as JSON data."""
        return {
            "captions_sha256": self.captions_sha256,
            "images": str(self.images.resolve()),
            "limit": self.limit,
        }

    @property
    def source(self) -> dict[str, Any]:
        """The same for a folder that may be passed on: no path of this machine is in it."""
        names = {"captions": self.captions.name, "images": self.images.resolve().name}
        return self.inputs | names


def plan_build(
    captions: Path, images: Path, output: Path, *, limit: int | None = None, force: bool = False
) -> BuildPlan:
    """Matches a captions file with its folder of images, and see that the output is free.

    Args:
        captions: COCO captions file.
        images: Folder that its file names count from.
        output: Folder to make; of a link to a folder, the folder is meant.
        limit: Take only this many images, the first of the file.
        force: Replace an existing knowledge base.

    Raises:
        DataError: The captions file is not one.
        KnowledgeBaseError: Nothing is to be encoded, or the output may not be written.
    """
    check_output_folder(output, force=force)
    listed = read_captions(captions)
    if not images.is_dir():
        found = "not a folder" if images.exists() else "no such folder"
        raise KnowledgeBaseError(f"{images}: {found}, expected the folder of the images")
    chosen = listed[:limit]
    entries = [entry for entry in chosen if entry.captions]
    if not entries:
        raise KnowledgeBaseError(f"{captions}: none of its {len(chosen)} images has a caption")
    if not any(exists(images / entry.file_name) for entry in entries):
        raise KnowledgeBaseError(
            f"{images}: holds none of the {len(entries)} images that {captions} names "
            f"(the first is {entries[0].file_name})"
        )
    without = [SkippedImage(e.file_name, "has no captions") for e in chosen if not e.captions]
    return BuildPlan(
        captions=captions,
        images=images,
        output=output.resolve(),
        force=force,
        limit=limit,
        captions_sha256=sha256_file(captions),
        entries=entries,
        without_captions=tuple(without),
        uncaptioned=_list_others(images, {entry.file_name for entry in listed}),
    )


def _list_others(images: Path, known: set[str]) -> tuple[str, ...]:
    with os.scandir(images) as files:
        names = {file.name for file in files if Path(file.name).suffix.lower() in SUFFIXES}
    return tuple(sorted(names - known))
