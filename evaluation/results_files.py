"""Captions in COCO's results format: [{"image_id": 42, "caption": "A dog."}, ...]."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from evaluation.dataset import Split
from igrag.data.coco import ImageId
from igrag.errors import DataError, UsageError
from igrag.files import read_json, write_json

RESULTS_NAME = "results.json"
_EXAMPLE = '[{"image_id": 42, "caption": "A dog."}, ...]'


def read_results(paths: Sequence[Path]) -> dict[str, dict[ImageId, str]]:
    """Reads results files.

    Args:
        paths: Each holds a list in COCO's format, which goes by the file's name (results_base.json
            and base.json by "base") and, where files are namesakes, by its folder's too; or an
            object of several such lists by name, as in the results.json of `write_results`.

    Returns:
        Name -> image id -> caption.

    Raises:
        DataError: A file is not of this form, or names a image twice.
        UsageError: Two files go by the same name.
    """
    found: dict[str, dict[ImageId, str]] = {}
    for path, name, entries, where in _lists(paths):
        if name in found:
            raise UsageError(f"--results {path}: {name} is there twice; rename a file")
        found[name] = _read_list(entries, where)
    return found


def methods_of(paths: Sequence[Path]) -> dict[str, Path]:
    """Tells which file each method stands in; see `read_results`."""
    return {name: path for path, name, _, _ in _lists(paths)}


def choose_results(
    paths: Sequence[Path], wanted: Sequence[str] | None
) -> dict[str, dict[ImageId, str]]:
    """Reads results files and keeps the methods that are asked for, None for all.

    Raises:
        DataError: See `read_results`.
        UsageError: One is not there.
    """
    found = read_results(paths)
    for name in wanted or ():
        if name not in found:
            raise UsageError(f"--methods {name}: expected some of {','.join(found)}")
    return {name: found[name] for name in found if wanted is None or name in wanted}


def match_results(name: str, results: dict[ImageId, str], split: Split) -> tuple[str, ...]:
    """Puts one method's captions into the order of the images.

    Raises:
        DataError: A image has no caption, which would make the score one of other images, or
            a caption is of an unknown image.
    """
    unknown = next((image_id for image_id in results if image_id not in split.listed), None)
    if unknown is not None:
        example = next(iter(split.images)).image_id
        raise DataError(
            f"{name}: has a caption of the image {unknown!r}, which is not in {split.path}; "
            f"expected ids such as {example!r}"
        )
    missing = [image for image in split.images if image.image_id not in results]
    if missing:
        raise DataError(
            f"{name}: {len(missing)} of {len(split.images)} images of {split.path} have no "
            f"caption (the first is {missing[0].image_id!r}); add them, empty ones count as "
            "misses, or score only the first N images: --limit N"
        )
    return tuple(results[image.image_id] for image in split.images)


def write_results(folder: Path, captions: dict[str, Sequence[str]], split: Split) -> list[Path]:
    """Writes results.json, with all methods, and for other tools a results_METHOD.json of each.

    The results_METHOD.json of methods that only an earlier results.json has are removed: what is
    in the folder belongs together.

    Returns:
        The files.
    """
    earlier = files_of_methods(folder, _methods_in(folder / RESULTS_NAME))
    lists: dict[str, list[dict[str, Any]]] = {
        name: [
            {"image_id": image.image_id, "caption": caption}
            for image, caption in zip(split.images, texts, strict=True)
        ]
        for name, texts in captions.items()
    }
    paths = [folder / RESULTS_NAME, *files_of_methods(folder, lists)]
    for path, content in zip(paths, (lists, *lists.values()), strict=True):
        write_json(path, content)
    for path in set(earlier) - set(paths):
        path.unlink(missing_ok=True)
    return paths


def files_of_methods(folder: Path, names: Iterable[str]) -> list[Path]:
    """Names a file for each method, without what a shell would stumble over."""
    plain = (re.sub(r"[^\w.+-]+", "_", name) for name in names)
    return [folder / f"results_{name}.json" for name in plain]


def _lists(paths: Sequence[Path]) -> Iterator[tuple[Path, str, object, str]]:
    """Yields every file's lists: the file, the name, the list, and how an error calls it."""
    for path in paths:
        content = read_json(path)
        if not isinstance(content, dict):
            yield path, _name_of(path, paths), content, str(path)
            continue
        if not content:
            raise DataError(f"{path}: is empty, expected {_EXAMPLE}")
        for name, entries in content.items():
            yield path, name, entries, f"{path}: {name}"


def _name_of(path: Path, paths: Sequence[Path]) -> str:
    name = path.stem.removeprefix("results_")
    if sum(path.stem == each.stem for each in paths) == 1:
        return name
    return f"{path.resolve().parent.name}/{name}"


def _methods_in(path: Path) -> list[str]:
    try:
        content = read_json(path)
    except DataError:
        return []
    return list(content) if isinstance(content, dict) else []


def _read_list(entries: object, where: object) -> dict[ImageId, str]:
    if not isinstance(entries, list) or not entries:
        kind = "an empty list" if entries == [] else f"a {type(entries).__name__}"
        raise DataError(f"{where}: found {kind}, expected COCO's results: {_EXAMPLE}")
    captions: dict[ImageId, str] = {}
    for index, entry in enumerate(entries):
        image_id, caption = _read_entry(entry, f"{where}: [{index}]")
        if image_id in captions:
            raise DataError(f"{where}: [{index}]: the image {image_id!r} is there twice")
        captions[image_id] = caption
    return captions


def _read_entry(entry: object, where: str) -> tuple[ImageId, str]:
    if not isinstance(entry, dict):
        raise DataError(f'{where}: found a {type(entry).__name__}, expected {{"image_id", ...}}')
    image_id, caption = entry.get("image_id"), entry.get("caption")
    if isinstance(image_id, bool) or not isinstance(image_id, int | str):
        raise DataError(f'{where}: expected a number or text "image_id", found {image_id!r}')
    if not isinstance(caption, str):
        raise DataError(f'{where}: expected a text "caption", found {caption!r}')
    return image_id, " ".join(caption.split())
