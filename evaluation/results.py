"""The result of an evaluation, as its files show it: subject, table, notes and JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.dataset import EvaluationDataset
from evaluation.scoring import MethodScores, headline_metrics
from evaluation.selection import CheckpointSelection
from evaluation.table import table_rows
from evaluation.training_facts import TrainingFacts
from igrag.config import portable
from igrag.metrics import registered_metrics
from igrag.metrics.bootstrap import RESAMPLES
from igrag.training.run_metadata import library_versions
from prompt_tuning.methods import LORA


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """How captions were generated.

    Attributes:
        model: Folder or hub id of the model.
        facts: By method, the cost of its training.
        seconds: By method, the time that generating its captions took.
    """

    model: str
    facts: Mapping[str, TrainingFacts]
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """The result of an evaluation.

    Attributes:
        dataset: The images.
        methods: The scores of every method.
        baseline: The method that the others are compared with.
        seed: Seed of the bootstrap.
        identity: What the captions depend on, see `evaluation_identity`.
        generation: How the captions were generated, None if they came from files.
        selection: The best checkpoint, if checkpoints were compared.
    """

    dataset: EvaluationDataset
    methods: list[MethodScores]
    baseline: str
    seed: int
    identity: Mapping[str, Any]
    generation: GenerationRecord | None = None
    selection: CheckpointSelection | None = None

    @property
    def best(self) -> MethodScores | None:
        """The method with the highest BLEU-4 besides the baseline; None if there is none."""
        others = [method for method in self.methods if method.name != self.baseline]
        return max(others, key=lambda method: method.primary, default=None)

    @property
    def subject(self) -> str:
        """The images and the model: "300 images of demo/data/test.jsonl, captioned by t5-mini"."""
        count = len(self.dataset.images)
        images = f"{count:,} image{'s' if count != 1 else ''} of {portable(self.dataset.path)}"
        model = self.generation and portable(self.generation.model)
        return f"{images}, captioned by {model}" if model else images

    @property
    def unavailable(self) -> dict[str, str]:
        """The metrics that are left out, by label, with the reason in words that follow "it"."""
        return {k: v for method in self.methods for k, v in method.scores.unavailable.items()}

    def table(self) -> list[list[str]]:
        """Returns the rows of the table, titles first."""
        generation = self.generation
        return table_rows(
            self.methods,
            baseline=self.baseline,
            facts=generation.facts if generation else None,
            seconds=generation.seconds if generation else None,
        )

    def notes(self) -> list[str]:
        """Returns what a reader of the table must know, in sentences."""
        notes = [
            f"Intervals and p: bootstrap over images, {RESAMPLES:,} resamples, seed {self.seed}; "
            f"p is that of the paired test of BLEU-4 against {self.baseline}."
        ]
        if self.generation:
            notes.append("captions/s: generation alone, all methods with one model in memory.")
            if any(LORA in method.name for method in self.methods):
                notes.append(
                    "lora is not merged into the model's weights here, so that it can be switched "
                    "off; merged into them it costs no time."
                )
        notes += [
            f"{metric.label}: computed for all images together, without an interval."
            for metric in headline_metrics(self.methods)
            if all(_is_corpus_only(method, metric.key) for method in self.methods)
        ]
        notes += [
            f"{label} is left out: it {reason}." for label, reason in self.unavailable.items()
        ]
        if self.selection:
            notes += [f"{note[0].upper()}{note[1:]}." for note in self.selection.notes()]
        return notes

    def to_json(self) -> dict[str, Any]:
        """Returns all figures as plain JSON data."""
        return {
            **self.identity,
            "bootstrap": {"resamples": RESAMPLES, "seed": self.seed},
            "reference": self.baseline,
            "methods": {method.name: self._method_json(method) for method in self.methods},
            "checkpoint_selection": self.selection and asdict(self.selection),
            "left_out": self.unavailable,
            "versions": library_versions(),
        }

    def _method_json(self, method: MethodScores) -> dict[str, Any]:
        found: dict[str, Any] = {
            **{metric.key: method.value(metric) for metric in registered_metrics()},
            "intervals": {key: [each.low, each.high] for key, each in method.intervals.items()},
            "over_reference": {key: asdict(gain) for key, gain in method.gains.items()},
        }
        if self.generation:
            facts = self.generation.facts[method.name]
            seconds = self.generation.seconds[method.name]
            found["captions_per_second"] = len(method.captions) / seconds
            found["training"] = {**asdict(facts), "trainable_percent": facts.trainable_percent}
        return found


def _is_corpus_only(method: MethodScores, key: str) -> bool:
    score = method.scores.scores.get(key)
    return score is not None and score.value is not None and score.statistics is None
