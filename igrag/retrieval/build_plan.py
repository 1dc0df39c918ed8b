"""Plans a build: which images are encoded, in which order, kept in a file and not in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from igrag.data.caption_streams import stream_captions
from igrag.data.coco import CaptionedImage
from igrag.data.entry_table import EntryTable, write_entries
from igrag.data.images import SUFFIXES, file_in
from igrag.data.packed_entries import stream_packed
from igrag.data.packed_images import image_files
from igrag.errors import KnowledgeBaseError, UsageError
from igrag.files import exists, naming_full_disk, sha256_file
from igrag.processes import Processes, Ranks
from igrag.retrieval.partial_vectors import PLAN, unfinished_folder
from igrag.retrieval.storage import SkippedImage, check_output_folder

_MOST_NAMES = 1 << 18  # so many file names are held in memory, to find images without captions


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What to encode, and where it goes.

    Attributes:
        captions: File of captions; the images, where these have theirs.
        images: Folder that its file names count from, or what holds images with their captions.
        output: Folder to make.
        force: Replace an existing knowledge base.
        limit: Only so many images of the file were taken, the first; None for all.
        split: The split that they are from, where the file has some.
        keep_rejected: Whether captions that were rejected were kept.
        folder: Where the unfinished build is kept.
        captions_sha256: The hash of the file, or of the plan, where the images have their captions.
        entries: The images to be encoded, in this order.
        without_captions: Images of the file that have none; the first process alone knows them.
        uncaptioned: Names of images in the folder that the file does not list; likewise, and not
            looked for where the file lists hundreds of thousands.
    """

    captions: Path
    images: Path
    output: Path
    force: bool
    limit: int | None
    split: str | None
    keep_rejected: bool
    folder: Path
    captions_sha256: str
    entries: EntryTable
    without_captions: tuple[SkippedImage, ...] = ()
    uncaptioned: tuple[str, ...] = ()

    @property
    def inputs(self) -> dict[str, Any]:
        """What decides which images are encoded in which order, as JSON data."""
        found: dict[str, Any] = {
            "captions_sha256": self.captions_sha256,
            "images": str(self.images.resolve()),
            "limit": self.limit,
        }
        # Added later: an interrupted build of an earlier version has neither.
        optional = {"split": self.split, "keep_rejected": self.keep_rejected}
        return found | {key: value for key, value in optional.items() if value}

    @property
    def source(self) -> dict[str, Any]:
        """The same for a folder that may be passed on: no path of this machine is in it."""
        names = {"captions": self.captions.name, "images": self.images.resolve().name}
        return self.inputs | names


@contextmanager
def plan_build(
    captions: Path | None,
    images: Path,
    output: Path,
    *,
    limit: int | None = None,
    force: bool = False,
    split: str | None = None,
    keep_rejected: bool = False,
    processes: Processes | None = None,
) -> Iterator[BuildPlan]:
    """Matches a captions file with its folder of images, and holds the output inside the block.

    Args:
        captions: The file of captions, see `stream_captions`; None if the images have theirs.
        images: Folder that its file names count from; else see `stream_packed`.
        output: Folder to make; of a link to a folder, the folder is meant.
        limit: Take only this many images, the first of the file.
        force: Replace an existing knowledge base.
        split: See `read_captions`.
        keep_rejected: See `read_captions`.
        processes: Those that build together; the first one makes the plan of all.

    Raises:
        DataError: The captions file is not one, or names a file outside the folder.
        KnowledgeBaseError: Nothing is to be encoded, or the output may not be written.
        OutputError: Another build is writing there.
        UsageError: There are no captions, or the file has no such split.
    """
    processes = processes or Processes(Ranks())
    if processes.ranks.is_first:
        check_output_folder(output, force=force)
    output = output.resolve()
    options: dict[str, Any] = {
        "captions": captions or images,
        "images": images,
        "output": output,
        "force": force,
        "limit": limit,
        "split": split,
        "keep_rejected": keep_rejected,
    }
    if not processes.ranks.is_first:
        folder, digest = processes.from_first("plan", list)
        yield BuildPlan(
            **options,
            folder=Path(folder),
            captions_sha256=digest,
            entries=EntryTable(Path(folder) / PLAN),
        )
        return
    with ExitStack() as held:
        with writing(output):
            folder = held.enter_context(unfinished_folder(output))
        plan = _make_plan(folder, options)
        processes.from_first("plan", lambda: [str(folder), plan.captions_sha256])
        yield plan


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Names an output in the errors of writing it.

    Raises:
        KnowledgeBaseError: It cannot be written.
        OutputError: The disk is full.
    """
    try:
        with naming_full_disk(path):
            yield
    except OSError as error:
        raise KnowledgeBaseError(f"{path}: cannot be written ({error})") from error


@dataclass
class _Listing:
    """Sorts the images of a captions file while they are read.

    Attributes:
        plan: Options of the plan.
        in_files: Whether the images are inside of larger files, with their captions.
        taken: How many images were taken, with and without captions.
        without: Images without captions.
        names: Names of all images that the file lists; None for too many.
        first: The first image with captions.
        is_found: Whether one of them is in the folder.
    """

    plan: dict[str, Any]
    in_files: bool
    taken: int = 0
    without: list[SkippedImage] = field(default_factory=list)
    names: set[str] | None = field(default_factory=set)
    first: CaptionedImage | None = None
    is_found: bool = False

    def captioned(self, listed: Iterable[CaptionedImage]) -> Iterator[CaptionedImage]:
        """Yields the images to be encoded."""
        images, captions, limit = (self.plan[key] for key in ("images", "captions", "limit"))
        for entry in listed:
            self._add_name(entry.file_name)
            if limit is not None and self.taken == limit:
                if self.in_files:
                    return
                continue  # Only the names are needed.
            self.taken += 1
            if not self.in_files:
                file_in(images, entry.file_name, listed_in=captions)
            if not entry.captions:
                self.without.append(SkippedImage(entry.file_name, "has no captions"))
                continue
            self.first = self.first or entry
            self.is_found = self.is_found or self.in_files or exists(images / entry.file_name)
            yield entry

    def _add_name(self, name: str) -> None:
        if self.names is not None:
            self.names.add(name)
            if len(self.names) > _MOST_NAMES:
                self.names = None


def _make_plan(folder: Path, options: dict[str, Any]) -> BuildPlan:
    """Writes the plan of a build into its folder."""
    captions, images = options["captions"], options["images"]
    in_files = captions == images
    if in_files:
        listed = _packed(images, split=options["split"])
    else:
        listed = stream_captions(
            captions, split=options["split"], keep_rejected=options["keep_rejected"]
        )
        if not images.is_dir():
            found = "not a folder" if images.exists() else "no such folder"
            raise KnowledgeBaseError(f"{images}: {found}, expected the folder of the images")
    listing = _Listing(options, in_files)
    count = write_entries(folder / PLAN, listing.captioned(listed), source=captions)
    if listing.first is None:
        raise KnowledgeBaseError(f"{captions}: none of its {listing.taken} images has a caption")
    if not listing.is_found:
        raise KnowledgeBaseError(
            f"{images}: holds none of the {count} images that {captions} names "
            f"(the first is {listing.first.file_name})"
        )
    names = None if in_files else listing.names
    return BuildPlan(
        **options,
        folder=folder,
        captions_sha256=sha256_file(folder / PLAN if in_files else captions),
        entries=EntryTable(folder / PLAN),
        without_captions=tuple(listing.without),
        uncaptioned=() if names is None else _uncaptioned(images, names),
    )


def _packed(images: Path, *, split: str | None) -> Iterator[CaptionedImage]:
    """Returns images that have their captions."""
    if not image_files(images):
        raise UsageError(
            f"{images}: found no .tar, .parquet or .arrow files, which hold images with their "
            "captions; --captions FILE names the captions of a folder of images"
        )
    if split is not None:
        raise UsageError(f"--caption_split: {images} has no splits; leave it out")
    return stream_packed(images)


def _uncaptioned(images: Path, known: set[str]) -> tuple[str, ...]:
    with os.scandir(images) as files:
        names = {file.name for file in files if Path(file.name).suffix.lower() in SUFFIXES}
    return tuple(sorted(names - known))
