"""The results table at the end of a training run."""

import pytest

from igrag.training.summary import results_table
from tests.trainings import training

SCORES = {0: 0.08, 20: 0.31, 40: 0.46, 60: 0.44}


def test_results_table_has_a_line_for_each_validation() -> None:
    """Lines are aligned; the untuned model is named, and the best with its gain."""
    assert results_table(training(SCORES | {100: 0.4})).splitlines() == [
        "step  epoch  val loss  BLEU-1  BLEU-4",
        "   0   0.00    1.0000  0.5000  0.0800  untuned",
        "  20   1.00    1.0000  0.5000  0.3100",
        "  40   2.00    1.0000  0.5000  0.4600  best (BLEU-4 +0.3800)",
        "  60   3.00    1.0000  0.5000  0.4400",
        " 100   5.00    1.0000  0.5000  0.4000",
    ]


def test_results_table_notes_a_best_below_the_untuned_model() -> None:
    """A negative gain is shown in the table and explained in a note."""
    lines = results_table(training({0: 0.5, 20: 0.25, 40: 0.2})).splitlines()
    assert lines[2].endswith("best (BLEU-4 -0.2500)")
    assert lines[-1].startswith("note: every checkpoint is worse than the untuned model")
    assert "worse" not in results_table(training({0: 0.25, 20: 0.25}))


def test_difference_below_four_digits_is_no_loss() -> None:
    """BLEU-4 scores that are equal in four digits get no note that training lowered them."""
    lines = results_table(training({0: 3e-9, 20: 1e-9})).splitlines()
    assert lines[2].endswith("best (BLEU-4 +0.0000)")
    assert "worse" not in "".join(lines)


@pytest.mark.parametrize(
    ("scores", "notes"),
    [
        ({0: 0.1, 20: 0.3, 40: 0.4}, []),
        ({}, []),
        ({0: 0.1}, []),
        ({20: 0.4}, []),
        ({0: 0.0, 20: 0.0009}, ["below 0.001"]),
        ({0: 0.1, 20: 0.1004}, ["exceeds the untuned model's by less than 0.0005"]),
        ({0: 0.1, 20: 0.1005}, []),
        ({0: 0.1, 20: 0.4, 40: 0.4004}, ["exceeds another checkpoint's by less than 0.0005"]),
        ({0: 0.1, 20: 0.4, 40: 0.4005}, []),
        ({0: 0.0, 20: 0.0, 40: 0.0}, ["below 0.001", "untuned model's", "another checkpoint's"]),
    ],
)
def test_best_that_noise_may_have_selected_is_noted(
    scores: dict[int, float], notes: list[str]
) -> None:
    """A best near zero, or with a lead that is too small, gets one note for each reason."""
    lines = [line for line in results_table(training(scores)).splitlines() if "note: " in line]
    assert len(lines) == len(notes)
    assert all(note in line for note, line in zip(notes, lines, strict=True))


def test_results_table_without_the_untuned_model() -> None:
    """Without it no gain is shown; without any validation there is the head alone."""
    assert results_table(training({20: 0.25})).endswith("0.2500  best")
    assert results_table(training({})) == "step  epoch  val loss  BLEU-1  BLEU-4"
