"""Captioning and evaluation under torchrun: several processes print and write what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from igrag.config import REPO_ROOT
from tests.tiny import CocoFolder

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]


@pytest.fixture
def settings(knowledge_base: Path, tiny_clip: Path, tiny_t5: Path) -> list[str]:
    """Tiny models, in batches of two images."""
    pairs = {
        "retrieval_config.encoder": tiny_clip,
        "retrieval_config.top_k": 3,
        "retrieval_config.batch_size": 4,
        "model_config.models.flan-t5.path": tiny_t5,
        "knowledge_base_config.path": knowledge_base,
        "generation_config.max_new_tokens": 6,
        "generation_config.batch_size": 2,
        "prompt_tuning.weights_path": knowledge_base / "none.pt",
        "lora_config.weights_path": knowledge_base / "none",
    }
    words = [word for key, value in pairs.items() for word in ("--set", f"{key}={value}")]
    return ["--device", "cpu", *words]


def run(*words: object, processes: int = 2) -> "subprocess.CompletedProcess[str]":
    """Runs a script by so many processes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [*LAUNCH, str(processes), *map(str, words)],
        cwd=REPO_ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def lines(path: Path) -> list[dict[str, Any]]:
    """Returns the results of a file, without the time that each took."""
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]


@pytest.mark.slow
def test_two_processes_write_the_captions_that_one_writes(
    settings: list[str], coco: CocoFolder, tmp_path: Path
) -> None:
    """The file has the same lines in the same order, also where it is continued; one error a file.

    An image that cannot be opened, in the share of the second process, is reported once.
    """
    from igrag.commands.caption import command

    coco.image(3).write_text("no image")  # In the second batch.
    words = ["--i", str(coco.images), "--json", "--output"]
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    assert command([*words, str(one), *settings]) == 1
    done = run("main.py", *words, two, *settings)
    assert done.returncode == 1 and done.stdout == ""
    assert lines(two) == lines(one) and len(lines(two)) == 11
    assert done.stderr.count(f"error: {coco.image(3)}") == 1
    assert done.stderr.count("1 of 12 images have no caption.") == 1

    rest = tmp_path / "rest.jsonl"
    rest.write_text("".join(two.read_text("utf-8").splitlines(keepends=True)[:3]), "utf-8")
    assert command([*words, str(rest), "--resume", *settings]) == 1
    assert lines(rest) == lines(one)


@pytest.mark.slow
def test_error_in_one_process_ends_captioning_with_one_line(
    settings: list[str], coco: CocoFolder, tmp_path: Path
) -> None:
    """What all processes would report is reported once, and none waits for another."""
    kept = tmp_path / "kept.jsonl"
    kept.write_text("mine")
    done = run("main.py", "--i", coco.images, "--json", "--output", kept, *settings)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [
        f"error: {kept}: exists already; continue it with --resume, or give another --output"
    ]
    assert kept.read_text() == "mine"


@pytest.mark.slow
def test_two_processes_evaluate_as_one(
    settings: list[str], coco: CocoFolder, tmp_path: Path
) -> None:
    """They write the files of one process once: the same captions and scores, and one table."""
    from evaluation.options import parse_arguments
    from evaluation.run_evaluation import main

    script = REPO_ROOT / "evaluation" / "run_evaluation.py"
    files = ["--captions", str(coco.captions), "--images", str(coco.images)]
    words = [*files, "--meteor", "off", "--methods", "base,nearest", *settings, "--output_dir"]
    one, two = tmp_path / "one", tmp_path / "two"
    done = run(script, *words, two)
    assert done.returncode == 0, done.stderr
    assert main(parse_arguments([*words, str(one)])) == 0
    assert sorted(path.name for path in two.iterdir()) == sorted(
        path.name for path in one.iterdir()
    )
    for name in ("results.json", "results_base.json", "results_nearest.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (one, two)]
    scores = [each["methods"]["base"]["bleu4"] for each in metrics]
    assert scores[0] == scores[1]
    assert done.stdout.count("metrics.json") == 1
