"""The timing of trainings: its examples and its table. The trainings themselves take minutes."""

import json
from pathlib import Path

from transformers import AutoTokenizer

from benchmarks import training
from benchmarks.shapes import TOKENIZER, write_examples
from benchmarks.training import Measured, measured, table

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


def test_first_step_is_not_timed() -> None:
    """It makes the kernels and fills the caches."""
    arguments = training._parse(["--batch_size", "4", "--accumulation", "2", "--captions", "9"])
    found = measured([(100.0, 5.0), (101.0, 7.0), (103.0, 9.0)], arguments, (3.0, 6.0), 7)
    assert (found.train_wall, found.train_cpu, found.samples) == (3.0, 4.0, 16)
    assert (found.caption_wall, found.captions, found.peak_bytes) == (3.0, 9, 7)


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
