"""The table at the end of a training."""

from igrag.training.summary import results_table
from tests.trainings import training

SCORES = {0: 0.08, 20: 0.31, 40: 0.46, 60: 0.44}


def test_table() -> None:
    """One aligned line a validation: the untuned one is named, and the best with its gain."""
    assert results_table(training(SCORES | {100: 0.4})).splitlines() == [
        "step  epoch  val loss  BLEU-1  BLEU-4",
        "   0   0.00    1.0000  0.5000  0.0800  untuned",
        "  20   1.00    1.0000  0.5000  0.3100",
        "  40   2.00    1.0000  0.5000  0.4600  best (BLEU-4 +0.3800)",
        "  60   3.00    1.0000  0.5000  0.4400",
        " 100   5.00    1.0000  0.5000  0.4000",
    ]


def test_table_tells_a_loss() -> None:
    """Training that made it worse shows as such, and a last line says it in words."""
    lines = results_table(training({0: 0.5, 20: 0.25, 40: 0.2})).splitlines()
    assert lines[2].endswith("best (BLEU-4 -0.2500)")
    assert lines[-1].startswith("note: every checkpoint is worse than the untuned model")
    assert "note" not in results_table(training({0: 0.25, 20: 0.25}))


def test_what_four_digits_do_not_show_is_no_loss() -> None:
    """Captions without any common word have a BLEU of nearly 0, and not quite the same one."""
    assert results_table(training({0: 3e-9, 20: 1e-9})).endswith("best (BLEU-4 +0.0000)")


def test_table_without_the_untuned_model() -> None:
    """Without it there is no gain to tell; without any validation there is the head alone."""
    assert results_table(training({20: 0.25})).endswith("0.2500  best")
    assert results_table(training({})) == "step  epoch  val loss  BLEU-1  BLEU-4"
