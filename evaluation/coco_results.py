"""Caption files in COCO's results format: [{"image_id": 42, "caption": "A dog."}, ...]."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.dataset import EvaluationDataset
from evaluation.human import HUMAN
from igrag.data.coco import ImageId
from igrag.errors import DataError, UsageError
from igrag.files import read_json, write_json

logger = logging.getLogger(__name__)
RESULTS_NAME = "results.json"
# Of T5, BERT, GPT and their kin.
_SPECIAL_TOKEN = re.compile(r"</?s>|<(pad|unk|extra_id_\d+)>|\[(PAD|CLS|SEP|UNK)\]|<\|\w+\|>")
_EXAMPLE = '[{"image_id": 42, "caption": "A dog."}, ...]'


def read_results(paths: Sequence[Path]) -> dict[str, dict[ImageId, str]]:
    """Reads results files.

    Args:
        paths: Each holds a list in COCO's format, whose method is named after the file
            (results_base.json and base.json: "base"), with its folder if two files have the same
            name; or an object of several such lists by method, as `write_results` writes it.

    Returns:
        Method -> image id -> caption.

    Raises:
        DataError: A file has another format, or contains an image twice.
        UsageError: Two files have the same method.
    """
    found: dict[str, dict[ImageId, str]] = {}
    for path, name, entries, where in _lists(paths):
        if name in found:
            raise UsageError(f"--results {path}: {name} occurs twice; rename a file")
        found[name] = _read_list(entries, where)
    return found


def files_by_method(paths: Sequence[Path]) -> dict[str, Path]:
    """Returns the file of each method; see `read_results`."""
    return {name: path for path, name, _, _ in _lists(paths)}


def select_results(
    paths: Sequence[Path], wanted: Sequence[str] | None
) -> dict[str, dict[ImageId, str]]:
    """Reads results files and keeps the requested methods, None for all.

    Raises:
        DataError: See `read_results`.
        UsageError: One is missing.
    """
    found = read_results(paths)
    for name in wanted or ():
        if name not in found and name != HUMAN:  # That is no captions, but the references.
            raise UsageError(f"--methods {name}: expected some of {','.join(found)}")
    return {name: found[name] for name in found if wanted is None or name in wanted}


def match_results(
    name: str, results: dict[ImageId, str], dataset: EvaluationDataset
) -> tuple[str, ...]:
    """Returns one method's captions in the order of the images; 42 and "42" are one image.

    Raises:
        DataError: An image has no caption (the score would be one of other images), or a caption
            is of an unknown image.
    """
    others = (image_id for image_id in results if str(image_id) not in dataset.known_ids)
    unknown = next(others, None)
    if unknown is not None:
        example = next(iter(dataset.images)).image_id
        raise DataError(
            f"{name}: has a caption of the image {unknown!r}, which is not in {dataset.path}; "
            f"expected ids such as {example!r}"
        )
    by_text = {str(image_id): caption for image_id, caption in results.items()}
    missing = [image for image in dataset.images if str(image.image_id) not in by_text]
    if missing:
        raise DataError(
            f"{name}: {len(missing)} of {len(dataset.images)} images of {dataset.path} have no "
            f"caption (the first is {missing[0].image_id!r}); add them, empty ones count as "
            "misses, or score only the first N images: --limit N"
        )
    captions = tuple(by_text[str(image.image_id)] for image in dataset.images)
    special = [caption for caption in captions if _SPECIAL_TOKEN.search(caption)]
    if special:
        logger.warning(
            "%s: %d of %d captions hold special tokens, which score as words (the first: %.80r); "
            "decode them with skip_special_tokens=True",
            name, len(special), len(captions), special[0],
        )  # fmt: skip
    return captions


def write_results(
    folder: Path, captions: Mapping[str, Sequence[str]], dataset: EvaluationDataset
) -> list[Path]:
    """Writes results.json with all methods, and a results_METHOD.json of each for other tools.

    A results_METHOD.json of a method that only the previous results.json has is removed, so that
    all files in the folder belong together.

    Returns:
        The files.
    """
    previous = result_files(folder, _methods_in(folder / RESULTS_NAME))
    lists: dict[str, list[dict[str, Any]]] = {
        name: [
            {"image_id": image.image_id, "caption": caption}
            for image, caption in zip(dataset.images, texts, strict=True)
        ]
        for name, texts in captions.items()
    }
    paths = [folder / RESULTS_NAME, *result_files(folder, lists)]
    for path, content in zip(paths, (lists, *lists.values()), strict=True):
        write_json(path, content)
    for path in set(previous) - set(paths):
        path.unlink(missing_ok=True)
    return paths


def result_files(folder: Path, names: Iterable[str]) -> list[Path]:
    """Returns the results_METHOD.json of each method, without special characters of a shell."""
    plain = (re.sub(r"[^\w.+-]+", "_", name) for name in names)
    return [folder / f"results_{name}.json" for name in plain]


def _lists(paths: Sequence[Path]) -> Iterator[tuple[Path, str, object, str]]:
    """Yields the lists of all files: file, method, list, and its location for an error."""
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
        found = "an empty list" if entries == [] else f"a {type(entries).__name__}"
        raise DataError(f"{where}: found {found}, expected COCO's results: {_EXAMPLE}")
    captions: dict[ImageId, str] = {}
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        image_id, caption = _read_entry(entry, f"{where}: [{index}]")
        if str(image_id) in seen:
            raise DataError(f"{where}: [{index}]: the image {image_id!r} occurs twice")
        seen.add(str(image_id))
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
