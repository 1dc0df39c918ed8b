"""Everything that an evaluation found out, and the words for it that all its files share."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from evaluation.dataset import Split
from evaluation.scoring import Score, score_meteor, score_methods
from evaluation.selection import Verdict
from evaluation.table import table_rows
from evaluation.training_facts import TrainingFacts
from igrag.config import portable
from igrag.metrics import LEFT_OUT
from igrag.metrics.bootstrap import RESAMPLES
from igrag.training.run_metadata import library_versions
from prompt_tuning.methods import LORA


@dataclass(frozen=True, slots=True)
class Origin:
    """How captions were written.

    Attributes:
        model: Folder or hub id of the model.
        facts: What each method cost.
        seconds: How long each wrote.
    """

    model: str
    facts: Mapping[str, TrainingFacts]
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """An evaluation; made by `score_outcome`.

    Attributes:
        split: The images.
        scores: Of every method.
        reference: The method that the others are compared with.
        seed: Of the bootstrap.
        identity: What it is of, see `evaluation.overwrite_guard.identify`.
        origin: How the captions were written, None where they came from files.
        verdict: On checkpoints.
        meteor: METEOR by method; none where it is left out.
        left_out: What is not measured, and why.
    """

    split: Split
    scores: Sequence[Score]
    reference: str
    seed: int
    identity: Mapping[str, Any]
    origin: Origin | None = None
    verdict: Verdict | None = None
    meteor: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def best(self) -> Score | None:
        """The method with the highest BLEU-4 beside the reference; None where there is none."""
        others = [score for score in self.scores if score.name != self.reference]
        return max(others, key=lambda score: score.corpus.bleu4, default=None)

    @property
    def subject(self) -> str:
        """Says what was scored: "300 images of demo/data/test.jsonl, captioned by t5-mini"."""
        count = len(self.split.images)
        images = f"{count:,} image{'s' if count != 1 else ''} of {portable(self.split.path)}"
        return f"{images}, captioned by {portable(self.origin.model)}" if self.origin else images

    def rows(self) -> list[list[str]]:
        """Lays out the table, titles first."""
        return table_rows(
            self.scores,
            reference=self.reference,
            meteor=self.meteor or None,
            facts=self.origin.facts if self.origin else None,
            seconds=self.origin.seconds if self.origin else None,
        )

    def notes(self) -> list[str]:
        """Says what a reader of the table must know."""
        notes = [
            f"Intervals and p: bootstrap over images, {RESAMPLES:,} resamples, seed {self.seed}; "
            f"p is that of the paired test of BLEU-4 against {self.reference}."
        ]
        if self.origin:
            notes.append("captions/s: writing alone, all methods around one loaded model.")
            if any(LORA in score.name for score in self.scores):
                notes.append(
                    "lora runs beside the model's weights here, so that it can be switched; merged "
                    "into them it costs no time."
                )
        if self.meteor:
            notes.append("METEOR: its program's figure for all images together; no interval.")
        notes += [f"{name} is left out: it {reason}." for name, reason in self.left_out.items()]
        if self.verdict:
            notes += [f"{line[0].upper()}{line[1:]}." for line in self.verdict.lines()]
        return notes

    def to_json(self) -> dict[str, Any]:
        """Returns all figures as plain JSON data."""
        return {
            **self.identity,
            "bootstrap": {"resamples": RESAMPLES, "seed": self.seed},
            "reference": self.reference,
            "methods": {score.name: self._method(score) for score in self.scores},
            "verdict": self.verdict and asdict(self.verdict),
            "left_out": dict(self.left_out),
            "versions": library_versions(),
        }

    def _method(self, score: Score) -> dict[str, Any]:
        found: dict[str, Any] = {
            **asdict(score.corpus),
            "meteor": self.meteor.get(score.name),
            "intervals": {key: [each.low, each.high] for key, each in score.intervals.items()},
            "over_reference": {key: asdict(gain) for key, gain in score.gains.items()},
        }
        if self.origin:
            facts, seconds = self.origin.facts[score.name], self.origin.seconds[score.name]
            found["captions_per_second"] = len(score.captions) / seconds
            found["training"] = {**asdict(facts), "trainable_percent": facts.trainable_percent}
        return found


def score_outcome(
    split: Split,
    captions: Mapping[str, Sequence[str]],
    *,
    reference: str,
    seed: int,
    identity: Mapping[str, Any],
    origin: Origin | None = None,
    meteor: bool = False,
) -> Outcome:
    """Scores the captions of every method.

    Args:
        split: The images.
        captions: By method, in the order of the images.
        reference: The method that the others are compared with.
        seed: Of the bootstrap.
        identity: What it is of, see `evaluation.overwrite_guard.identify`.
        origin: How they were written, None where they came from files.
        meteor: Whether to compute METEOR, where it can be had.
    """
    scores = score_methods(captions, split.references, reference=reference, seed=seed)
    found, reason = score_meteor(captions, split.references, wanted=meteor)
    left_out = LEFT_OUT if reason is None else {"METEOR": reason, **LEFT_OUT}
    return Outcome(
        split, scores, reference, seed, identity, origin, meteor=found, left_out=left_out
    )
