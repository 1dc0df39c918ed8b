"""Lists the images of a folder, and what else lies there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from igrag.data.coco import ImageId
from igrag.data.images import (
    HEIF_SUFFIXES,
    SUFFIXES,
    file_in,
    is_image,
    knows_heif,
    list_images,
)
from igrag.errors import ImageError

_NAMED = 3  # of what was passed over


@dataclass(frozen=True, slots=True)
class FolderImages:
    """The content of a folder.

    Attributes:
        images: The images, sorted by path.
        others: What was passed over: other files, links that lead nowhere, subfolders (with a
            slash) where they are not searched.
    """

    images: list[Path]
    others: list[str]

    def describe_others(self) -> str | None:
        """Returns what was passed over in a line; None if nothing was."""
        if not self.others:
            return None
        more = len(self.others) - _NAMED
        names = ", ".join(self.others[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        hint = ""
        if any(name.endswith("/") for name in self.others):
            hint += "; --recursive searches subfolders"
        is_heif = any(Path(name).suffix.lower() in HEIF_SUFFIXES for name in self.others)
        if is_heif and not knows_heif():
            hint += "; pip install pillow-heif reads .heic"
        return f"{len(self.others)} entries are no images and are passed over: {names}{hint}"


def list_folder(folder: Path, *, recursive: bool = False) -> FolderImages:
    """Lists the images of a folder: files with an image's suffix, and ones without any that open.

    Args:
        folder: The folder; hidden entries are left out.
        recursive: Search its subfolders too; a link to a folder is not followed.

    Raises:
        ImageError: It is missing, no folder, cannot be read, or holds no image.
    """
    images: list[Path] = []
    others: list[str] = []
    try:
        if not folder.is_dir():
            found = "not a folder" if folder.exists() else "no such folder"
            raise ImageError(f"{folder}: {found}")
        for entry in _entries(folder, recursive):
            if _may_be_image(entry):
                images.append(entry)
            else:
                name = str(entry.relative_to(folder))
                others.append(f"{name}/" if entry.is_dir() else name)
    except OSError as error:
        raise ImageError(f"{folder}: the folder cannot be read ({error.strerror})") from error
    listed = FolderImages(images, others)
    if not images:
        known = ", ".join(sorted(SUFFIXES))
        passed_over = f"; {listed.describe_others()}" if others else ""
        raise ImageError(
            f"{folder}: the folder holds no images (files ending in {known}){passed_over}"
        )
    return listed


def find_files(folder: Path, image_ids: Sequence[ImageId]) -> dict[ImageId, Path]:
    """Finds image files by id: the file's name, or the number at its end (COCO's names).

    A number at the end of two names finds neither file: no image is better than a wrong one.

    Raises:
        ImageError: The folder is missing or holds no image, or a link leads out of it.
    """
    names: dict[str, Path] = {}
    numbers: dict[int, list[Path]] = {}
    for path in list_images(folder):
        names[path.stem] = path
        if number := re.search(r"[0-9]+$", path.stem):
            numbers.setdefault(int(number[0]), []).append(path)
    found = {}
    for image_id in image_ids:
        text = str(image_id)
        same = numbers.get(int(text), []) if re.fullmatch(r"[0-9]{1,18}", text) else []
        if text in names:
            found[image_id] = file_in(folder, names[text].name, listed_in=folder)
        elif len(same) == 1:
            found[image_id] = file_in(folder, same[0].name, listed_in=folder)
    return found


def _entries(folder: Path, recursive: bool) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if recursive and entry.is_dir() and not entry.is_symlink():
            yield from _entries(entry, recursive)
        else:
            yield entry


def _may_be_image(path: Path) -> bool:
    suffix = path.suffix.lower()
    if not path.is_file():  # a subfolder, or a link that leads nowhere
        return False
    if suffix in HEIF_SUFFIXES:
        return knows_heif()
    return suffix in SUFFIXES or (not suffix and is_image(path))
