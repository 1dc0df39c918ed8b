"""Stands in for a training of a sweep: validations of made-up scores, within a second.

Usage: python tests/prompt_tuning/sweep_child.py LOCK [options of prompt_training.py ...]
Validation k of 4 scores k/4 of the learning rate. A learning rate above 0.9 fails. It waits before
its second validation while the sweep's folder holds a file called wait.
"""

import os
import sys
import time
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from igrag.training.record import TrainingRecord
from prompt_tuning import prompt_training
from prompt_tuning.settings import PromptTrainingSettings
from prompt_tuning.sweep import child
from tests.trainings import evaluation, training

VALIDATIONS = 4


def train(words: list[str]) -> int:
    """Writes the record of a training that resumes where it was."""
    options = dict(zip(words[1::2], words[2::2], strict=True))  # after --train
    folder, config = Path(options["--output_dir"]), Path(options["--config"])
    rate = PromptTrainingSettings.load(config, []).training.learning_rate
    results, sweep = folder / "all_results.json", folder.parents[2]
    record = training({0: 0.01})
    record.config["training"] = {"num_train_epochs": VALIDATIONS}
    if results.is_file():
        record = TrainingRecord.read(results)
    with (folder / "starts").open("a") as starts:
        starts.write(f"{os.getpid()} {len(record.evaluations)}\n")
    for number in range(len(record.evaluations), VALIDATIONS + 1):
        while number > 1 and (sweep / "wait").exists():
            time.sleep(0.05)
        if rate > 0.9:
            print("error: step 20: the validation loss is nan", file=sys.stderr)
            return 1
        record.evaluations.append(evaluation(20 * number, rate * number / VALIDATIONS))
        record.write(results)
        time.sleep(0.2)
    return 0


if __name__ == "__main__":
    with patch.object(prompt_training, "command", train):
        sys.exit(child.main(sys.argv[1], sys.argv[2:]))
