"""What beats what, in words and as a table."""

import pytest

from evaluation.scoring import MethodScores, score_methods
from evaluation.significance import compared_with, sentences, significance_table
from igrag.errors import UsageError

COUNT = 60
REFERENCES = [(f"a dog number {n} runs on the wide beach",) for n in range(COUNT)]
GOOD = [texts[0] for texts in REFERENCES]
WRONG = "nothing of this is to be seen here"


def wrong_every(step: int) -> list[str]:
    """Returns captions of which every n-th one is wrong."""
    return [WRONG if index % step == 0 else text for index, text in enumerate(GOOD)]


def compared() -> list[MethodScores]:
    """Scores a method that beats base, equals nearest, and is worse than instruction."""
    captions = {
        "base": wrong_every(2),
        "nearest": wrong_every(5),
        "instruction": GOOD,
        "prompt": wrong_every(5),
    }
    return score_methods(
        captions, REFERENCES, baseline="base", seed=0, skip=("meteor",),
        over=compared_with([*captions]),
    )  # fmt: skip


def test_sentence_states_what_beats_what() -> None:
    """Each trained method has a sentence: better, no better and worse, by how much, with p."""
    methods = compared()
    (sentence,) = sentences(methods)
    over = methods[-1].over
    gain, loss = over["base"]["bleu4"], over["instruction"]["bleu4"]
    assert sentence.startswith(
        f"prompt: in BLEU-4 it beats base by {gain.difference:.3f} (p = {gain.p_value:.3f}), is no "
        "better than nearest (+0.000, p = 1.000) and is worse than instruction by "
        f"{-loss.difference:.3f} (p = {loss.p_value:.3f}); in CIDEr-D it beats base by "
    )
    assert gain.p_value < 0.05 and loss.p_value < 0.05


def test_table_has_a_column_for_each_baseline() -> None:
    """The table has the differences in BLEU-4 and CIDEr-D to every baseline with their p-values."""
    table = significance_table(compared())
    assert table is not None
    titles, row = table.rows
    assert titles == [
        "method",
        *(f"BLEU-4 over {name}" for name in ("base", "nearest", "instruction")),
        *(f"CIDEr-D over {name}" for name in ("base", "nearest", "instruction")),
    ]
    assert row[0] == "prompt" and row[2] == "+0.000 (1.000)"


def test_nothing_is_said_without_a_baseline_or_a_method() -> None:
    """Captions from files of other names have nothing to beat, and baselines nothing that beats."""
    for captions in ({"mine": GOOD, "yours": GOOD}, {"base": GOOD, "nearest": wrong_every(2)}):
        methods = score_methods(
            captions, REFERENCES, baseline=next(iter(captions)), seed=0, skip=("meteor",),
            over=compared_with([*captions]),
        )  # fmt: skip
        assert sentences(methods) == [] and significance_table(methods) is None


def test_methods_are_tested_against_chosen_ones_too() -> None:
    """--against adds to the baselines; a chosen method itself has no difference in its column."""
    captions = {"base": wrong_every(2), "prompt": wrong_every(5), "other": GOOD}
    over = compared_with([*captions], ("prompt",))
    assert over == ["base", "prompt"]
    methods = score_methods(
        captions, REFERENCES, baseline="base", seed=0, skip=("meteor",), over=over
    )
    assert "beats base by" in sentences(methods)[1] and "and prompt by" in sentences(methods)[1]
    table = significance_table(methods)
    assert table is not None
    titles, prompt, _ = table.rows
    assert titles[2] == "BLEU-4 over prompt" and prompt[2] == "–"


def test_unknown_method_to_be_tested_against_is_an_error() -> None:
    """The error names the methods of the comparison."""
    with pytest.raises(UsageError, match="--against lora: expected some of base,prompt"):
        compared_with(["base", "prompt"], ("lora",))
