"""The main category of an image, and whether a caption names it.

An image's objects are known from COCO's instances file. Its main category is the one that most of
its captions name; of several, the one that they name earlier, then the one with the larger area.
People mention what an image is about, and mention it first, where the largest object is often the
table, the building or the tree. On the demo's train and val images, whose scenes are known,
this finds the main thing of every image, the largest area that of nine in ten, and the first object
in the file that of every second (tests/evaluation/test_categories.py). An image whose captions name
none of its objects has the category of the largest area.

A caption names a category if it holds the category's name or a synonym, singular or plural, as
whole words. Synonyms are the list "synonyms" of a category of the file, as LVIS's categories have
it, else those of category_synonyms.yaml, which has COCO's 80 categories.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igrag.config.yaml_file import load_yaml
from igrag.data.coco import DetectedObject, ImageId, InstancesFile, read_instances_file
from igrag.errors import DataError
from igrag.metrics import Metric, TokenizedCorpus, tokenize
from igrag.metrics.registry import Array

SYNONYMS = Path(__file__).with_name("category_synonyms.yaml")
_IRREGULAR = {
    "person": "people",
    "child": "children",
    "mouse": "mice",
    "goose": "geese",
    "calf": "calves",
    "leaf": "leaves",
    "loaf": "loaves",
    "ox": "oxen",
}
_FAR = 1000  # A position behind the end of every caption.

Tokens = list[str]


class CategoryNames:
    """What captions call the categories.

    Args:
        synonyms: By category, its synonyms.
    """

    def __init__(self, synonyms: Mapping[str, Sequence[str]]) -> None:
        self._forms = {
            name: {tuple(tokenize(form)) for text in (name, *words) for form in _forms(text)}
            for name, words in synonyms.items()
        }

    def position(self, category: str, words: Tokens) -> int | None:
        """Returns the index of the first word that names a category, None if none does."""
        forms = self._forms[category]
        lengths = {len(form) for form in forms}
        return next(
            (
                start
                for start in range(len(words))
                if any(tuple(words[start : start + length]) in forms for length in lengths)
            ),
            None,
        )

    def main_category(
        self, objects: Sequence[DetectedObject], captions: Sequence[Tokens]
    ) -> str | None:
        """Returns the main category of an image; None without any object."""
        areas: dict[str, float] = {}
        for item in objects:
            areas[item.label] = areas.get(item.label, 0.0) + item.box[2] * item.box[3]
        if not areas:
            return None

        def importance(category: str) -> tuple[int, float, float]:
            found = [self.position(category, words) for words in captions]
            positions = [_FAR if position is None else position for position in found]
            return (
                sum(position < _FAR for position in positions),
                -float(sum(positions)),
                areas[category],
            )

        return max(areas, key=importance)


class Instances:
    """The objects of images from COCO's instances files.

    Args:
        files: The files' content.
        synonyms: Synonyms of categories that have none in their file, by name.
    """

    def __init__(
        self, files: Sequence[InstancesFile], synonyms: Mapping[str, Sequence[str]]
    ) -> None:
        self._objects = {str(key): found for file in files for key, found in file.objects.items()}
        own = {name: words for file in files for name, words in file.synonyms.items()}
        self.names = CategoryNames(
            {name: words if words is not None else synonyms.get(name, ())
             for name, words in own.items()}
        )  # fmt: skip

    def knows(self, image_id: ImageId) -> bool:
        """Returns whether a file lists an object of the image."""
        return bool(self._objects.get(str(image_id)))

    def main_category(self, image_id: ImageId, captions: Sequence[str]) -> str | None:
        """Returns the main category of an image; None if it is not listed or has no object."""
        objects = self._objects.get(str(image_id), ())
        return self.names.main_category(objects, [tokenize(text) for text in captions])


def read_instances_of(paths: Sequence[Path]) -> Instances:
    """Reads COCO's instances files.

    Raises:
        DataError: One is invalid.
    """
    return Instances([read_instances_file(path) for path in paths], _shipped_synonyms())


def main_categories(
    instances: Instances, images: Sequence[tuple[ImageId, Sequence[str]]], paths: Sequence[Path]
) -> list[str | None]:
    """Returns the main category of every image, given by its id and captions.

    Raises:
        DataError: The files list none of the images.
    """
    found = [instances.main_category(image_id, captions) for image_id, captions in images]
    if not any(found):
        names = " and ".join(map(str, paths))
        raise DataError(
            f"--instances {names}: lists objects of none of the {len(images)} images (such as "
            f"{images[0][0]!r}), expected COCO's instances file of these images"
        )
    return found


class NamesMainCategory(Metric):
    """The share of captions that name their image's main category; of images that have one.

    Args:
        categories: The main category of each of N images, None where it is not known.
        names: What captions call the categories.
    """

    key, label, headline = "names_main_category", "names main category", True

    def __init__(self, categories: Sequence[str | None], names: CategoryNames) -> None:
        self._categories = categories
        self._names = names

    def image_statistics(self, corpus: TokenizedCorpus) -> NDArray[Any]:
        """Returns [N, 2]: whether the caption names it, and whether there is one."""
        indices = corpus.image_indices
        statistics = np.zeros((len(corpus.hypotheses), 2))
        for number, words in enumerate(corpus.hypotheses):
            category = self._categories[number if indices is None else indices[number]]
            if category is not None:
                named = self._names.position(category, words) is not None
                statistics[number] = named, 1
        return statistics

    def corpus_score(self, sums: NDArray[Any], image_count: int) -> Array:
        """Returns the share [...] from sums [..., 2]; 0 where no image has a main category."""
        share: Array = sums[..., 0] / np.maximum(sums[..., 1], np.finfo(np.float64).tiny)
        return share


@cache
def _shipped_synonyms() -> Mapping[str, Sequence[str]]:
    return load_yaml(SYNONYMS)


def _forms(text: str) -> set[str]:
    """Returns a name, which may be written as LVIS does ("bat_(animal)"), and its plurals."""
    text = re.sub(r"\(.*?\)", " ", text.replace("_", " "))
    head, *rest = " ".join(text.lower().split()).split(" of ")
    before, _, noun = head.rpartition(" ")
    nouns = [noun, *_plurals(noun)]
    return {" of ".join([f"{before} {form}".strip(), *rest]) for form in nouns}


def _plurals(noun: str) -> list[str]:
    """Returns what can be the plural of a noun; forms that no word has do no harm."""
    if noun in _IRREGULAR:
        return [_IRREGULAR[noun], f"{noun}s"]
    if noun.endswith("man"):
        return [f"{noun[:-3]}men"]
    if noun.endswith("fe"):
        return [f"{noun[:-2]}ves"]
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return [f"{noun}es"]
    if re.search(r"[^aeiou]y$", noun):
        return [f"{noun[:-1]}ies"]
    return [f"{noun}s", f"{noun}es"] if noun.endswith("o") else [f"{noun}s"]
