"""Two processes never write one output at once, and a lock ends with its process."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from evaluation import run_evaluation
from igrag.commands import convert_prompt
from igrag.errors import OutputError
from igrag.output_lock import lock_folder
from lora_training import data_builder, train_lora
from prompt_tuning import prompt_training
from tests.command import one_error
from tests.faults.lost_outputs import files, held_by_another

Run = Callable[[Sequence[str]], int]


@pytest.mark.parametrize(
    ("command", "words", "option", "lock"),
    [
        (prompt_training.command, ["--train"], "--output_dir", "lock_folder"),
        (train_lora.command, ["--train"], "--output_dir", "lock_folder"),
        (train_lora.command, ["--build_data"], "--output_data", "lock_folder"),
        (data_builder.command, [], "--output_data", "lock_folder"),
        (run_evaluation.command, [], "--output_dir", "lock_folder"),
        (convert_prompt.command, ["--from_peft", "adapter"], "--output", "lock_beside"),
    ],
    ids=["prompt", "lora", "lora_data", "data", "evaluation", "conversion"],
)
def test_output_of_another_process_is_refused_with_its_name(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    command: Run,
    words: list[str],
    option: str,
    lock: str,
) -> None:
    """The second process exits with 1, names the first and its start, and changes nothing."""
    output = tmp_path / "output"
    with held_by_another(output, lock=lock) as pid:
        before = files(tmp_path)
        assert command([*words, option, str(output)]) == 1
        error = one_error(capfd.readouterr().err)
        assert f"{output}: process {pid} (-c, started 20" in error
        assert f"give another {option}" in error
        assert files(tmp_path) == before


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    """The system frees the lock, and what is left of it goes with the next owner."""
    folder = tmp_path / "new" / "output"
    with held_by_another(folder), pytest.raises(OutputError), lock_folder(folder, option="-o"):
        pytest.fail("two processes hold one folder")
    assert (folder / ".lock").exists()
    with lock_folder(folder, option="-o"), lock_folder(folder, option="-o"):
        assert folder.is_dir()
    assert files(tmp_path) == {} and folder.is_dir()


def test_refused_output_leaves_no_folder(tmp_path: Path) -> None:
    """A folder that the lock has made and nothing was written into is removed again."""
    with lock_folder(tmp_path / "a" / "b", option="-o"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
