"""The best checkpoint, and whether its lead over the others is significant."""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.scoring import PRIMARY_METRIC, MethodScores, compare
from igrag.metrics import Comparison
from igrag.training.summary import MIN_BLEU4, MIN_LEAD

SIGNIFICANT = 0.05  # p-value


@dataclass(frozen=True, slots=True)
class CheckpointComparison:
    """BLEU-4 of the best checkpoint against another one's; None for a single image."""

    over: str
    comparison: Comparison | None

    @property
    def is_significant(self) -> bool:
        """Whether chance alone would give such a lead in less than one case of twenty."""
        return self.comparison is not None and self.comparison.p_value < SIGNIFICANT

    def __str__(self) -> str:
        found = self.comparison
        if found is None:
            return f"its lead over {self.over} cannot be tested on a single image"
        result = "significant" if self.is_significant else "not significant, may be chance"
        return (
            f"its lead over {self.over}: {found.difference:+.3f} "
            f"({found.low:+.3f} to {found.high:+.3f}, p = {found.p_value:.3f}), {result}"
        )


@dataclass(frozen=True, slots=True)
class CheckpointSelection:
    """The best checkpoint by BLEU-4.

    Attributes:
        best: Its name.
        bleu4: Its score.
        untuned: The score of the model without the prompt.
        comparisons: With the second best, and with best_model if that is another one.
    """

    best: str
    bleu4: float
    untuned: float
    comparisons: tuple[CheckpointComparison, ...]

    def notes(self) -> list[str]:
        """Returns the selection in sentences."""
        notes = [f"best: {self.best}, BLEU-4 {self.bleu4:.3f}", *map(str, self.comparisons)]
        if self.bleu4 < MIN_BLEU4:
            notes.append(f"its BLEU-4 is below {MIN_BLEU4}: no checkpoint is better than noise")
        elif self.bleu4 - self.untuned < MIN_LEAD:
            notes.append(
                f"its BLEU-4 is not {MIN_LEAD} above the untuned model's ({self.untuned:.4f}): "
                "the training improved nothing that can be measured here"
            )
        if self.comparisons:
            notes.append("selected on these very images: report its score on others")
        return notes


def select_checkpoint(
    methods: Sequence[MethodScores], *, selected_by_training: str | None, seed: int
) -> CheckpointSelection:
    """Selects the checkpoint with the best BLEU-4, and tests its lead.

    Of checkpoints with equal BLEU-4 (to four digits) it is the one that training selected, by the
    validation loss, else the earliest.

    Args:
        methods: The untuned model, then one checkpoint or more, in their order.
        selected_by_training: The name of the one that is best_model, if it is among them.
        seed: Seed of the bootstrap.
    """
    untuned, *checkpoints = methods
    best, *others = sorted(
        checkpoints, key=lambda each: (-round(each.primary, 4), each.name != selected_by_training)
    )
    compared = others[:1]
    compared += [each for each in others[1:] if each.name == selected_by_training]
    comparisons = tuple(
        CheckpointComparison(
            each.name, compare(each.scores, best.scores, seed=seed).get(PRIMARY_METRIC)
        )
        for each in compared
    )
    return CheckpointSelection(best.name, best.primary, untuned.primary, comparisons)
