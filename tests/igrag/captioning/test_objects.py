"""Where the objects of a prompt come from."""

import json
import logging
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import transformers
from PIL import Image

from igrag.captioning import objects
from igrag.captioning.objects import InstancesDetector, ModelDetector
from igrag.data.coco import DetectedObject
from igrag.errors import ModelError

IMAGE = Image.new("RGB", (200, 100))


def save_instances(path: Path, *names: str) -> Path:
    """Saves an instances file: the ids count from 1, and each image's object has its number."""
    numbers = range(1, len(names) + 1)
    data = {
        "images": [
            {"id": n, "file_name": name, "width": 200, "height": 100}
            for n, name in zip(numbers, names, strict=True)
        ],
        "annotations": [{"image_id": n, "category_id": n, "bbox": [0, 0, 20, 20]} for n in numbers],
        "categories": [{"id": n, "name": f"thing {n}"} for n in numbers],
    }
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def labels(detector: InstancesDetector, name: str) -> list[str]:
    """Returns the labels of an image's objects."""
    return [item.label for item in detector(IMAGE, name)]


def test_objects_are_found_by_the_file_name(tmp_path: Path) -> None:
    """The whole name decides, with or without the folders that either side gives."""
    detector = InstancesDetector(save_instances(tmp_path / "i.json", "9.jpg", "val/10.jpg"))
    assert labels(detector, "9.jpg") == labels(detector, "val/9.jpg") == ["thing 1"]
    assert labels(detector, "10.jpg") == labels(detector, "val/10.jpg") == ["thing 2"]


def test_number_in_the_name_is_no_identity(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An unknown name that ends in a known image's number gets no objects and a warning."""
    detector = InstancesDetector(save_instances(tmp_path / "i.json", "000000000001.jpg"))
    with caplog.at_level(logging.WARNING):
        assert labels(detector, "IMG_0001.jpg") == []
    assert "IMG_0001.jpg: not one image of" in caplog.text
    assert detector.look_up("1.jpg") is None


def test_name_in_two_folders_is_not_guessed(tmp_path: Path) -> None:
    """Of several images of one name the folder decides; without it there is no answer."""
    detector = InstancesDetector(save_instances(tmp_path / "i.json", "a/1.jpg", "b/1.jpg"))
    assert labels(detector, "b/1.jpg") == ["thing 2"]
    assert detector.look_up("1.jpg") is None


def test_model_finds_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model finds comes as fractions of the image, the surest first."""
    asked = []

    def find(image: Image.Image, *, threshold: float) -> list[dict[str, Any]]:
        asked.append((image, threshold))
        return [
            {"label": "cat", "score": 0.6, "box": {"xmin": 0, "ymin": 0, "xmax": 20, "ymax": 50}},
            {
                "label": "dog",
                "score": 0.9,
                "box": {"xmin": 50, "ymin": 10, "xmax": 150, "ymax": 60},
            },
        ]

    def pipeline(task: str, *, model: str, device: str, **options: Any) -> Any:
        assert (task, model, device) == ("object-detection", "some/detr", "cpu")
        assert options == {"image_processor": "some/detr", "trust_remote_code": False}
        return find

    monkeypatch.setattr(objects, "from_pretrained", lambda factory, path, **options: path)
    import_module("transformers.pipelines")  # It puts another object into sys.modules.
    monkeypatch.setattr(sys.modules["transformers"], "pipeline", pipeline)
    detector = ModelDetector("some/detr", device="cpu", threshold=0.4)
    assert detector(IMAGE, "any.jpg") == [
        DetectedObject("dog", (0.25, 0.1, 0.5, 0.5), 0.9),
        DetectedObject("cat", (0.0, 0.0, 0.1, 0.5), 0.6),
    ]
    assert asked == [(IMAGE, 0.4)]


def test_saved_detector_finds_objects(tmp_path: Path) -> None:
    """The library's own pipeline runs a detector from a folder, and its boxes are fractions."""
    detector = ModelDetector(str(save_detector(tmp_path)), device="cpu", threshold=0.0)
    found = detector(IMAGE, "any.jpg")
    assert len(found) == 3
    for item in found:
        assert item.label in {"dog", "cat"}
        assert item.score is not None
        left, top, width, height = item.box
        assert -1 <= left <= 2
        assert -1 <= top <= 2
        assert 0 <= width <= 2
        assert 0 <= height <= 2
    assert ModelDetector(str(tmp_path), device="cpu", threshold=1.0)(IMAGE, "any.jpg") == []


def save_detector(path: Path) -> Path:
    """Saves a tiny YOLOS model of random weights, which looks for three objects."""
    config = transformers.YolosConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[32, 32],
        patch_size=16,
        num_detection_tokens=3,
        id2label={0: "dog", 1: "cat"},
    )
    transformers.YolosForObjectDetection(config).save_pretrained(path)
    size = {"height": 32, "width": 32}
    transformers.YolosImageProcessorPil(size=size, do_pad=False).save_pretrained(path)
    return path


def test_folder_without_detector_is_refused(tiny_t5: Path, tmp_path: Path) -> None:
    """A folder without a detector in it is one line that names the folder and the key."""
    for folder in (tiny_t5, tmp_path):
        with pytest.raises(ModelError, match=f"^{folder}: .*prompt_config.objects.detector"):
            ModelDetector(str(folder), device="cpu", threshold=0.5)
