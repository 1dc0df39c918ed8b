"""The objects of a prompt's optional block: from a COCO file, or a detection model."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from igrag.data.coco import DetectedObject, read_instances
from igrag.errors import ModelError
from igrag.hub import from_pretrained, reason_of

# Finds objects in an image, given the image and its file name.
Detector = Callable[[Image.Image, str], Sequence[DetectedObject]]
logger = logging.getLogger(__name__)


class InstancesDetector:
    """Looks up objects in a COCO instances file by the image's file name.

    Never by a number in the name: IMG_0009.jpg is not COCO's image 9.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._objects = read_instances(path)
        # Captioning knows an image's name alone, where the file may name a folder too.
        self._full_names: dict[str, list[str]] = {}
        for full_name in self._objects:
            self._full_names.setdefault(PurePosixPath(full_name).name, []).append(full_name)

    def look_up(self, name: str) -> Sequence[DetectedObject] | None:
        """Returns the objects of the image named `name`, with its folder or without it.

        None if the file does not list it, or lists several of that name in different folders.
        """
        if name in self._objects:
            return self._objects[name]
        full_names = self._full_names.get(PurePosixPath(name).name, [])
        return self._objects[full_names[0]] if len(full_names) == 1 else None

    def __call__(self, image: Image.Image, name: str) -> Sequence[DetectedObject]:
        """Returns the objects of the image named `name`; none, and a warning, if unknown."""
        objects = self.look_up(name)
        if objects is None:
            logger.warning("%s: not one image of %s; captioned without objects", name, self._path)
        return objects or ()


class ModelDetector:
    """Finds objects with a transformers object-detection model.

    Args:
        path: Folder or hub id, such as "facebook/detr-resnet-50".
        device: Where it runs, as torch names it.
        threshold: Lowest score of an object.

    Raises:
        ModelError: It cannot be loaded.
    """

    def __init__(self, path: str, *, device: str, threshold: float) -> None:
        from transformers import AutoImageProcessor, AutoModelForObjectDetection, pipeline

        self._threshold = threshold
        try:
            self._detect = pipeline(
                "object-detection",
                model=from_pretrained(AutoModelForObjectDetection, path, dtype="auto"),
                image_processor=from_pretrained(AutoImageProcessor, path),
                device=device,
                trust_remote_code=False,
            )
        except Exception as error:  # As for the other models, the library raises nearly anything.
            reason = reason_of(error, Path(path))
            raise ModelError(
                f"{path}: cannot be loaded as an object-detection model ({reason}); "
                "check prompt_config.objects.detector"
            ) from error

    def __call__(self, image: Image.Image, name: str) -> Sequence[DetectedObject]:
        """Returns the objects found in the image, those of the highest score first."""
        width, height = image.size
        objects = []
        for found in self._detect(image, threshold=self._threshold):
            box = found["box"]
            left, top = box["xmin"] / width, box["ymin"] / height
            size = ((box["xmax"] - box["xmin"]) / width, (box["ymax"] - box["ymin"]) / height)
            objects.append(DetectedObject(found["label"], (left, top, *size), found["score"]))
        return sorted(objects, key=lambda item: -(item.score or 0.0))
