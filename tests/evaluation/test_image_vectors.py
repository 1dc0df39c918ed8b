"""CLIPScore of an evaluation's images."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.image_vectors import clip_metrics
from evaluation.scoring import headline_metrics, score_methods
from igrag.config import REPO_ROOT
from igrag.data.images import open_image
from igrag.metrics import Metric, score_captions
from igrag.retrieval.image_encoder import ImageEncoder
from tests.evaluation.evaluator import Evaluator
from tests.evaluation.example_results import make_dataset
from tests.examples import save_examples
from tests.tiny import CocoFolder

CLIP = str(REPO_ROOT / "demo" / "models" / "clip-mini")
FILES = sorted((REPO_ROOT / "demo" / "coco" / "val").glob("*.jpg"))[:3]
SKIP = ("meteor", "spice")
TEXTS = [["a dog in the park", "a dog"], ["a red bus", "a bus"], ["two birds", "birds"]]


def metrics_of(files: list[Path | None], model: str = CLIP) -> list[Metric]:
    """Returns the metrics of images with these files."""
    dataset = make_dataset(TEXTS, files=files)
    return clip_metrics(dataset, model, device="cpu", dtype="float32", batch_size=2)


def test_methods_and_references_are_scored_with_intervals() -> None:
    """All methods have both scores with intervals; `human` is the mean over its references."""
    extra = metrics_of([*FILES])
    captions = {"base": [texts[0] for texts in TEXTS], "other": ["", "a", "b"]}
    base, other, human = score_methods(
        captions, TEXTS, baseline="base", seed=0, skip=SKIP, extra=extra, human=True
    )
    swapped = {"base": [texts[1] for texts in TEXTS]}
    (second,) = score_methods(swapped, TEXTS, baseline="base", seed=0, skip=SKIP, extra=extra)
    for key in ("clip_score", "ref_clip_score"):
        assert key in base.intervals and key in other.gains
        assert [metric.key for metric in headline_metrics([base, other])].count(key) == 1
    found = human.scores["clip_score"]
    assert found is not None
    mean = np.mean([base.scores["clip_score"], second.scores["clip_score"]])
    assert found == pytest.approx(mean)
    # Each caption is one of its references here.
    assert (base.scores["ref_clip_score"] or 0) > (other.scores["ref_clip_score"] or 0)


def no_encoder(*_: object, **__: object) -> NoReturn:
    """Stands for an image encoder that nobody may load."""
    raise AssertionError("the images are encoded again")


def test_known_vectors_are_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that retrieval has encoded have the same scores without loading the encoder."""
    dataset = make_dataset(TEXTS, files=FILES)
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32", "batch_size": 2}
    vectors = ImageEncoder(CLIP, device="cpu").encode([open_image(file) for file in FILES])
    known = replace(
        dataset,
        images=tuple(
            replace(image, vector=vector)
            for image, vector in zip(dataset.images, vectors, strict=True)
        ),
    )
    captions = [texts[0] for texts in TEXTS]
    expected = score_captions(
        captions, TEXTS, skip=SKIP, extra=clip_metrics(dataset, CLIP, **options)
    )
    monkeypatch.setattr("evaluation.image_vectors.ImageEncoder", no_encoder)
    found = score_captions(captions, TEXTS, skip=SKIP, extra=clip_metrics(known, CLIP, **options))
    assert found["clip_score"] == pytest.approx(expected["clip_score"], abs=1e-6)


def test_evaluation_with_retrieval_encodes_images_once(
    untrained: Evaluator, coco: CocoFolder, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vectors that retrieval computed are those of CLIPScore."""
    config = json.loads((tiny_clip / "config.json").read_text(encoding="utf-8"))

    class Texts:
        def __init__(self, *_: object, **__: object) -> None: ...

        def encode(self, texts: list[str]) -> NDArray[np.float32]:
            return np.ones((len(texts), config["projection_dim"]), np.float32)

    monkeypatch.setattr("evaluation.image_vectors.TextEncoder", Texts)
    monkeypatch.setattr("evaluation.image_vectors.ImageEncoder", no_encoder)
    words = ("--captions", coco.captions, "--images", coco.images, "--methods", "nearest")
    code, _, error = untrained(*words)
    assert code == 0, error
    assert untrained.read("metrics.json")["methods"]["nearest"]["clip_score"] is not None


@pytest.mark.parametrize("missing", [None, Path("none.jpg")])
def test_missing_images_are_the_reason(missing: Path | None) -> None:
    """Without all images both scores are left out, with how many are missing."""
    reasons = [metric.unavailable() for metric in metrics_of([FILES[0], missing, FILES[1]])]
    assert reasons == ["needs all images: 1 of 3 are missing"] * 2


def test_missing_encoder_is_the_reason(tmp_path: Path) -> None:
    """An encoder that is not there leaves both scores out."""
    reasons = [metric.unavailable() for metric in metrics_of([*FILES], str(tmp_path / "none"))]
    assert all(reason and "no such model folder" in reason for reason in reasons)


def test_evaluation_without_images_names_the_reason(untrained: Evaluator, tmp_path: Path) -> None:
    """The command leaves both scores out and shows the diversity of the captions."""
    data = save_examples(tmp_path / "test.jsonl", count=6, seed=0)
    code, out, _ = untrained("--data", data, "--methods", "base")
    assert code == 0 and "CLIPScore is left out: it needs all images: 6 of 6 are missing." in out
    left_out = untrained.read("metrics.json")
    assert left_out["methods"]["base"]["clip_score"] is None
    assert left_out["diversity"]["methods"].keys() == {"base"}
