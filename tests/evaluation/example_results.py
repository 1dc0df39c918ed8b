"""Evaluation results of made-up captions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.dataset import EvaluationDataset, EvaluationImage
from evaluation.overwrite_guard import evaluation_identity
from evaluation.results import EvaluationResult, GenerationRecord
from evaluation.scoring import score_methods
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


def make_dataset(
    references: Sequence[Sequence[str]] = REFERENCES,
    *,
    ids: Sequence[ImageId] | None = None,
    files: Sequence[Path | None] | None = None,
) -> EvaluationDataset:
    """Returns images with these references, numbered from 1."""
    ids = ids or range(1, len(references) + 1)
    files = files or [None] * len(references)
    images = tuple(
        EvaluationImage(image_id, tuple(texts), file=file)
        for image_id, texts, file in zip(ids, references, files, strict=True)
    )
    return EvaluationDataset(Path("captions.json"), images, frozenset(map(str, ids)))


def make_result(
    captions: Mapping[str, Sequence[str]] = CAPTIONS,
    dataset: EvaluationDataset | None = None,
    *,
    generated: bool = False,
    seed: int = 0,
) -> EvaluationResult:
    """Scores captions without METEOR; the first method is the baseline.

    Args:
        captions: By method.
        dataset: The images.
        generated: Whether a model generated them, instead of a file.
        seed: Seed of the bootstrap.
    """
    dataset = dataset or make_dataset()
    names = list(captions)
    tuned = TrainingFacts(3200, 3_395_616, 102.4, 15_320)
    facts = {name: tuned if index else NOTHING_TRAINED for index, name in enumerate(names)}
    generation = GenerationRecord("models/t5", facts, dict.fromkeys(names, 0.5))
    return EvaluationResult(
        dataset,
        score_methods(captions, dataset.references, baseline=names[0], seed=seed, skip=("meteor",)),
        baseline=names[0],
        seed=seed,
        identity=evaluation_identity(dataset, files={name: [] for name in names}),
        generation=generation if generated else None,
    )
