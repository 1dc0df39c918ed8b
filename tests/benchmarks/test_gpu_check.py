"""The check of a GPU, by its dry run on the CPU: the quick parts."""

import argparse
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check
from igrag.files import read_json


@pytest.fixture
def arguments(tmp_path: Path) -> argparse.Namespace:
    """The options of a dry run."""
    return argparse.Namespace(output=tmp_path, dry_run=True, seconds=300.0)


@pytest.mark.slow
def test_quick_parts_run(arguments: argparse.Namespace) -> None:
    """The parts that start no other process find something on a CPU, too."""
    assert gpu_check.environment(arguments)["dry_run"] is True
    assert gpu_check.same_loss(arguments)["relative_difference"] == 0
    assert gpu_check.captioning(arguments)["greedy_captions_per_second"] > 0
    assert 0 <= gpu_check.idle_share(arguments)["idle_share"] <= 1


def test_part_that_fails_is_reported_and_others_run(
    arguments: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files have what was measured; the exit code is 1."""

    def broken(_: argparse.Namespace) -> gpu_check.Figures:
        raise ValueError("no memory")

    def late(_: argparse.Namespace) -> gpu_check.Figures:
        return {"speed": 3, "table": "| a |\n|---|\n"}

    monkeypatch.setattr(gpu_check, "PARTS", (broken, late))
    monkeypatch.setattr(gpu_check, "_parse", lambda: arguments)
    assert gpu_check.main() == 1
    found = read_json(arguments.output / "gpu_check.json")
    assert found["broken"]["error"] == "ValueError: no memory" and found["late"]["speed"] == 3
    assert "| late | speed | 3 |" in (arguments.output / "gpu_check.md").read_text()


def test_machine_without_a_gpu_is_told(
    arguments: argparse.Namespace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is measured on a CPU by mistake."""
    arguments.dry_run = False
    monkeypatch.setattr(gpu_check, "_parse", lambda: arguments)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main() == 1
    assert "no CUDA device; give --dry_run" in capsys.readouterr().err
