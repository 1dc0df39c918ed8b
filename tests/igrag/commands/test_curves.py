"""The command `igrag curves`."""

from pathlib import Path

import pytest

from igrag.commands import curves
from igrag.training.record import TrainingRecord
from tests.trainings import training


def save_run(folder: Path, bleu4: float, *, seed: int = 0, rate: float = 0.3) -> Path:
    """Saves the record of a made-up run, and returns its folder."""
    record = training({0: 0.1, 20: bleu4}, steps=20)
    record.config["training"] = {"seed": seed, "learning_rate": rate}
    record.config["output"] = {"output_dir": str(folder)}
    folder.mkdir()
    record.write(folder / "all_results.json")
    return folder


def test_curves_of_one_run_replace_those_in_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of an earlier version gets today's image; its folder and its file name the same."""
    run = save_run(tmp_path / "run", 0.3)
    image = run / "training_curves.png"
    assert curves.command([str(run)]) == 0
    first = image.read_bytes()
    assert capsys.readouterr().out == f"{image}\n"
    assert curves.command([str(run / "all_results.json"), "--output", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").read_bytes() == first


def test_curves_of_several_seeds_are_one_image(tmp_path: Path) -> None:
    """Seeds and folders may differ; the image is written where --output names it."""
    runs = [str(save_run(tmp_path / str(n), 0.3 + n / 100, seed=n)) for n in range(3)]
    assert curves.command([*runs, "--output", str(tmp_path / "seeds.png")]) == 0
    assert (tmp_path / "seeds.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "0" / "training_curves.png").exists()


def test_mean_over_different_trainings_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the file and what differs; so does a missing --output."""
    runs = [save_run(tmp_path / "0", 0.3), save_run(tmp_path / "1", 0.3, seed=1, rate=0.1)]
    words = list(map(str, runs))
    assert curves.command([*words, "--output", str(tmp_path / "a.png")]) == 2
    error = capsys.readouterr().err
    assert f"{runs[1] / 'all_results.json'}: found another training" in error
    assert "training.learning_rate was 0.3, is 0.1" in error
    record = TrainingRecord.read(runs[0] / "all_results.json")
    record.data["train_examples"] = 7
    record.write(tmp_path / "other.json")
    words[1] = str(tmp_path / "other.json")
    assert curves.command([*words, "--output", str(tmp_path / "a.png")]) == 2
    assert "examples.train_examples was 320, is 7" in capsys.readouterr().err
    record.method = "lora"
    record.write(tmp_path / "other.json")
    assert curves.command([*words, "--output", str(tmp_path / "a.png")]) == 2
    assert "method was prompt_tuning, is lora; expected" in capsys.readouterr().err
    assert curves.command([words[0], words[0]]) == 2
    assert "--output: missing" in capsys.readouterr().err


def test_missing_run_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without a record ends with exit code 1."""
    assert curves.command([str(tmp_path)]) == 1
    assert str(tmp_path / "all_results.json") in capsys.readouterr().err
