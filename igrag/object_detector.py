"""Where the prompt's optional block of objects comes from: a COCO file, or a detection model."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from igrag.coco import DetectedObject, ImageId, read_instances
from igrag.errors import ModelError


class InstancesDetector:
    """Looks objects up in a COCO instances file by the picture's number, as in 000000000802.jpg."""

    def __init__(self, path: Path) -> None:
        self._objects: Mapping[ImageId, Sequence[DetectedObject]] = read_instances(path)

    def __call__(self, image: Image.Image, name: str) -> Sequence[DetectedObject]:
        """Returns the objects of the picture named `name`; none if the file does not know it."""
        number = re.search(r"(\d+)$", Path(name).stem)
        return self._objects.get(int(number[1]), ()) if number else ()


class ModelDetector:
    """Finds objects with a transformers object-detection model.

    Args:
        path: Folder or hub id, such as "facebook/detr-resnet-50".
        device: Where it runs, as torch names it.
        threshold: Least score of an object.

    Raises:
        ModelError: It cannot be loaded.
    """

    def __init__(self, path: str, *, device: str, threshold: float) -> None:
        from transformers import pipeline

        self._threshold = threshold
        try:
            self._detect = pipeline("object-detection", model=path, device=device)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(
                f"{path}: cannot be loaded as an object-detection model ({reason}); "
                "check prompt_config.objects.detector"
            ) from error

    def __call__(self, image: Image.Image, name: str) -> Sequence[DetectedObject]:
        """Returns the objects found in the picture, the surest first."""
        width, height = image.size
        objects = []
        for found in self._detect(image, threshold=self._threshold):
            box = found["box"]
            left, top = box["xmin"] / width, box["ymin"] / height
            size = ((box["xmax"] - box["xmin"]) / width, (box["ymax"] - box["ymin"]) / height)
            objects.append(DetectedObject(found["label"], (left, top, *size), found["score"]))
        return sorted(objects, key=lambda item: -(item.score or 0.0))
