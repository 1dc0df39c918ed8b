"""The library's Seq2SeqTrainer, put right where it would be silently wrong for this training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import (
    EvalPrediction,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

from igrag.captioning.adapters import BaseModelIdentity
from igrag.captioning.generator import clean_texts
from igrag.data.batching import LABEL_IGNORED, Collator, LengthGroupedBatches
from igrag.metrics import bleu


class AdapterTrainer(Seq2SeqTrainer):  # type: ignore[misc]
    """Trains the adapter and scores what the model writes with it.

    What differs from the library's:

    - a step's loss is the mean over the target tokens of all its batches. The library leaves
      that to the model, and T5 returns the mean over its own batch: with accumulation over N
      batches gradients and losses would be N times too large.
    - The order of the examples depends on seed and epoch alone. The library's length grouping
      draws it from the global random state, which is not restored before a training goes on in the
      middle of an epoch: some examples would come twice and others never.
    - Validation goes from the longest prompt to the shortest, as `longest_first` put them, so that
      captions can be laid beside their references.
    - A checkpoint has the adapter alone, without a pickle of the arguments.

    Args:
        model: The frozen model with its adapter.
        args: How to train.
        train: What `tokenized_dataset` returned.
        val: The same, put in order by `longest_first`.
        tokenizer: The model's.
        base: What is below the adapter.
        callback: Is told what happens.
    """

    def __init__(
        self,
        model: PeftModel,
        args: Seq2SeqTrainingArguments,
        *,
        train: Dataset,
        val: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        base: BaseModelIdentity,
        callback: TrainerCallback,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            data_collator=Collator(tokenizer.pad_token_id),
            train_dataset=train.select_columns(["input_ids", "labels"]),
            eval_dataset=val.select_columns(["input_ids", "labels"]),
            compute_metrics=Scorer(val, tokenizer),
            callbacks=[callback],
        )
        self._base = base
        self.remove_callback(PrinterCallback)  # Prints every step's figures as a dict.
        self._order = _Order(
            train["source_length"][:], batch_size=args.per_device_train_batch_size, seed=args.seed
        )

    def compute_loss(
        self,
        model: Any,
        inputs: Mapping[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """Returns a batch's share of its update's mean cross-entropy of a target token.

        Args:
            model: The model, or what the library wrapped it in.
            inputs: input_ids and attention_mask [B, T], labels [B, L].
            return_outputs: Return (loss, outputs).
            num_items_in_batch: Target tokens of the whole step; None: of this batch.
        """
        labels = inputs["labels"]
        sources = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        shifted = self.model.prepare_decoder_input_ids_from_labels(labels)
        outputs = model(**sources, decoder_input_ids=shifted)
        total = cross_entropy(
            outputs.logits.flatten(0, 1).float(),  # [B * L, V]
            labels.flatten(),
            ignore_index=LABEL_IGNORED,
            reduction="sum",
        )
        tokens = (labels != LABEL_IGNORED).sum()
        loss = total / (tokens if num_items_in_batch is None else num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def get_train_dataloader(self) -> Any:
        """Returns batches of about equal length, in another order each epoch."""
        return self.accelerator.prepare(
            DataLoader(
                self.train_dataset,
                batch_sampler=self._order,
                collate_fn=self.data_collator,
            )
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Returns the validation examples in their order."""
        return self.accelerator.prepare(
            DataLoader(
                self.eval_dataset if eval_dataset is None else eval_dataset,
                batch_size=self.args.per_device_eval_batch_size,
                collate_fn=self.data_collator,
            )
        )

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Writes the adapter in PEFT's format, and beside it which model it is for."""
        folder = Path(output_dir or self.args.output_dir)
        # "auto" would look for the model's config on the hub.
        self.model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # An empty form for a model card.
        self._base.write(folder)


class Scorer:
    """Turns what the trainer gathered of a validation into its figures.

    Args:
        val: The validation set in the order of its batches.
        tokenizer: The model's.
    """

    def __init__(self, val: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        self._references: Sequence[list[str]] = val["references"][:]
        self._target_lengths = np.array([len(labels) for labels in val["labels"][:]])
        self._tokenizer = tokenizer

    def __call__(self, gathered: EvalPrediction) -> dict[str, float]:
        """Returns BLEU-1 to 4 and the mean cross-entropy of a target token, in nats.

        The trainer's own loss is a mean of the batches' means, in which the tokens of short
        captions weigh more.
        """
        # For each example the mean of its batch; more of them behind a last, short batch.
        losses = np.asarray(gathered.losses)[: len(self._target_lengths)]
        tokens = torch.from_numpy(np.asarray(gathered.predictions))  # [N, L]
        padding = tokens == LABEL_IGNORED  # between batches of different widths
        tokens = tokens.masked_fill(padding, self._tokenizer.pad_token_id)
        found = bleu(clean_texts(self._tokenizer, tokens), self._references)
        return {
            "token_loss": float(np.average(losses, weights=self._target_lengths)),
            "bleu1": found.bleu1,
            "bleu2": found.bleu2,
            "bleu3": found.bleu3,
            "bleu4": found.bleu4,
        }


def longest_first(dataset: Dataset) -> Dataset:
    """Orders examples by their prompts' lengths: little padding, and memory is needed at once."""
    lengths = dataset["source_length"][:]
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    return dataset.select(order)


class _Order(LengthGroupedBatches):
    """Batches that the trainer tells the epoch, at its beginning and before it goes on."""

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
