"""Prints how long trainings took, and which of their validations was good enough first.

    python benchmarks/training_times.py prompt_tuning/checkpoints lora_training/checkpoints

Reads all_results.json in the output folders of finished trainings.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from igrag.training.checkpoints import RESULTS_NAME
from igrag.training.record import TrainingRecord

MARGIN = 0.01  # BLEU-4 below the best that counts as good enough.


def main(words: Sequence[str] | None = None) -> int:
    """Prints a row for each training."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    print("| trained | parameters | steps | training | validations | best BLEU-4 | within 0.01 |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for folder in parser.parse_args(words).folders:
        print(row(TrainingRecord.read(folder / RESULTS_NAME)))
    return 0


def row(record: TrainingRecord) -> str:
    """Returns a training's row: its times, its best score, and the first within `MARGIN` of it."""
    scored = [found for found in record.evaluations if found.step]  # Without the untuned model.
    best = max(found.bleu4 for found in scored)
    first = next(found for found in scored if found.bleu4 >= best - MARGIN)
    steps = {step.step: step.seconds for step in record.history}
    validating = sum(found.seconds for found in record.evaluations)
    training = max(steps.values()) - sum(found.seconds for found in scored[:-1])
    on_lora = record.config.get("model", {}).get("lora_weights_path")
    cells = (
        record.method + (" on LoRA" if on_lora else ""),
        f"{record.model.trainable_parameters:,}",
        str(len(record.history)),
        f"{training:.0f} s",
        f"{validating:.0f} s",
        f"{best:.3f}",
        f"step {first.step}: {first.bleu4:.3f}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
