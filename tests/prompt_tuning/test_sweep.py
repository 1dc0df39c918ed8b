"""The sweep: a study that goes on, prunes, survives what kills it, and reports."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from igrag.config import REPO_ROOT
from igrag.training.record import TrainingRecord
from prompt_tuning.settings import PromptTrainingSettings
from prompt_tuning.sweep import results, run_sweep, runs, trials
from prompt_tuning.sweep.settings import load_sweep
from tests.command import one_error
from tests.examples import save_example_vectors, save_examples
from tests.trainings import training

DRAW_PLOTS = results._draw_plots
CHILD = Path(__file__).parent / "sweep_child.py"
# Runs the command in a process of its own, with trainings that stand in for real ones.
_COMMAND = (
    "import sys; from pathlib import Path; from prompt_tuning.sweep import run_sweep, runs; "
    f"runs._CHILD = Path({str(CHILD)!r}); sys.exit(run_sweep.command(sys.argv[1:]))"
)


class SweepCommand:
    """Runs `igrag sweep` on a file and an output folder of the test's own."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.file, self.output = folder / "sweep.yaml", folder / "out"
        train = save_examples(folder / "train.jsonl", count=37, seed=0)
        val = save_examples(folder / "val.jsonl", count=10, seed=1)
        (folder / "train.yaml").write_text(
            f"model: {{name: {model}}}\n"
            f"data: {{train_file: {train}, val_file: {val}}}\n"
            "evaluation: {eval_steps: 3, per_device_eval_batch_size: 8, max_new_tokens: 6}\n"
        )
        self.write(["training.learning_rate: {low: 0.1, high: 0.9, log: true}"])

    def write(self, space: list[str], *more: str) -> None:
        """Writes the file of the sweep, with these lines of its search space and further keys."""
        lines = ["config: train.yaml", "search_space:", *(f"  {line}" for line in space), *more]
        (self.file.parent / "pyproject.toml").touch()  # Paths in it count from its folder.
        self.file.write_text("\n".join(lines) + "\n")

    def words(self, *more: object) -> list[str]:
        """Returns the words of the command."""
        return ["--config", str(self.file), "--output_dir", str(self.output), *map(str, more)]

    def __call__(self, *more: object) -> int:
        """Runs the command in this process and returns its exit code."""
        return run_sweep.command(self.words(*more))

    def start(self, *more: object) -> "subprocess.Popen[str]":
        """Starts the command in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *self.words(*more)],
            cwd=REPO_ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )

    def trials(self) -> list[dict[str, Any]]:
        """Returns the rows of trials.json."""
        rows: list[dict[str, Any]] = json.loads((self.output / "trials.json").read_text())
        return rows

    def starts(self, number: int) -> list[tuple[int, int]]:
        """Returns process and validations so far of each start of a trial's training."""
        lines = (self.output / f"trials/{number:04}/run/starts").read_text().splitlines()
        return [(int(process), int(count)) for process, count in map(str.split, lines)]


@pytest.fixture
def sweep(tmp_path: Path, tiny_t5: Path) -> SweepCommand:
    """The command on tiny data, with its real trainings."""
    return SweepCommand(tmp_path, tiny_t5)


class QuickTraining:
    """Stands in for a training's process: each look at it finds one validation more.

    Validation k of 4 scores k/4 of the learning rate; a learning rate above 0.9 fails.
    """

    started: ClassVar[list[Path]] = []
    stopped: ClassVar[list[Path]] = []
    endless: ClassVar[bool] = False

    def __init__(self, folder: Path, words: list[str], *, threads: int | None) -> None:
        settings = PromptTrainingSettings.load(Path(words[words.index("--config") + 1]), [])
        self._rate = settings.training.learning_rate
        self._folder, self._found = folder, 0
        self.started.append(folder)

    def poll(self) -> int | None:
        """Returns the exit code; None while it runs."""
        self._found = min(self._found + 1, 4)
        return None if self._found < 4 or self.endless else int(self._rate > 0.9)

    def record(self) -> TrainingRecord | None:
        """Returns its record so far."""
        scores = {n: self._rate * n / 4 for n in range(1, self._found + 1)}
        record = training({0: 0.01} | {20 * number: score for number, score in scores.items()})
        record.config["training"] = {"num_train_epochs": 4}
        return None if self._rate > 0.9 else record

    def failure(self) -> str:
        """Returns why it failed."""
        return "exit code 1: error: step 20: the validation loss is nan"

    def stop(self) -> None:
        """Ends it."""
        if self._found < 4:
            self.stopped.append(self._folder)


@pytest.fixture
def quick(sweep: SweepCommand, monkeypatch: pytest.MonkeyPatch) -> SweepCommand:
    """The command with trainings that stand in for real ones, and without plots."""
    for name in ("started", "stopped"):
        monkeypatch.setattr(QuickTraining, name, [])
    monkeypatch.setattr(trials, "TrainingProcess", QuickTraining)
    monkeypatch.setattr(trials, "_POLL", 0.0)
    monkeypatch.setattr(results, "_draw_plots", lambda study, folder: [])
    return sweep


@pytest.fixture
def processes(sweep: SweepCommand, monkeypatch: pytest.MonkeyPatch) -> SweepCommand:
    """The command with processes that stand in for trainings."""
    monkeypatch.setattr(runs, "_CHILD", CHILD)
    sweep.output.mkdir()
    return sweep


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(process: int) -> bool:
    """Returns whether a process runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_sweep_leaves_table_and_best_settings(
    quick: SweepCommand, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best settings are those of the highest BLEU-4, in a file that training reads."""
    quick.write(
        [
            "training.learning_rate: {low: 0.1, high: 0.9, log: true}",
            "prompt_tuning.prompt_length: {low: 4, high: 8, step: 2}",
            "evaluation.num_beams: 2",
        ],
        "pruner: none",
    )
    assert quick("--trials", 3, "--set", "training.seed=7") == 0
    rows = quick.trials()
    assert [row["state"] for row in rows] == ["complete"] * 3
    best = max(rows, key=lambda row: float(row["bleu4"]))
    assert best["bleu4"] == pytest.approx(best["settings"]["training.learning_rate"])
    assert [len(row["validations"]) for row in rows] == [4, 4, 4]
    settings = PromptTrainingSettings.load(quick.output / "best.yaml", [])
    assert settings.training.learning_rate == best["settings"]["training.learning_rate"]
    assert settings.prompt_tuning.prompt_length == best["settings"]["prompt_tuning.prompt_length"]
    assert (settings.training.seed, settings.evaluation.num_beams) == (7, 2)
    with (quick.output / "trials.csv").open() as table:
        assert [row["bleu4"] for row in csv.DictReader(table)] == [
            str(row["bleu4"]) for row in rows
        ]
    out = capsys.readouterr().out
    assert f"| {best['trial']} | {best['bleu4']:.4f} |" in out.splitlines()[2]
    assert "3 trials: 3 complete" in out


@pytest.mark.parametrize("equal", [False, True])
def test_sweep_draws_plots(
    quick: SweepCommand, monkeypatch: pytest.MonkeyPatch, equal: bool
) -> None:
    """Trials of one score have nothing that importance could explain."""
    monkeypatch.setattr(results, "_draw_plots", DRAW_PLOTS)
    space = ["training.learning_rate: {low: 0.1, high: 0.9}", "training.seed: {low: 1, high: 9}"]
    quick.write(["training.learning_rate: 0.5", space[1]] if equal else space)
    assert quick("--trials", 3) == 0
    expected = {"history", "slice"} | (set() if equal else {"parallel", "importance"})
    assert {file.stem for file in quick.output.glob("*.png")} == expected
    for file in quick.output.glob("*.png"):
        with Image.open(file) as image:
            assert image.format == "PNG" and image.width > 600


def test_same_command_adds_trials_and_repeats_none(quick: SweepCommand) -> None:
    """A study in two parts has the trials of one in one go, and each is trained once."""
    assert quick("--trials", 2) == 0
    assert quick("--trials", 2) == 0 and quick("--trials", 3) == 0
    folders = [f"trials/{number:04}/run" for number in range(3)]
    assert QuickTraining.started == [quick.output / folder for folder in folders]
    parts = [row["settings"] for row in quick.trials()]
    quick.output = quick.output.with_name("at_once")
    assert quick("--trials", 3) == 0
    assert [row["settings"] for row in quick.trials()] == parts
    assert len({row["training.learning_rate"] for row in parts}) == 3


def test_trial_below_the_median_is_stopped_early(quick: SweepCommand) -> None:
    """It ends at a validation, its training with it; the best trial is never one of those."""
    quick.write(["training.learning_rate: [0.1, 0.8]"], "pruner_startup_trials: 1")
    assert quick("--trials", 8) == 0
    rows = quick.trials()
    first = next(row["trial"] for row in rows if row["bleu4"] == pytest.approx(0.8))
    low = [row for row in rows[first + 1 :] if row["settings"]["training.learning_rate"] == 0.1]
    assert low and {row["state"] for row in low} == {"stopped early"}
    assert all(len(row["validations"]) == 1 and row["bleu4"] is None for row in low)
    assert QuickTraining.stopped == [
        quick.output / f"trials/{row['trial']:04}/run"
        for row in rows
        if row["state"] == "stopped early"
    ]


def test_failed_trial_does_not_end_the_study(quick: SweepCommand) -> None:
    """It is recorded with its error; the others are trained, and the exit code is 0."""
    quick.write(["training.learning_rate: [0.5, 0.95]"])
    assert quick("--trials", 5) == 0
    states = {row["settings"]["training.learning_rate"]: row["state"] for row in quick.trials()}
    assert states == {0.5: "complete", 0.95: "failed"}
    errors = [row["error"] for row in quick.trials() if row["state"] == "failed"]
    assert set(errors) == {"exit code 1: error: step 20: the validation loss is nan"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_interrupted_trial_is_resumed(processes: SweepCommand, number: signal.Signals) -> None:
    """Whatever ends the command ends its trainings; the same command continues the same trial."""
    wait = processes.output / "wait"
    wait.touch()
    process = processes.start("--trials", 2)
    record = processes.output / "trials/0000/run/all_results.json"
    wait_for(lambda: record.is_file() and len(json.loads(record.read_text())["evaluations"]) == 2)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == {9: -9, 15: 143, 2: 130}[number]
    ((child, _),) = processes.starts(0)
    wait_for(lambda: not is_alive(child))
    wait.unlink()
    assert processes("--trials", 2) == 0
    assert [row["state"] for row in processes.trials()] == ["complete", "complete"]
    assert [count for _, count in processes.starts(0)] == [1, 2]
    assert len(processes.trials()[0]["validations"]) == 4


@pytest.mark.slow
def test_processes_share_the_trials(processes: SweepCommand) -> None:
    """Two commands at once train each trial of the study once, with different settings."""
    commands = [processes.start("--trials", 4) for _ in range(2)]
    for process in commands:
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr
    assert [row["state"] for row in processes.trials()] == ["complete"] * 4
    assert [len(processes.starts(number)) for number in range(4)] == [1] * 4
    assert len({row["settings"]["training.learning_rate"] for row in processes.trials()}) == 4


@pytest.mark.slow
def test_jobs_run_at_the_same_time(processes: SweepCommand) -> None:
    """With two jobs both trials run before either has ended."""
    wait = processes.output / "wait"
    wait.touch()
    process = processes.start("--trials", 2, "--jobs", 2)
    folders = [processes.output / f"trials/000{number}/run/all_results.json" for number in range(2)]
    wait_for(lambda: all(file.is_file() for file in folders))
    wait.unlink()
    process.communicate()
    assert process.returncode == 0
    assert [row["state"] for row in processes.trials()] == ["complete", "complete"]


def test_time_budget_ends_the_call_not_the_study(
    quick: SweepCommand, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trial that is not finished when the time is up continues with the next call."""
    with monkeypatch.context() as patch:
        patch.setattr(QuickTraining, "endless", True)
        assert quick("--trials", 1, "--minutes", 0.005) == 0
    assert "1 trials: 1 not finished" in capsys.readouterr().out
    assert not (quick.output / "best.yaml").exists()
    assert quick("--trials", 1) == 0
    assert [row["state"] for row in quick.trials()] == ["complete"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("training.learning_rat: [0.1]", "unknown key, did you mean learning_rate?"),
        ("trainin.learning_rate: [0.1]", "unknown key, did you mean training?"),
        ("learning_rate: [0.1]", "unknown key, did you mean training.learning_rate?"),
        ("prompt_tuning.prompt_length: {low: 0, high: 5}", "found 0, expected greater than 0"),
        ("prompt_tuning.initialization: [random, txt]", "found \"txt\", expected 'random'"),
        ("training.learning_rate: {low: 2, high: 1}", "expected low to be below high"),
        ("training.learning_rate: {low: 1, hihg: 2}", "did you mean high?"),
        ("output.output_dir: [a, b]", "expected a training setting"),
    ],
)
def test_wrong_search_space_names_file_and_key(
    quick: SweepCommand, capfd: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    """The exit code is 2, before anything is written or loaded."""
    quick.write([line])
    assert quick() == 2
    error = one_error(capfd.readouterr().err)
    key = line.partition(":")[0]
    assert f"{quick.file}:3: search_space.{key}" in error and message in error
    assert not quick.output.exists()


def test_values_of_a_space_are_those_that_the_training_reads(quick: SweepCommand) -> None:
    """Paths count from the file's project, earlier names are read, and keys may need each other."""
    quick.write(
        [
            "prompt.prompt_length: {low: 2, high: 8}",
            "prompt_tuning.initialization: [random, file]",
            "prompt_tuning.init_file: prompts/a.pt",
            "model.lora_weights_path: [null, adapter]",
            "training.max_grad_norm: [null, 1.0]",
        ]
    )
    folder = quick.file.parent
    sweep = load_sweep(quick.file, ["data.val_file=val.jsonl"], trials=3)
    assert next(iter(sweep.parameters)) == "prompt_tuning.prompt_length"
    assert sweep.parameters["model.lora_weights_path"] == [None, str(folder / "adapter")]
    assert sweep.parameters["training.max_grad_norm"] == [None, 1.0]
    assert sweep.fixed == {
        "data.val_file": str(Path.cwd() / "val.jsonl"),
        "prompt_tuning.init_file": str(folder / "prompts/a.pt"),
    }
    assert sweep.settings.trials == 3


def test_sweep_needs_something_to_search(
    quick: SweepCommand, capfd: pytest.CaptureFixture[str]
) -> None:
    """A space of single values is an error, and so is an option that fixes its only key."""
    quick.write(["training.learning_rate: 0.1"])
    assert quick() == 2 and "expected a range or a list" in one_error(capfd.readouterr().err)
    quick.write(["training.learning_rate: [0.1, 0.2]"])
    assert quick("--set", "training.learning_rate=0.3") == 2
    assert "expected a range or a list" in one_error(capfd.readouterr().err)


def test_study_of_other_settings_is_not_mixed(
    quick: SweepCommand, capfd: pytest.CaptureFixture[str]
) -> None:
    """Another space, setting or data file is an error that names what differs."""
    assert quick("--trials", 1) == 0
    capfd.readouterr()
    assert quick("--trials", 1, "--set", "training.weight_decay=0.1") == 2
    assert "training.training.weight_decay was 0.0, is 0.1" in one_error(capfd.readouterr().err)
    data = quick.file.with_name("train.jsonl")
    data.write_text(data.read_text() + "\n")
    runs._content_hash.cache_clear()
    assert quick("--trials", 1) == 2
    assert str(data) in one_error(capfd.readouterr().err)


def test_missing_optuna_is_one_error(
    quick: SweepCommand, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The error names what to install; the exit code is 2."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert quick("--trials", 1) == 2
    assert 'pip install "optuna' in one_error(capfd.readouterr().err)


def test_torn_line_of_the_journal_is_dropped(quick: SweepCommand) -> None:
    """A process that was killed while it wrote does not make the study unreadable."""
    assert quick("--trials", 1) == 0
    with (quick.output / "journal.log").open("a") as journal:
        journal.write('{"op_code": 5, "wor')
    assert quick("--trials", 2) == 0
    assert [row["state"] for row in quick.trials()] == ["complete", "complete"]


@pytest.mark.slow
def test_sweep_trains_tiny_models(sweep: SweepCommand) -> None:
    """Real trainings: every trial has checkpoints, and its value is that of its best one."""
    space = ["training.learning_rate: {low: 0.1, high: 1.0}", "training.num_train_epochs: [1, 2]"]
    sweep.write(space, "pruner: none")
    assert sweep("--trials", 2, "--device", "cpu", "--jobs", 2) == 0
    for row in sweep.trials():
        run = sweep.output / f"trials/{row['trial']:04}/run"
        record = json.loads((run / "all_results.json").read_text())
        assert row["state"] == "complete", row["error"]
        assert row["bleu4"] == record["best"]["bleu4"]
        assert (
            record["config"]["training"]["learning_rate"]
            == (row["settings"]["training.learning_rate"])
        )
        assert (run / "best_model" / "prompt_embeddings.pt").is_file()


def test_description_has_image_tokens_only_where_there_are_some(tmp_path: Path) -> None:
    """A study of a version without image tokens goes on; with them their vectors count, too."""
    sweep = SweepCommand(tmp_path, REPO_ROOT / "demo" / "models" / "t5-mini")
    file = tmp_path / "train.yaml"
    for name in ("train.jsonl", "val.jsonl"):
        save_example_vectors(tmp_path / name)
    plain = runs.describe_training(PromptTrainingSettings.load(file, []))
    keys = [key for section in ("data", "prompt_tuning") for key in plain[section]]
    assert not [key for key in keys if key.startswith("image_")]
    overrides = ["prompt_tuning.image_tokens=4", f"data.image_vectors={tmp_path}"]
    seeing = runs.describe_training(PromptTrainingSettings.load(file, overrides))
    assert seeing["prompt_tuning"]["image_tokens"] == 4
    assert len(seeing["files"]) == len(plain["files"]) + 4
    loaded = load_sweep(sweep.file, overrides)
    assert loaded.training.data.image_vectors == [tmp_path]
    assert loaded.fixed["data.image_vectors"] == [str(tmp_path)]
