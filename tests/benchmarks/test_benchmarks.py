"""The long commands of the documents run on little data and shallow models."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import interval_coverage, real_shapes, sweep_prompt_tuning
from benchmarks.plan_memory import FORMATS
from igrag.config import REPO_ROOT
from prompt_tuning.sweep import runs
from tests.forked_commands import run_forked

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}


def run(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Runs a benchmark as its users do."""
    return run_forked(
        [f"benchmarks/{script}", *map(str, words)], folder=REPO_ROOT, environment=ENVIRONMENT
    )


def few_images(folder: Path, count: int) -> Path:
    """Writes a COCO captions file of the demo's first images."""
    source = REPO_ROOT / "demo" / "coco" / "annotations" / "captions_val.json"
    content = json.loads(source.read_text(encoding="utf-8"))
    content["images"] = content["images"][:count]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in ids]
    path = folder / "captions.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def few_examples(folder: Path) -> list[str]:
    """Writes training data of a few lines, and returns the settings that name them."""
    settings = []
    for split, count in (("train", 16), ("val", 4)):
        source = REPO_ROOT / "demo" / "data" / f"{split}.jsonl"
        lines = source.read_text(encoding="utf-8").splitlines()[:count]
        path = folder / f"{split}.jsonl"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        settings += ["--set", f"data.{split}_file={path}"]
    return settings


@pytest.mark.slow
def test_real_shapes_builds_data_trains_and_captions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The data leak nothing, and both methods train and caption at COCO's and Flan-T5's sizes."""

    def run_command(script: str, *words: str) -> str:
        done = run_forked([script, *words], folder=REPO_ROOT, environment=ENVIRONMENT)
        assert done.returncode == 0, done.stderr
        return done.stdout

    monkeypatch.setattr(real_shapes, "_run", run_command)
    captions = str(few_images(tmp_path, 16))
    monkeypatch.setattr(sys, "argv", ["real_shapes.py", "--quick", "--captions", captions])
    assert real_shapes.main() == 0
    printed = capsys.readouterr().out
    assert "0 prompts contain their own target or reference." in printed
    assert printed.count("trainable params:") == 4
    assert "image tokens: 232,512 parameters of the MLP and 15,360 of the prompt, 0." in printed
    # One layer and two embedding matrices, as Flan-T5 has; then with the adapter.
    assert "flan-t5: 65,869,824 parameters" in printed
    assert f"trainable params: 147,456 / {65_869_824 + 147_456:,} (" in printed


@pytest.mark.slow
def test_memory_of_a_plan_is_a_table() -> None:
    """Each format and number of images is planned in a process of its own."""
    done = run("plan_memory.py", "--counts", 20)
    assert done.returncode == 0, done.stderr
    _, _, *rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    assert [row[:2] for row in rows] == [[name, "20"] for name in FORMATS]
    assert all(50 < float(row[3]) < 1000 for row in rows)


@pytest.mark.slow
def test_sweep_prints_a_row_for_each_setting(tmp_path: Path) -> None:
    """Rows have the number of steps; a second call repeats no run and prints the same."""
    words = ["--rows", 1, 3, "--seeds", 0, "--output", tmp_path / "runs"]
    words += few_examples(tmp_path)
    first = run("sweep_prompt_tuning.py", *words)
    assert first.returncode == 0, first.stderr
    rows = [line.split(" | ") for line in first.stdout.splitlines()[2:]]
    assert [row[:2] for row in rows] == [
        ["| the defaults (3 epochs of 16 x 8, learning rate 0.03)", "3"],
        ["| 1 epoch, learning rate 0.1", "1"],
    ]
    files = sorted((tmp_path / "runs").glob("*/all_results.json"))
    assert len(files) == 2
    assert {file.name for file in (tmp_path / "runs").glob("*.png")} == {"01.png", "03.png"}
    times = [file.stat().st_mtime_ns for file in files]
    assert run("sweep_prompt_tuning.py", *words).stdout == first.stdout
    assert [file.stat().st_mtime_ns for file in files] == times


@pytest.mark.slow
def test_interval_coverage_resumes(tmp_path: Path) -> None:
    """Sets that are done are read from the file, and every score has a row for each method."""
    words = ["--output", tmp_path / "coverage.json", "--pool", 100]
    first = run("interval_coverage.py", *words, "--sets", 3)
    assert first.returncode == 0, first.stderr
    rows = [line.split(" | ") for line in first.stdout.splitlines()[4:]]
    assert len(rows) == 2 * 3 * len(interval_coverage.METHODS)
    assert all(float(row[3].rstrip("%")) <= 100 for row in rows)
    again = run("interval_coverage.py", *words, "--sets", 4)
    done = json.loads((tmp_path / "coverage.json").read_text(encoding="utf-8"))
    assert again.returncode == 0 and {len(sets) for sets in done.values()} == {4}
    assert run("interval_coverage.py", *words, "--sets", 3).stdout == first.stdout


def test_folder_of_a_run_depends_on_settings_seed_and_content(tmp_path: Path) -> None:
    """The content is that of data, model and adapter; equal runs have equal folders."""
    train, val = (Path(pair.partition("=")[2]) for pair in few_examples(tmp_path)[1::2])
    model, adapter = tmp_path / "t5", tmp_path / "adapter"
    shutil.copytree(REPO_ROOT / "demo" / "models" / "t5-mini", model)
    adapter.mkdir()
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(b"one")
    more = (
        f"data.train_file={train}", f"data.val_file={val}", f"model.name={model}",
        f"model.lora_weights_path={adapter}",
    )  # fmt: skip

    def folder(number: int = 3, seed: int = 0, *others: str) -> Path:
        runs._content_hash.cache_clear()
        return sweep_prompt_tuning.Run(number, seed, (*more, *others)).folder(tmp_path)

    names = [folder(), folder(4), folder(3, 1), folder(3, 0, "prompt_tuning.prompt_length=7")]
    assert folder() == names[0] == folder(3, 0, "output.report_to=tensorboard")
    for changed in (train, val, model / "model.safetensors", weights):
        changed.write_bytes(changed.read_bytes() + b"\n")
        names.append(folder())
    assert len(set(names)) == len(names)


class FailedTraining:
    """A training that was killed."""

    def __init__(self, folder: Path, words: list[str], *, threads: int) -> None:
        self.folder = folder

    def poll(self) -> int:
        """Returns the exit code."""
        return -9

    def failure(self) -> str:
        """Returns why it failed."""
        return "exit code -9: nothing was printed"

    def stop(self) -> None:
        """Ends it."""


def test_sweep_reports_every_failed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that was killed or did not start is reported, and the exit code is not 0."""
    monkeypatch.setattr(sweep_prompt_tuning, "TrainingProcess", FailedTraining)
    monkeypatch.setattr(sweep_prompt_tuning, "_POLL", 0)
    words = ["--rows", "3", "--seeds", "0", "1", "--output", str(tmp_path)]
    assert sweep_prompt_tuning.main(words) == 1
    out, err = capsys.readouterr()
    assert "failed" in out and err.count("exit code -9") == 2 and "row 3, seed 1" in err
    assert sweep_prompt_tuning.main([*words, "--set", "prompt_tuning.prompt_length=0"]) == 1
    assert capsys.readouterr().err.count("prompt_tuning.prompt_length") == 2


def test_sweep_with_a_search_space_is_igrag_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--config is the search with all of its options, whose errors name its file."""
    space = tmp_path / "space.yaml"
    space.write_text("search_space:\n  training.learning_rat: [1]\n")
    assert sweep_prompt_tuning.main(["--config", str(space), "--trials", "1"]) == 2
    assert f"{space}:2: search_space.training.learning_rat: unknown key" in capsys.readouterr().err


@pytest.mark.slow
def test_failed_run_fails_the_sweep(tmp_path: Path) -> None:
    """Its row is marked as failed, the reason is on stderr, and the exit code is not 0."""
    words = ["--rows", 3, "--seeds", 0, "--output", tmp_path, "--set", "data.train_file=none.jsonl"]
    done = run("sweep_prompt_tuning.py", *words)
    assert done.returncode == 1
    assert "| 1 epoch, learning rate 0.1 | - | failed | - |" in done.stdout
    assert "none.jsonl" in done.stderr


def test_loads_of_a_server_are_a_table() -> None:
    """Each row has requests a second, percentiles, and the ratio to one request at a time."""
    pytest.importorskip("httpx")
    from benchmarks import serving

    latencies = [number / 1000 for number in range(100, 0, -1)]
    rows = serving.table(
        [
            serving.Load("in batches", 8, 2.0, latencies),
            serving.Load("one at a time", 8, 5.0, latencies),
        ]
    ).splitlines()
    assert rows[2:] == [
        "| in batches | 8 | 50.0 | 50 | 99 | 2.50x |",
        "| one at a time | 8 | 20.0 | 50 | 99 | 1.00x |",
    ]


@pytest.mark.slow
def test_server_is_loaded_in_batches_and_one_at_a_time() -> None:
    """Two servers, each with every number of clients."""
    done = run("serving.py", "--requests", 6, "--clients", 1, 3)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:3] for line in done.stdout.splitlines()[2:]]
    assert rows == [
        [f" {server} ", f" {clients} "]
        for server in ("in batches", "one at a time")
        for clients in (1, 3)
    ]
