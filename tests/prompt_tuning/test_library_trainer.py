"""A PromptTuner inside the library's own Trainer."""

from pathlib import Path

import pytest
import torch
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from igrag.captioning.language_model import LanguageModel
from prompt_tuning.prompt_file import PROMPT_NAME
from prompt_tuning.prompt_tuner import PromptTuner
from tests.prompt_tuning.models import noise, tuner_of


def library_trainer(
    language: LanguageModel, tuner: PromptTuner, output: Path, *, accumulation: int
) -> Trainer:
    """Trains on four short examples, in one optimizer step an epoch."""
    tokens = [[5, 9, 20, 1], [7, 33, 1], [8, 21, 22, 1], [6, 1]]
    examples = [{"input_ids": ids, "labels": ids} for ids in tokens]
    return Trainer(
        model=tuner,
        args=TrainingArguments(
            output_dir=str(output),
            num_train_epochs=1,
            per_device_train_batch_size=4 // accumulation,
            gradient_accumulation_steps=accumulation,
            learning_rate=0.1,
            optim="sgd",
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=0,
        ),
        train_dataset=examples,
        data_collator=DataCollatorForSeq2Seq(language.tokenizer, padding=True),
    )


def test_library_trainer_changes_the_prompt_alone(language: LanguageModel, tmp_path: Path) -> None:
    """The frozen model stays, and what is saved is the prompt file."""
    tuner = tuner_of(language, noise(4))
    before = {name: value.clone() for name, value in tuner.state_dict().items()}
    library_trainer(language, tuner, tmp_path, accumulation=1).train()
    changed = {name for name, value in tuner.state_dict().items()
               if not torch.equal(value, before[name])}  # fmt: skip
    assert changed == {"prompt_embeddings"}
    tuner.save_pretrained(tmp_path / "prompt")
    again = PromptTuner.from_pretrained(language.model, tmp_path / "prompt")
    assert (tmp_path / "prompt" / PROMPT_NAME).is_file()
    assert torch.equal(again.plain_prompt(), tuner.plain_prompt())


@pytest.mark.slow
def test_accumulated_gradients_are_not_larger(language: LanguageModel, tmp_path: Path) -> None:
    """The Trainer divides by the accumulation steps: T5's loss is a mean, whatever it is given."""
    moved = []
    for accumulation in (1, 2):
        tuner = tuner_of(language, noise(4))
        before = tuner.plain_prompt()
        library_trainer(language, tuner, tmp_path, accumulation=accumulation).train()
        moved.append(float((tuner.plain_prompt() - before).norm()))
    assert moved[1] == pytest.approx(moved[0], rel=0.3)  # Means of halves differ from the mean.
