"""Which checkpoint is best, and whether its lead is significant."""

from collections.abc import Mapping, Sequence

from evaluation.scoring import score_methods
from evaluation.selection import CheckpointSelection, select_checkpoint

COUNT = 60
REFERENCES = [(f"a dog number {n} runs on the wide beach",) for n in range(COUNT)]
GOOD = [texts[0] for texts in REFERENCES]
WRONG = "nothing of this is to be seen here"


def mostly_good(every: int, *, first: int = 0) -> list[str]:
    """Returns captions of which every n-th one is wrong."""
    return [WRONG if index % every == first else text for index, text in enumerate(GOOD)]


def select(
    captions: Mapping[str, Sequence[str]],
    *,
    selected_by_training: str | None = None,
    untuned: Sequence[str] = (WRONG,) * COUNT,
) -> CheckpointSelection:
    """Selects one of these checkpoints."""
    methods = score_methods(
        {"untuned": untuned, **captions},
        REFERENCES[: len(untuned)],
        baseline="untuned",
        seed=0,
        skip=("meteor",),
    )
    return select_checkpoint(methods, selected_by_training=selected_by_training, seed=0)


def test_clear_lead_over_second_best_is_significant() -> None:
    """The best checkpoint is compared with the second best, whichever comes first."""
    found = select({"a": mostly_good(2), "b": GOOD, "c": mostly_good(3)})
    assert found.best == "b" and found.bleu4 > 0.99
    (compared,) = found.comparisons
    assert compared.over == "c" and compared.is_significant
    assert str(compared).endswith("), significant")
    assert found.notes()[0] == "best: b, BLEU-4 1.000"


def test_lead_by_one_image_is_not_significant() -> None:
    """A checkpoint that leads by chance is the best all the same, with a warning."""
    found = select({"a": mostly_good(2), "b": [*mostly_good(2, first=1)[:-1], GOOD[-1]]})
    (compared,) = found.comparisons
    assert found.best == "b" and not compared.is_significant and compared.comparison is not None
    assert compared.comparison.p_value > 0.05
    assert str(compared).endswith("not significant, may be chance")
    assert "report its score on others" in found.notes()[-1]


def test_earliest_of_equal_checkpoints_is_best() -> None:
    """Of checkpoints with equal BLEU-4 training's own selection is best, else the earliest."""
    captions = {"a": mostly_good(2), "b": mostly_good(3), "c": mostly_good(3)}
    assert select(captions, selected_by_training="c").best == "c"
    found = select(captions)
    assert found.best == "b" and found.comparisons[0].over == "c"
    assert not found.comparisons[0].is_significant


def test_checkpoint_selected_by_training_is_compared_too() -> None:
    """best_model is compared if it is neither the best nor the second best here."""
    captions = {"a": mostly_good(2), "b": GOOD, "c": mostly_good(3)}
    assert [each.over for each in select(captions, selected_by_training="a").comparisons] == [
        "c",
        "a",
    ]
    assert [each.over for each in select(captions, selected_by_training="c").comparisons] == ["c"]
    assert [each.over for each in select(captions, selected_by_training="b").comparisons] == ["c"]


def test_single_checkpoint_is_compared_with_none() -> None:
    """With a single checkpoint nothing was selected, so no warning is needed."""
    assert select({"a": GOOD}).notes() == ["best: a, BLEU-4 1.000"]


def test_single_image_cannot_be_tested() -> None:
    """Resamples of a single image are all equal, so no lead is significant."""
    (compared,) = select({"a": GOOD[:1], "b": [""]}, untuned=[""]).comparisons
    assert compared.comparison is None and not compared.is_significant
    assert "single image" in str(compared)


def test_scores_of_noise_are_noted() -> None:
    """A best BLEU-4 below 0.001, or not above the untuned model's, is stated as noise."""
    noise = select({"a": [WRONG] * COUNT}, untuned=GOOD)
    assert "below 0.001" in noise.notes()[1]
    equal = select({"a": mostly_good(2)}, untuned=mostly_good(2))
    assert "not 0.0005 above the untuned model's" in equal.notes()[1]
