"""The objects of captioned pictures, found as captioning finds them."""

from collections.abc import Sequence
from pathlib import Path

from igrag.captioner import Detector
from igrag.coco import CaptionedImage, DetectedObject
from igrag.errors import ImageError
from igrag.images import open_image
from igrag.object_detector import InstancesDetector

Objects = Sequence[DetectedObject]


class PictureObjects:
    """Objects for the prompts of captioned pictures; a picture is opened only for a model.

    Args:
        detector: What captioning uses; None where its prompts show no objects.
        images_path: Folder that file names count from.

    Attributes:
        skipped: Why pictures could not be used.
        unlisted: How many pictures the instances file does not list.
    """

    def __init__(self, detector: Detector | None, images_path: Path) -> None:
        self._detector = detector
        self._images_path = images_path
        self.skipped: list[str] = []
        self.unlisted = 0

    def __call__(self, images: Sequence[CaptionedImage]) -> tuple[list[int], list[Objects]]:
        """Returns the places of the usable pictures, in order, and the objects of each."""
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
