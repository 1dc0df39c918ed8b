"""Wrong lines in the data of an adapter's training."""

import json

import pytest

from igrag.errors import DataError
from tests.lora_training.training import Trainer


def test_skip_bad_lines_trains_on_the_others(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    """An invalid line is an error; with skip_bad_lines it is skipped, and the number is logged."""
    file = trainer.data / "train.jsonl"
    file.write_text('{"prompt": "a"}\n' + file.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(DataError, match=r'train\.jsonl:1: "caption" is missing'):
        trainer.train("strict")
    output = trainer.train("lenient", data__skip_bad_lines="true", training__num_train_epochs=1)
    assert f"{file}: 1 bad lines skipped, 37 examples read" in capsys.readouterr().err
    results = json.loads((output / "all_results.json").read_text(encoding="utf-8"))
    assert results["data"]["train_examples"] == 37
