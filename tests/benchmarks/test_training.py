"""The timing of trainings: its examples and its table. The trainings themselves take minutes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from benchmarks import command_line, training_lines, training_times
from benchmarks.contestants import CONTESTANTS, DROPPING, ON_LORA
from benchmarks.measurement import Measured, measured
from benchmarks.shapes import TOKENIZER, write_examples
from benchmarks.training import contestants, parse_arguments, table
from igrag.config import REPO_ROOT
from igrag.training.record import TrainingRecord

FOUND = Measured(10.0, 20.0, 100, 2.0, 4.0, 20, 10**9, 1e9, 5e7)


def test_examples_have_the_lengths_that_are_drawn(tmp_path: Path) -> None:
    """A word is a token: sources have 60 to 512 tokens, 260 in the mean, targets 8 to 30."""
    write_examples(tmp_path / "a.jsonl", 200, seed=0)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER, trust_remote_code=False)
    sources, targets = (
        [len(tokenizer(line[key])["input_ids"]) for line in lines] for key in ("prompt", "caption")
    )
    assert min(sources) >= 60 and max(sources) <= 512 and 240 < sum(sources) / 200 < 280
    assert min(targets) >= 8 and max(targets) <= 30


def test_every_example_is_timed_once() -> None:
    """The steps together: one of them may have the short examples of one contestant alone."""
    options = ["--steps", "2", "--batch_size", "4", "--accumulation", "2", "--captions", "9"]
    arguments = parse_arguments(options)
    found = measured((100.0, 5.0), [(101.0, 7.0), (103.0, 9.0)], arguments, (3.0, 6.0), 7)
    assert (found.train_wall, found.train_cpu, found.samples) == (3.0, 4.0, 16)
    assert (found.caption_wall, found.captions, found.peak_bytes) == (3.0, 9, 7)
    with pytest.raises(ValueError, match="found 1 steps, expected 2"):
        measured((100.0, 5.0), [(101.0, 7.0)], arguments, (3.0, 6.0), 7)


def test_table_has_medians_and_the_ratios_of_each_pair() -> None:
    """A ratio is made within a pair, where the machine was about the same."""
    slow = Measured(30.0, 40.0, 100, 8.0, 8.0, 20, 2 * 10**9, 1e9)
    slower = Measured(50.0, 80.0, 100, 8.0, 8.0, 20, 2 * 10**9, 1e9)
    pairs = [{"ours": FOUND, "a": slow, "b": FOUND}, {"ours": FOUND, "a": slower, "b": FOUND}]
    text = table(pairs, busy=False)
    assert "| ours | 10.00 | 10.00 | 1.00 GB |" in text
    assert "| (a) | 4.00x (3.00 to 5.00) | 4.00x (4.00 to 4.00) | 0.50x (0.50 to 0.50) |" in text
    assert "50%" in text and text.startswith("Wall clock; 2 pairs.")
    assert "| (a) | 3.00x (2.00 to 4.00) |" in table(pairs, busy=True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["ours", "a", "b"]),
        (["--method", "lora", "--model_dropout"], ["ours", DROPPING, "a", "b"]),
        (["--on_lora"], ["ours", ON_LORA]),
    ],
)
def test_options_choose_the_contestants(options: list[str], expected: list[str]) -> None:
    """All of them can train what is asked for."""
    arguments = parse_arguments(options)
    found = contestants(arguments)
    assert found == expected
    assert set(found) <= set(CONTESTANTS[arguments.method])


def test_lines_are_compared_with_the_first_file() -> None:
    """Time per sample on a larger file, run by run."""
    text = training_lines.table({1000: [2.0, 4.0, 3.0], 100_000: [2.0, 6.0, 3.0]})
    assert "| 100,000 | 3.00 | 1.00x (1.00 to 1.50) |" in text


def test_command_line_is_compared_with_the_shortest_script() -> None:
    """CPU seconds beside the script, and wall clock of an image of many."""
    taken = {"script": [(2.0, 3.0)], "one": [(2.5, 3.3)], "many": [(10.0, 12.0)]}
    text = command_line.table(taken, 100)
    assert "CPU seconds: 1.10x" in text and "wall clock: 25.00x" in text


@pytest.mark.slow
def test_shortest_script_runs() -> None:
    """It writes a caption, so that both do the same."""
    found = subprocess.run(
        [sys.executable, "-c", command_line.SHORTEST], capture_output=True, text=True, check=True
    )
    assert len(found.stdout.split()) > 2


def test_times_name_the_first_good_validation() -> None:
    """Not the best one, but the first that is within 0.01 of it."""
    record = TrainingRecord.read(
        REPO_ROOT / "tests" / "fixtures" / "version_0_1" / "prompt" / "all_results.json"
    )
    scored = [found.bleu4 for found in record.evaluations if found.step]
    first = next(score for score in scored if score >= max(scored) - training_times.MARGIN)
    assert training_times.row(record).endswith(f": {first:.3f} |")
    assert f"| {max(scored):.3f} |" in training_times.row(record)
