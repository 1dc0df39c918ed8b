"""The result of an evaluation, as its files show it: subject, table, notes and JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from evaluation.categories import NamesMainCategory
from evaluation.dataset import EvaluationDataset
from evaluation.diversity import MeasuredDiversity
from evaluation.extra_table import ExtraTable
from evaluation.human import HUMAN
from evaluation.instructions import InstructionChoice
from evaluation.retrieval_quality import RetrievalQuality
from evaluation.rows import NEAREST
from evaluation.scoring import MethodScores, headline_metrics
from evaluation.selection import CheckpointSelection
from evaluation.significance import sentences, significance_table, subjects_of
from evaluation.table import table_rows
from evaluation.training_facts import NOTHING_TRAINED, TrainingFacts
from igrag.config import portable
from igrag.metrics import registered_metrics
from igrag.metrics.bootstrap import RESAMPLES
from igrag.training.run_metadata import library_versions
from prompt_tuning.available_prompts import LORA


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """How captions were generated.

    Attributes:
        model: Folder or hub id of the model.
        facts: By method, the cost of its training; one that is not there has none.
        seconds: By method, the time that generating its captions took, if it generates.
        choice: The instruction of the row `instruction`.
    """

    model: str
    facts: Mapping[str, TrainingFacts]
    seconds: Mapping[str, float]
    choice: InstructionChoice | None = None


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
        rows_left_out: By row (nearest, instruction, human), why it is left out.
        retrieval: The scores by how good retrieval was.
        diversity: How diverse the captions of the methods are.
        extra_tables: Further tables.
        extra_json: What metrics.json has in addition, by key.
        tokenizer: What split the captions into the tokens that were scored.
    """

    dataset: EvaluationDataset
    methods: list[MethodScores]
    baseline: str
    seed: int
    identity: Mapping[str, Any]
    generation: GenerationRecord | None = None
    selection: CheckpointSelection | None = None
    rows_left_out: Mapping[str, str] = field(default_factory=dict)
    retrieval: RetrievalQuality | None = None
    diversity: MeasuredDiversity | None = None
    extra_tables: Sequence[ExtraTable] = ()
    extra_json: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: str = "ptb"

    @property
    def best(self) -> MethodScores | None:
        """The method with the highest BLEU-4 besides the baseline; None if there is none.

        It is a trained one, if there is any; the references are none.
        """
        others = [each for each in self.methods if each.name not in (self.baseline, HUMAN)]
        return max(subjects_of(others) or others, key=lambda method: method.primary, default=None)

    @property
    def subject(self) -> str:
        """The images and the model: "300 images of demo/data/dev.jsonl, captioned by t5-mini"."""
        count = len(self.dataset.images)
        images = f"{count:,} image{'s' if count != 1 else ''} of {portable(self.dataset.path)}"
        if self.generation is None or not self.generation.seconds:  # None is captioned by a model.
            return images
        return f"{images}, captioned by {portable(self.generation.model)}"

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
            facts=generation.facts if generation and generation.seconds else None,
            seconds=generation.seconds if generation and generation.seconds else None,
        )

    def tables(self) -> list[ExtraTable]:
        """Returns the tables below the main one."""
        significance = significance_table(self.methods)
        quality = self.retrieval.tables() if self.retrieval else []
        diversity = [self.diversity.table()] if self.diversity else []
        return [
            *([significance] if significance else []), *quality, *diversity, *self.extra_tables,
        ]  # fmt: skip

    def notes(self) -> list[str]:
        """Returns what a reader of the table must know, in sentences."""
        # Of checkpoints only the selected one is of interest.
        best = self.selection and self.selection.best
        notes = sentences([each for each in self.methods if best in (None, each.name)])
        notes += [
            f"Intervals and p: bootstrap over images, {RESAMPLES:,} resamples, seed {self.seed}; "
            f"p is that of the paired test of BLEU-4 against {self.baseline}."
        ]
        if self.generation and self.generation.seconds:
            notes.append("captions/s: generation alone, all methods with one model in memory.")
            if any(LORA in method.name for method in self.methods):
                notes.append(
                    "lora is not merged into the model's weights here, so that it can be switched "
                    "off; merged into them it costs no time."
                )
        notes += [*self._row_notes()]
        notes += [
            f"{metric.label}: computed for all images together, without an interval."
            for metric in headline_metrics(self.methods)
            if all(_is_corpus_only(method, metric.key) for method in self.methods)
        ]
        notes += [
            f"{label} is left out: it {reason}." for label, reason in self.unavailable.items()
        ]
        if self.retrieval and not self.retrieval.groups:
            notes += self.retrieval.notes
        if self.selection:
            notes += [f"{note[0].upper()}{note[1:]}." for note in self.selection.notes()]
        return notes

    def _row_notes(self) -> list[str]:
        """Returns what the rows besides the trained methods are, and which are left out."""
        names = {method.name: method for method in self.methods}
        notes = []
        if NEAREST in names:
            notes.append("nearest: the caption of the most similar image, copied.")
        if self.generation and self.generation.choice:
            notes.append(f"{self.generation.choice.note()}.")
        if HUMAN in names and names[HUMAN].indices is not None:
            notes.append(_human_note(names[HUMAN], len(self.dataset.images)))
        if any(NamesMainCategory.key in method.scores.metrics for method in self.methods):
            notes.append(
                f"{NamesMainCategory.label}: the share of captions with the name or a synonym of "
                "the image's main category, the one of its objects that most references name, and "
                "name first."
            )
        notes += [f"{name} is left out: {reason}." for name, reason in self.rows_left_out.items()]
        return notes

    def to_json(self) -> dict[str, Any]:
        """Returns all figures as plain JSON data."""
        choice = self.generation and self.generation.choice
        return {
            **self.identity,
            "tokenizer": self.tokenizer,
            "bootstrap": {"resamples": RESAMPLES, "seed": self.seed},
            "reference": self.baseline,
            "methods": {method.name: self._method_json(method) for method in self.methods},
            "checkpoint_selection": self.selection and asdict(self.selection),
            "left_out": self.unavailable,
            "methods_left_out": dict(self.rows_left_out),
            "instruction": choice and choice.to_json(),
            "retrieval_quality": self.retrieval.to_json() if self.retrieval else [],
            "diversity": self.diversity and self.diversity.to_json(),
            **self.extra_json,
            "versions": library_versions(),
        }

    def _method_json(self, method: MethodScores) -> dict[str, Any]:
        found: dict[str, Any] = {
            **{metric.key: method.value(metric) for metric in registered_metrics()},
            **method.scores.values,  # Those of these images alone too.
            "intervals": {key: [each.low, each.high] for key, each in method.intervals.items()},
            "over_reference": {key: asdict(gain) for key, gain in method.gains.items()},
            "over": {
                name: {key: asdict(gain) for key, gain in gains.items()}
                for name, gains in method.over.items()
            },
            "images": len(method.captions),
        }
        if self.generation:
            facts = self.generation.facts.get(method.name, NOTHING_TRAINED)
            seconds = self.generation.seconds.get(method.name)
            found["captions_per_second"] = seconds and len(method.captions) / seconds
            found["training"] = {**asdict(facts), "trainable_percent": facts.trainable_percent}
        return found


def _human_note(human: MethodScores, images: int) -> str:
    scored = len(human.captions)
    left_out = images - scored
    which = f"{left_out:,} of {images:,} images have one alone and are left out; " * (left_out > 0)
    return (
        f"human: every reference of an image scored against its others, the mean over them; {which}"
        "it has one reference fewer to match than the methods, which lowers most scores. The "
        "report shows the first reference."
    )


def _is_corpus_only(method: MethodScores, key: str) -> bool:
    score = method.scores.scores.get(key)
    return score is not None and score.value is not None and score.statistics is None
