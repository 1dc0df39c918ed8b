"""Which checkpoint is the best, and whether its lead is more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.scoring import BLEU4, Score, compare
from igrag.metrics import Comparison

SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Lead:
    """How much the best checkpoint scores above another one; None for a single image."""

    over: str
    comparison: Comparison | None

    @property
    def is_real(self) -> bool:
        """Whether so great a lead would come by chance in less than one case of twenty."""
        return self.comparison is not None and self.comparison.p_value < SIGNIFICANT

    def __str__(self) -> str:
        found = self.comparison
        if found is None:
            return f"its lead over {self.over} cannot be tested on a single image"
        verdict = "real" if self.is_real else "may be chance"
        return (
            f"its lead over {self.over} is {found.difference:+.3f} "
            f"({found.low:+.3f} to {found.high:+.3f}, p = {found.p_value:.3f}): {verdict}"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The best checkpoint and its leads.

    Attributes:
        best: Its name.
        bleu4: Its score.
        leads: Over the second best, and over best_model where that is another one.
    """

    best: str
    bleu4: float
    leads: tuple[Lead, ...]

    def lines(self) -> list[str]:
        """Says it in sentences."""
        lines = [f"best: {self.best}, BLEU-4 {self.bleu4:.3f}", *map(str, self.leads)]
        if self.leads:
            lines.append("chosen on these very images: report its score on others")
        return lines


def judge(scores: Sequence[Score], *, chosen: str | None, seed: int) -> Verdict:
    """Finds the best checkpoint by BLEU-4, of equal ones the earliest, and tests its lead.

    Args:
        scores: Of all checkpoints, one or more, in their order.
        chosen: The name of the one that training chose, if it is among them.
        seed: Of the bootstrap.
    """
    ranked = sorted(scores, key=lambda score: score.corpus.bleu4, reverse=True)
    best, *others = ranked
    rivals = others[:1]
    rivals += [score for score in others[1:] if score.name == chosen]
    leads = [
        Lead(rival.name, compare(rival.images, best.images, seed=seed).get(BLEU4.key))
        for rival in rivals
    ]
    return Verdict(best.name, best.corpus.bleu4, tuple(leads))
