"""The table in Markdown."""

from evaluation.table import format_facts, to_markdown
from evaluation.training_facts import NOTHING_TRAINED, TrainingFacts
from tests.evaluation.example_results import CAPTIONS, REFERENCES, make_dataset, make_result


def column(rows: list[list[str]], title: str) -> list[str]:
    """Returns the cells below a title."""
    index = rows[0].index(title)
    return [row[index] for row in rows[1:]]


def test_every_figure_has_its_column() -> None:
    """Scores, gain with its p-value, cost of the training and speed have columns."""
    result = make_result(generated=True)
    base, prompt = result.methods
    rows = result.table()
    assert column(rows, "method") == ["base", "prompt"]
    assert column(rows, "BLEU-4") == [
        f"{base.scores['bleu4']:.3f}",
        f"{prompt.scores['bleu4']:.3f}",
    ]
    assert column(rows, "CIDEr-D")[1] == f"{prompt.scores['cider_d']:.3f}"
    assert column(rows, "ROUGE-L")[0] == f"{base.scores['rouge_l']:.3f}"
    interval, gain = prompt.intervals["bleu4"], prompt.gains["bleu4"]
    assert column(rows, "95% interval")[1] == f"{interval.low:.3f} to {interval.high:.3f}"
    assert column(rows, "BLEU-4 over base") == ["–", f"{gain.difference:+.3f}"]
    assert column(rows, "p") == ["–", f"{gain.p_value:.3f}"]
    assert column(rows, "trainable parameters") == ["0", "3,200"]
    assert column(rows, "share of the model") == ["0%", "0.094%"]
    assert column(rows, "training time") == ["–", "1 min 42 s"]
    assert column(rows, "size on disk") == ["–", "15 kB"]
    assert column(rows, "captions/s") == ["6.0", "6.0"]


def test_captions_from_files_have_no_columns_of_cost() -> None:
    """For captions from files the columns of cost are left out, not filled with n/a."""
    titles = make_result().table()[0]
    assert titles[-1] == "p" and "captions/s" not in titles


def test_undefined_scores_of_single_image_are_not_available() -> None:
    """Scores that are not defined for a single image are shown as n/a."""
    one = {name: texts[:1] for name, texts in CAPTIONS.items()}
    rows = make_result(one, make_dataset(REFERENCES[:1])).table()
    assert column(rows, "CIDEr-D") == column(rows, "95% interval") == ["n/a", "n/a"]
    assert column(rows, "p") == ["–", "n/a"]


def test_unknown_cost_is_not_available() -> None:
    """Each figure that no record has is shown as n/a."""
    assert format_facts(TrainingFacts(size_bytes=640)) == ("n/a", "n/a", "n/a", "640 B")
    known = TrainingFacts(3200, 32_000, 0.4, None)
    assert format_facts(known) == ("3,200", "10%", "0 s", "n/a")
    assert format_facts(NOTHING_TRAINED) == ("0", "0%", "–", "–")


def test_markdown_is_aligned() -> None:
    """The table is aligned as plain text, and its figures align right when rendered."""
    text = to_markdown([["method", "a", "long title"], ["x|y", "1.000", "2"], ["z", "–", "33"]])
    assert text.splitlines() == [
        "| method |     a | long title |",
        "| ------ | ----: | ---------: |",
        r"| x\|y   | 1.000 |          2 |",
        "| z      |     – |         33 |",
    ]


def test_notes_explain_the_table() -> None:
    """The notes explain the intervals, and name the metrics that are left out with the reason."""
    result = make_result(seed=7)
    notes = "\n".join(result.notes())
    assert "seed 7" in notes and "CLIPScore is left out: it needs the images" in notes
    assert "METEOR is left out: it was skipped." in notes
    assert "captions/s" not in notes
    assert "captions/s" in "\n".join(make_result(generated=True).notes())
