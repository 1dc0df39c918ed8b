"""Scores by how good retrieval was: where the similar images help, and where they mislead.

A mean over all images hides whether a method reads the image's own captions well or only copes with
good matches. So the images are grouped by up to three properties, each a `Grouping`:

- quartiles of the cosine of the best match;
- whether a match has the image's main category, see `evaluation.categories`;
- whether any image of the knowledge base has it ("covered") or none ("not covered").

A group's scores come from its images' statistics. CIDEr-D keeps the weights of all images, so that
groups can be compared.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

from evaluation.categories import Instances
from evaluation.dataset import EvaluationDataset
from evaluation.extra_table import ExtraTable
from evaluation.scoring import MethodScores, headline_metrics, restrict
from evaluation.significance import sentences
from igrag.data.coco import ImageId
from igrag.metrics import Metric, format_score

SIMILARITY, MATCH, COVERAGE = "top_similarity", "match_category", "coverage"
_GROUPED = ("bleu4", "cider_d", "names_main_category")
_LEAST_IMAGES = 20  # A quartile of fewer than five images means nothing.
_QUARTILES = (0.25, 0.5, 0.75)


class CaptionedImages(Protocol):
    """A knowledge base, as far as it is needed here."""

    @property
    def image_ids(self) -> Sequence[ImageId]:
        """The ids of its images."""
        ...

    def captions_of(self, image_id: ImageId) -> Sequence[str]:
        """Returns an image's captions, none for an unknown image."""
        ...


@dataclass(frozen=True, slots=True)
class Group:
    """Some of the images: a name, and their indices."""

    name: str
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Groups of images by one property.

    Attributes:
        key: Its name in metrics.json.
        title: What the groups differ in.
        groups: The groups, two or more, without common images.
    """

    key: str
    title: str
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """The scores of all methods on a group of images; by coverage they are tested too."""

    grouping: Grouping
    group: Group
    methods: list[MethodScores]


@dataclass(frozen=True, slots=True)
class RetrievalQuality:
    """The scores of an evaluation by how good retrieval was.

    Attributes:
        groups: The groups, those of one grouping together; none if all images are alike.
        whole: The scores of all images.
        images: How many these are.
        notes: What is left out, and why, in sentences.
    """

    groups: list[ScoredGroup]
    whole: Sequence[MethodScores]
    images: int
    notes: tuple[str, ...] = ()

    @property
    def metrics(self) -> list[Metric]:
        """The metrics that groups are scored by."""
        return [metric for metric in headline_metrics(self.whole) if metric.key in _GROUPED]

    def tables(self) -> list[ExtraTable]:
        """Returns a table for each metric, with a row for each group; none without groups."""
        if not self.groups:
            return []
        tables = [
            ExtraTable(f"{metric.label} by how good retrieval was", self._rows(metric))
            for metric in self.metrics
        ]
        return [*tables[:-1], replace(tables[-1], notes=[*self._sentences(), *self.notes])]

    def to_json(self) -> list[dict[str, Any]]:
        """Returns the scores of all groups as plain JSON data.

        By coverage there are intervals and the paired tests against the baselines too.
        """
        return [
            {
                "by": each.grouping.key,
                "group": each.group.name,
                "images": len(each.group.indices),
                "methods": {method.name: self._method_json(method) for method in each.methods},
            }
            for each in self.groups
        ]

    def _method_json(self, method: MethodScores) -> dict[str, Any]:
        return {
            **{metric.key: method.value(metric) for metric in self.metrics},
            "images": len(method.captions),
            "intervals": {key: [each.low, each.high] for key, each in method.intervals.items()},
            "over": {
                name: {key: asdict(found) for key, found in gains.items()}
                for name, gains in method.over.items()
            },
        }

    def _rows(self, metric: Metric) -> list[list[str]]:
        names = [f"{each.grouping.title}: {each.group.name}" for each in self.groups]
        parts = [(len(each.group.indices), each.methods) for each in self.groups]
        rows = [["group", "images", *(method.name for method in self.whole)]]
        for name, (count, methods) in zip(
            [*names, "all"], [*parts, (self.images, self.whole)], strict=True
        ):
            scores = [format_score(method.value(metric)) for method in methods]
            rows.append([name, f"{count:,}", *scores])
        return rows

    def _sentences(self) -> list[str]:
        """Returns what beats what in the parts that the knowledge base covers and does not."""
        return [
            f"{each.group.name.capitalize()} ({len(each.group.indices):,} images): {sentence}"
            for each in self.groups
            if each.grouping.key == COVERAGE
            for sentence in sentences(each.methods)
        ]


def score_groups(
    groupings: Sequence[Grouping],
    methods: Sequence[MethodScores],
    *,
    images: int,
    seed: int,
    notes: Sequence[str] = (),
) -> RetrievalQuality:
    """Scores every group of images.

    Args:
        groupings: See `group_images`.
        methods: The scores of all images.
        images: How many these are.
        seed: Seed of the bootstrap.
        notes: What is left out, in sentences.
    """
    groups = [
        ScoredGroup(
            grouping,
            group,
            restrict(methods, group.indices, seed=seed if grouping.key == COVERAGE else None),
        )
        for grouping in groupings
        for group in grouping.groups
    ]
    return RetrievalQuality(groups, methods, images, tuple(notes))


def group_images(
    dataset: EvaluationDataset,
    *,
    categories: Sequence[str | None] = (),
    instances: Instances | None = None,
    knowledge_base: CaptionedImages | None = None,
) -> list[Grouping]:
    """Groups images by how good retrieval was for them.

    A property that all images share, or that is not known, is left out.

    Args:
        dataset: The images, with their matches where these are known.
        categories: The main category of each image, None where it is not known; empty where none
            is.
        instances: The objects of the images of the knowledge base too.
        knowledge_base: The images that retrieval finds; None where they are not known.

    Returns:
        By `SIMILARITY`, `MATCH` and `COVERAGE`, each with two groups or more.
    """
    groupings = [_by_similarity(dataset)]
    if instances is not None and knowledge_base is not None and any(categories):
        groupings += _by_category(dataset, categories, instances, knowledge_base)
    return [each for each in groupings if each is not None]


def _by_similarity(dataset: EvaluationDataset) -> Grouping | None:
    """Groups by quartiles of the best match's cosine; equal ones are in the same group."""
    found = [(index, image.matches[0][1]) for index, image in enumerate(dataset.images)
             if image.matches]  # fmt: skip
    if len(found) < _LEAST_IMAGES:
        return None
    cosines = np.array([cosine for _, cosine in found])
    numbers = np.searchsorted(np.quantile(cosines, _QUARTILES), cosines)  # [N], 0 to 3
    groups = []
    for number in np.unique(numbers):
        inside = numbers == number
        low, high = cosines[inside].min(), cosines[inside].max()
        indices = tuple(index for (index, _), own in zip(found, inside, strict=True) if own)
        groups.append(Group(f"{low:.3f} to {high:.3f}", indices))
    return _grouping(SIMILARITY, "best match's cosine", groups)


def _by_category(
    dataset: EvaluationDataset,
    categories: Sequence[str | None],
    instances: Instances,
    knowledge_base: CaptionedImages,
) -> list[Grouping | None]:
    """Groups by whether a match, and any image of the knowledge base, has the main category."""
    covered = _covered(set(filter(None, categories)), instances, knowledge_base)
    shown: dict[bool, list[int]] = {True: [], False: []}
    known: dict[bool, list[int]] = {True: [], False: []}
    for index, (image, category) in enumerate(zip(dataset.images, categories, strict=True)):
        if category is None:
            continue
        known[category in covered].append(index)
        if image.matches:
            found = (
                instances.main_category(image_id, knowledge_base.captions_of(image_id))
                for image_id, _ in image.matches
            )
            shown[category in found].append(index)
    by_match = [Group("no", tuple(shown[False])), Group("yes", tuple(shown[True]))]
    by_coverage = [Group("not covered", tuple(known[False])), Group("covered", tuple(known[True]))]
    return [
        _grouping(MATCH, "a match has the main category", by_match),
        _grouping(COVERAGE, "main category in the knowledge base", by_coverage),
    ]


def _covered(wanted: set[str], instances: Instances, knowledge_base: CaptionedImages) -> set[str]:
    """Returns those of the categories that an image of the knowledge base has as its main one."""
    covered: set[str] = set()
    for image_id in filter(instances.knows, knowledge_base.image_ids):
        category = instances.main_category(image_id, knowledge_base.captions_of(image_id))
        if category in wanted:
            covered.add(category)
        if covered == wanted:  # Of COCO's 118,287 images a few hundred are enough.
            break
    return covered


def _grouping(key: str, title: str, groups: Sequence[Group]) -> Grouping | None:
    kept = tuple(group for group in groups if group.indices)
    return Grouping(key, title, kept) if len(kept) > 1 else None
