"""What is known about the objects of the scored images and of the knowledge base's images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.categories import (
    Instances,
    NamesMainCategory,
    main_categories,
    read_instances_of,
)
from evaluation.dataset import EvaluationDataset
from evaluation.retrieval_quality import CaptionedImages, Grouping, group_images
from igrag.errors import DataError, KnowledgeBaseError
from igrag.metrics import Metric


@dataclass(frozen=True, slots=True)
class KnownObjects:
    """The main categories of the scored images.

    Attributes:
        categories: The main category of each image, None where it is not known; empty where none
            is.
        instances: The objects; None where there are no files.
    """

    categories: Sequence[str | None] = ()
    instances: Instances | None = None

    @property
    def metrics(self) -> list[Metric]:
        """The metrics that need them."""
        if self.instances is None:
            return []
        return [NamesMainCategory(self.categories, self.instances.names)]

    def group(
        self, dataset: EvaluationDataset, open_knowledge_base: Callable[[], CaptionedImages]
    ) -> tuple[list[Grouping], list[str]]:
        """Groups the images by how good retrieval was for them.

        Args:
            dataset: The images, with their matches.
            open_knowledge_base: Opens what the matches are from; called only if it is needed.

        Returns:
            The groups, and what is left out, in sentences.
        """
        if self.instances is None:
            return group_images(dataset), []
        try:
            knowledge_base = open_knowledge_base()
        except KnowledgeBaseError as error:
            return group_images(dataset), [
                f"The main categories of matches are not known: {error}."
            ]
        known = set(map(str, knowledge_base.image_ids))
        matches = [str(image_id) for image in dataset.images for image_id, _ in image.matches]
        if not known.issuperset(matches):
            return group_images(dataset), [
                "The main categories of matches are not known: the images were retrieved from "
                "another knowledge base than that of the configuration."
            ]
        if not any(map(self.instances.knows, known)):
            return group_images(dataset), [
                "The main categories of matches are not known: no instances file lists the images "
                "of the knowledge base; give it too: --instances FILE FILE."
            ]
        groups = group_images(
            dataset,
            categories=self.categories,
            instances=self.instances,
            knowledge_base=knowledge_base,
        )
        return groups, []


def find_objects(dataset: EvaluationDataset, files: Sequence[Path]) -> KnownObjects:
    """Reads the objects of the images from COCO's instances files, if there are any.

    Raises:
        DataError: A file is invalid, or none lists an object of the images, or these have no ids.
    """
    if not files:
        return KnownObjects()
    if not dataset.has_ids:
        raise DataError(
            f'{dataset.path}: no line has an "image_id", expected one in each, by which '
            "--instances finds its objects"
        )
    instances = read_instances_of(files)
    images = [(image.image_id, image.references) for image in dataset.images]
    return KnownObjects(main_categories(instances, images, files), instances)
