"""Which checkpoint is best, and whether that is more than chance."""

from collections.abc import Sequence

from evaluation.scoring import Score, score_methods
from evaluation.selection import Verdict, judge

COUNT = 60
REFERENCES = [(f"a dog number {n} runs on the wide beach",) for n in range(COUNT)]
GOOD = [texts[0] for texts in REFERENCES]


def spoilt(every: int, *, first: int = 0) -> list[str]:
    """Makes captions of which every n-th is of another image altogether."""
    wrong = "nothing of this is to be seen here"
    return [wrong if place % every == first else text for place, text in enumerate(GOOD)]


def verdict(chosen: str | None = None, **captions: Sequence[str]) -> Verdict:
    """Judge checkpoints, which are also the reference: it does not matter here."""
    scores: list[Score] = score_methods(
        captions, REFERENCES, reference=next(iter(captions)), seed=0
    )
    return judge(scores, chosen=chosen, seed=0)


def test_a_clear_lead_is_real() -> None:
    """Over the second best, whichever comes first."""
    found = verdict(a=spoilt(2), b=GOOD, c=spoilt(3))
    assert found.best == "b" and found.bleu4 > 0.99
    (lead,) = found.leads
    assert lead.over == "c" and lead.is_real
    assert str(lead).endswith("real")
    assert found.lines()[0] == "best: b, BLEU-4 1.000"


def test_a_lead_by_one_image_may_be_chance() -> None:
    """The best is named all the same, with the warning."""
    found = verdict(a=spoilt(2), b=[*spoilt(2, first=1)[:-1], GOOD[-1]])
    (lead,) = found.leads
    assert found.best == "b" and not lead.is_real and lead.comparison is not None
    assert lead.comparison.p_value > 0.05 and str(lead).endswith("may be chance")
    assert "report its score on others" in found.lines()[-1]


def test_of_equal_ones_the_earliest_is_best() -> None:
    """As training chooses."""
    found = verdict(a=spoilt(2), b=spoilt(3), c=spoilt(3))
    assert found.best == "b" and found.leads[0].over == "c" and not found.leads[0].is_real


def test_the_choice_of_training_is_compared_too() -> None:
    """Where it is neither the best nor the second best here."""
    captions = {"a": spoilt(2), "b": GOOD, "c": spoilt(3)}
    assert [lead.over for lead in verdict("a", **captions).leads] == ["c", "a"]
    assert [lead.over for lead in verdict("c", **captions).leads] == ["c"]
    assert [lead.over for lead in verdict("b", **captions).leads] == ["c"]


def test_a_single_checkpoint_leads_over_none() -> None:
    """Nothing was chosen, so nothing needs a warning."""
    assert verdict(a=GOOD).lines() == ["best: a, BLEU-4 1.000"]


def test_a_single_image_tests_nothing() -> None:
    """No resample of it can say anything."""
    scores = score_methods({"a": GOOD[:1], "b": [""]}, REFERENCES[:1], reference="a", seed=0)
    (lead,) = judge(scores, chosen=None, seed=0).leads
    assert lead.comparison is None and not lead.is_real and "single image" in str(lead)
