"""What trackers get besides losses and scores: sample captions with images, and final files."""

import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from PIL import Image

from igrag.errors import ImageError
from igrag.training.trackers import (
    SAMPLES,
    AccelerateReporter,
    Sample,
    as_markdown,
    choose_samples,
    make_reporter,
)
from tests.tiny import CocoFolder

IMAGE = Image.new("RGB", (4, 4))
TWO = [Sample("7", "a dog", IMAGE), Sample("8", "a | cat")]
CAPTIONS = ["a dog runs", "a cat", "of no sample"]


def test_samples_are_the_first_examples_with_their_images(coco: CocoFolder) -> None:
    """Images are found by id; an example without one, or without an id, has its caption alone."""
    ids = ["1", "2", "", "99", *(str(number) for number in range(3, 12))]
    samples = choose_samples(ids, [[f"caption {each}", "other"] for each in ids], coco.images)
    assert [each.image_id for each in samples] == ["1", "2", "2", "99", "3", "4", "5", "6"]
    assert [each.image is None for each in samples] == [False, False, True, True] + [False] * 4
    assert samples[0].reference == "caption 1" and len(samples) == SAMPLES


def test_damaged_sample_image_is_left_out(coco: CocoFolder) -> None:
    """A training does not end because an image that nobody trains on cannot be opened."""
    coco.image(1).write_bytes(b"nothing")
    assert choose_samples(["1"], [["a dog"]], coco.images)[0].image is None


def test_missing_folder_of_samples_is_an_error(tmp_path: Path) -> None:
    """What the settings name must be there."""
    with pytest.raises(ImageError):
        choose_samples(["1"], [["a dog"]], tmp_path / "none")


def test_table_escapes_bars() -> None:
    """A bar in a caption is no border of a cell."""
    *_, last = as_markdown(TWO, CAPTIONS).splitlines()
    assert last == r"| 8 | a cat | a \| cat |"


def test_wandb_gets_a_table_and_an_artifact(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A row for each sample, with its image where there is one; files and folders at the end."""
    wandb = MagicMock()
    wandb.Image.side_effect = lambda image: image
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    reporter = make_reporter("wandb")
    assert reporter is not None
    reporter.captions(TWO, CAPTIONS, 5)
    table = wandb.Table.call_args.kwargs
    assert table["columns"] == ["step", "image", "image_id", "caption", "reference"]
    assert table["data"] == [
        [5, IMAGE, "7", "a dog runs", "a dog"],
        [5, None, "8", "a cat", "a | cat"],
    ]
    reporter.files([tmp_path, Path(__file__)])
    artifact = wandb.Artifact.return_value
    artifact.add_dir.assert_called_once_with(str(tmp_path), name=tmp_path.name)
    artifact.add_file.assert_called_once_with(__file__)
    wandb.run.log_artifact.assert_called_once_with(artifact)


def test_mlflow_gets_artifacts_of_one_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files go to the run of the captions, also when the Trainer's callback has ended it."""
    mlflow = MagicMock()
    mlflow.active_run.return_value.info.run_id = "r1"
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    reporter = make_reporter("mlflow")
    assert reporter is not None
    for step in (0, 5):
        reporter.captions(TWO, CAPTIONS, step)
    mlflow.active_run.return_value = None
    reporter.files([tmp_path, Path(__file__)])
    client = mlflow.MlflowClient.return_value
    names = [call.args[2] for call in client.log_text.call_args_list]
    assert names == ["val/captions/step-000000.md", "val/captions/step-000005.md"]
    client.log_image.assert_called_once_with("r1", IMAGE, "val/images/7.png")
    client.log_artifacts.assert_called_once_with("r1", str(tmp_path), tmp_path.name)
    client.log_artifact.assert_called_once_with("r1", __file__, None)


class Kept:
    """A tracker of accelerate's that keeps what it is given."""

    def __init__(self, name: str) -> None:
        self.name, self.images = name, []  # type: ignore[var-annotated]

    def log_images(self, values: dict[str, Any], step: int) -> None:
        """Keeps images."""
        self.images.append((values, step))


@pytest.mark.parametrize(("name", "expected"), [("aim", IMAGE), ("swanlab", [IMAGE])])
def test_others_get_what_accelerate_has_for_them(name: str, expected: object) -> None:
    """The images once, in the form that the tracker takes; no table where there is none."""
    tracker = Kept(name)
    reporter = make_reporter(name, tracker)
    assert isinstance(reporter, AccelerateReporter)
    for step in (0, 5):
        reporter.captions(TWO, CAPTIONS, step)
    reporter.files([])
    assert tracker.images == [({"val/images/7": expected}, 0)]


def test_tracker_that_takes_no_captions_has_no_reporter() -> None:
    """Losses and scores are all that it takes."""
    assert make_reporter("dvclive", object()) is None
    assert make_reporter("clearml") is None
