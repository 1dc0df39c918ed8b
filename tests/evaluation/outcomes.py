"""Evaluations that never were."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.dataset import EvaluationImage, Split
from evaluation.overwrite_guard import identify
from evaluation.results import Origin, Outcome, score_outcome
from evaluation.training_facts import NOTHING_TRAINED, TrainingFacts
from igrag.data.coco import ImageId

REFERENCES = (
    ("a dog runs on the beach", "a dog is running"),
    ("a red car in the street", "a car parks near a house"),
    ("two birds in a tree", "birds sit in the tree"),
)
CAPTIONS = {
    "base": ("a dog", "a car in the street", "two birds in a tree"),
    "prompt": ("a dog runs on the beach", "a red car", "two cats in a tree"),
}


def split_of(
    references: Sequence[Sequence[str]] = REFERENCES,
    *,
    ids: Sequence[ImageId] | None = None,
    files: Sequence[Path | None] | None = None,
) -> Split:
    """Makes images with these references, numbered from 1."""
    ids = ids or range(1, len(references) + 1)
    files = files or [None] * len(references)
    images = tuple(
        EvaluationImage(image_id, tuple(texts), file=file)
        for image_id, texts, file in zip(ids, references, files, strict=True)
    )
    return Split(Path("captions.json"), images, frozenset(ids))


def outcome_of(
    captions: Mapping[str, Sequence[str]] = CAPTIONS,
    split: Split | None = None,
    *,
    written: bool = False,
) -> Outcome:
    """Scores captions; the first method is the reference, `written` by a model of the tests."""
    names = list(captions)
    tuned = TrainingFacts(3200, 3_395_616, 102.4, 15_320)
    facts = {name: tuned if place else NOTHING_TRAINED for place, name in enumerate(names)}
    origin = Origin("models/t5", facts, dict.fromkeys(names, 0.5))
    split = split or split_of()
    return score_outcome(
        split,
        captions,
        reference=names[0],
        seed=0,
        identity=identify(split, files={name: [] for name in names}),
        origin=origin if written else None,
    )
