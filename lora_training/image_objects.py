"""The objects of captioned images, found as captioning finds them."""

from collections.abc import Sequence
from pathlib import Path

from igrag.captioning.objects import Detector, InstancesDetector
from igrag.data.coco import CaptionedImage, DetectedObject
from igrag.data.images import open_image
from igrag.errors import ImageError

Objects = Sequence[DetectedObject]


class ImageObjects:
    """Objects for the prompts of captioned images; a image is opened only for a model.

    Args:
        detector: What captioning uses; None where its prompts show no objects.
        images_path: Folder that file names count from.

    Attributes:
        skipped: Why images could not be used.
        unlisted: How many images the instances file does not list.
    """

    def __init__(self, detector: Detector | None, images_path: Path) -> None:
        self._detector = detector
        self._images_path = images_path
        self.skipped: list[str] = []
        self.unlisted = 0

    def __call__(self, images: Sequence[CaptionedImage]) -> tuple[list[int], list[Objects]]:
        """Returns the places of the usable images, in order, and the objects of each."""
        places, found = [], []
        for place, image in enumerate(images):
            try:
                objects = self._find(image.file_name)
            except ImageError as error:
                self.skipped.append(str(error))
                continue
            places.append(place)
            found.append(objects)
        return places, found

    def _find(self, name: str) -> Objects:
        if self._detector is None:
            return ()
        if not isinstance(self._detector, InstancesDetector):
            return self._detector(open_image(self._images_path / name), name)
        objects = self._detector.look_up(name)
        self.unlisted += objects is None
        return objects or ()
