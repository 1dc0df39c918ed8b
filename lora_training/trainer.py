"""transformers' Seq2SeqTrainer, corrected where it would be silently wrong for this training."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import gather_object
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedTokenizerBase,
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)
from transformers.trainer_utils import EvalLoopOutput

from igrag.captioning.adapters import BaseModelIdentity
from igrag.captioning.generator import clean_texts
from igrag.captioning.validation_batch import loss_and_tokens
from igrag.data.batching import (
    LABEL_IGNORED,
    Collator,
    LengthGroupedBatches,
    longest_first_order,
    target_lengths,
)
from igrag.files import atomic_directory
from igrag.memory import explain_out_of_memory
from igrag.metrics import bleu
from igrag.training.checkpoints import checkpoint_name
from igrag.training.interruption import Interrupted
from igrag.training.loss import head_on_targets, summed_cross_entropy
from igrag.training.shared_steps import any_process
from igrag.training.trackers import Reporter, Sample, make_reporter
from lora_training.adapter import enter_training
from lora_training.callbacks import RecordCallback

_EVAL_BATCH_SIZE = "training.per_device_eval_batch_size"


class AdapterTrainer(Seq2SeqTrainer):
    """Trains the adapter and scores the captions that the model generates with it.

    Differences from the library's Trainer:

    - A step's loss is the mean over the target tokens of its global batch, over all processes. The
      library leaves the mean to the model, and T5 returns that of a micro-batch: with N accumulated
      micro-batches, gradients and losses would be N times too large.
    - The frozen model does not drop out, unless asked to.
    - The order of the examples depends on seed and epoch alone, and so does each global batch: its
      micro-batches are dealt out to the processes in turn. The library's length grouping draws the
      order from the global random state, which is not yet restored when a run resumes in the middle
      of an epoch: some examples would come twice and others never.
    - No example is scored or trained on twice to give every process as many: see `SharedBatches`.
    - A checkpoint holds the adapter alone, without a pickle of the arguments, and appears as a
      whole; the first process writes it.
    - A signal ends a validation of a single process at once, after a checkpoint without it was
      saved.

    Args:
        model: The frozen model with its adapter.
        args: The library's arguments.
        train: Training examples, see `tokenized_dataset`.
        val: Validation examples, sorted by `longest_first`.
        tokenizer: The model's tokenizer.
        base: The base model, for the checkpoints.
        callback: Receives the Trainer's events, and writes the record into each checkpoint.
        model_dropout: Whether the frozen model drops out, too, see `enter_training`.
        samples: The first validation examples, whose captions the tracker gets, if there is one.
        more_callbacks: Further ones of the library's callbacks.
    """

    # The library's attributes, which its own types leave open.
    model: PeftModel
    train_dataset: Dataset
    eval_dataset: Dataset

    def __init__(
        self,
        model: PeftModel,
        args: Seq2SeqTrainingArguments,
        *,
        train: Dataset,
        val: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        base: BaseModelIdentity,
        callback: RecordCallback,
        model_dropout: bool = False,
        samples: Sequence[Sample] = (),
        more_callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self._scorer = Scorer(val, tokenizer)
        super().__init__(
            model=model,
            args=args,
            data_collator=Collator(tokenizer.pad_token_id),
            train_dataset=train.select_columns(["input_ids", "labels"]),
            eval_dataset=val.select_columns(["input_ids", "labels"]),
            callbacks=[*more_callbacks, callback],
        )
        self._base = base
        self._callback = callback
        self._model_dropout = model_dropout
        self._samples = samples
        self._reporter: Reporter | None = None
        self._checkpoint_parent = args.output_dir
        self.remove_callback(PrinterCallback)  # It prints the logs of every step as a dict.
        self._batches = SharedBatches(
            train["source_length"][:],
            target_lengths(train),
            batch_size=args.per_device_train_batch_size,
            seed=args.seed,
            rank=args.process_index,
            processes=args.world_size,
        )
        callback.any_process = partial(any_process, self.accelerator)

    def compute_loss(
        self,
        model: Any,
        inputs: Mapping[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Returns a micro-batch's share of the global batch's mean cross-entropy per target token.

        It is multiplied by the number of processes, over which the library averages gradients and
        losses: so they are summed.

        Args:
            model: The model, or the library's wrapper around it.
            inputs: input_ids and attention_mask [B, T], labels [B, L].
            return_outputs: Return (loss, outputs).
            num_items_in_batch: Target tokens of the global batch; None: of this micro-batch.
        """
        enter_training(self.model, model_dropout=self._model_dropout)  # Undoes the Trainer's.
        labels = inputs["labels"]
        sources = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        whole = return_outputs
        with head_on_targets(self.model, labels, whole=whole) as (decoder_input_ids, targets):
            outputs = model(**sources, decoder_input_ids=decoder_input_ids)
        total = summed_cross_entropy(outputs.logits, targets)
        if num_items_in_batch is None:
            loss = total / (labels != LABEL_IGNORED).sum()
        else:
            loss = total * self.args.world_size / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

    def get_train_dataloader(self) -> Any:
        """Returns this process's batches of about equal length, in another order each epoch."""
        loader = DataLoader(
            self.train_dataset, batch_sampler=self._batches, collate_fn=self.data_collator
        )
        # One process's: the batch sampler has dealt them out already.
        return prepare_data_loader(
            loader, self.args.device, num_processes=1, process_index=0, put_on_device=True
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Returns this process's batches of the validation examples."""
        examples = self.eval_dataset if eval_dataset is None else eval_dataset
        size, count = self.args.per_device_eval_batch_size, len(examples)
        batches = [[*range(start, min(start + size, count))] for start in range(0, count, size)]
        return DataLoader(
            examples,
            batch_sampler=batches[self.args.process_index :: self.args.world_size],
            collate_fn=self.data_collator,
        )

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Scores this process's batches, and returns the scores of all processes' batches.

        The library's own loop gives every process as many batches by scoring some examples twice,
        and averages the losses over batches, which gives the tokens of short captions more weight.
        """
        self.model.eval()
        scored = []
        for inputs in dataloader:
            scored.append(self._score_batch(self._prepare_inputs(inputs)))
            self.control = self.callback_handler.on_prediction_step(
                self.args, self.state, self.control
            )
        shares: list[list[ScoredBatch]] = gather_object([scored])
        metrics = {
            f"{metric_key_prefix}_{name}": value for name, value in self._scorer(shares).items()
        }
        return EvalLoopOutput(np.empty(0), None, metrics, num_samples=len(self.eval_dataset))

    @torch.no_grad()
    def _score_batch(self, inputs: Mapping[str, Tensor]) -> "ScoredBatch":
        """Scores a batch of the validation; an error of memory names the setting to lower."""
        key, labels, mask = _EVAL_BATCH_SIZE, inputs["labels"], inputs["attention_mask"]
        size = self.args.per_device_eval_batch_size
        with self.accelerator.autocast(), explain_out_of_memory(key, size):
            encoder = self.model.get_encoder()
            states = encoder(inputs["input_ids"], attention_mask=mask).last_hidden_state
            loss, tokens = loss_and_tokens(self.model, states, mask, labels)
        count = int((labels != LABEL_IGNORED).sum())
        return ScoredBatch(loss, count, self._scorer.decode(tokens))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the adapter in PEFT's format, with base_model.json next to it."""
        folder = Path(output_dir or cast(str, self.args.output_dir))
        # "auto" would look for the model's config on the hub.
        self.model.save_pretrained(str(folder), save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # An empty model card.
        self._base.write(folder)

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """Evaluates as the library does; a signal ends it, and the steps before it are saved.

        The data loader draws from the random state that dropout continues with: a checkpoint
        without its validation holds the state before it, one with it the state after it.
        """
        step = self.state.global_step
        resumed_from = self._callback.resumed_checkpoint(step)
        if resumed_from is not None:
            self._load_rng_state(str(resumed_from))
        before = torch.get_rng_state()
        try:
            with self._callback.interruption.at_once(alone=self.args.world_size == 1):
                metrics = super().evaluate(*arguments, **options)
        except Interrupted:
            if self._callback.saves_interruption_at(step):
                torch.set_rng_state(before)
                self._save_checkpoint(self.model, None)
                self.callback_handler.on_save(self.args, self.state, self.control)
            raise
        self._report_captions(step)
        if resumed_from is not None:
            if self.is_world_process_zero():
                with atomic_directory(resumed_from) as folder:
                    shutil.copytree(resumed_from, folder, dirs_exist_ok=True)
                    self._save_rng_state(str(folder))
                    self._callback.write_record(folder)
            self._callback.after_resumed_validation(step)
        return metrics

    def report_files(self, paths: Sequence[Path]) -> None:
        """Reports the final files, where the tracker takes files."""
        if self._reporter is not None:
            self._reporter.files([path for path in paths if path.exists()])

    def _report_captions(self, step: int) -> None:
        if not self._samples or not self.is_world_process_zero():
            return
        if self._reporter is None:  # Only now has the tracker's own callback started a run.
            found = (getattr(each, "tb_writer", None) for each in self.callback_handler.callbacks)
            events = next((each for each in found if each is not None), None)
            names = cast("list[str]", self.args.report_to)
            self._reporter = make_reporter(names[0], events) if names else None
        if self._reporter is not None:
            self._reporter.captions(self._samples, self._scorer.captions, step)

    def store_flos(self) -> None:
        """Counts operations, of a single process: the first of several saves without the others."""
        if self.args.world_size == 1:
            super().store_flos()

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.is_world_process_zero():
            self._write_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # No process goes on before the checkpoint exists.

    def _write_checkpoint(self, model: Any, trial: Any) -> None:
        name = checkpoint_name(self.state.global_step)
        with atomic_directory(Path(cast(str, self.args.output_dir)) / name) as folder:
            self._checkpoint_parent = str(folder)
            super()._save_checkpoint(model, trial)
            for path in (folder / name).iterdir():
                path.replace(folder / path.name)
            (folder / name).rmdir()
            self._callback.write_record(folder)

    def _save_rng_state(self, output_dir: str) -> None:
        """Saves the first process's random state, under one name for any number of processes.

        Several processes seed each step instead, see `RecordCallback.on_step_begin`.
        """
        super()._save_rng_state(output_dir)
        if self.args.world_size > 1:
            (Path(output_dir) / "rng_state_0.pth").replace(Path(output_dir) / "rng_state.pth")

    def _get_output_dir(self, trial: Any) -> str:
        return cast(str, self._checkpoint_parent)


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """A validation batch: its summed loss in nats, its target tokens, and its captions."""

    loss: float
    target_tokens: int
    captions: list[str]


class Scorer:
    """Computes a validation's scores from its batches.

    Args:
        val: The validation examples, in the order of the batches.
        tokenizer: The model's tokenizer.

    Attributes:
        captions: Those of the last validation, in the examples' order.
    """

    def __init__(self, val: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        self._references: Sequence[list[str]] = val["references"][:]
        self._tokenizer = tokenizer
        self.captions: list[str] = []

    def decode(self, tokens: Tensor) -> list[str]:
        """Returns the captions of generated tokens [B, L]."""
        return clean_texts(self._tokenizer, tokens)

    def __call__(self, shares: Sequence[Sequence[ScoredBatch]]) -> dict[str, float]:
        """Returns BLEU-1 to 4 and the mean cross-entropy per target token, in nats.

        Args:
            shares: The batches of each process, to which they were dealt out in turn.
        """
        batches = [batch for turn in zip_longest(*shares) for batch in turn if batch is not None]
        self.captions = [caption for batch in batches for caption in batch.captions]
        loss = sum(batch.loss for batch in batches) / sum(batch.target_tokens for batch in batches)
        found = bleu(self.captions, self._references)
        return {
            "loss": loss,
            "token_loss": loss,  # as in the event files of runs that earlier versions started
            "bleu1": found.bleu1,
            "bleu2": found.bleu2,
            "bleu3": found.bleu3,
            "bleu4": found.bleu4,
        }


def longest_first(dataset: Dataset) -> Dataset:
    """Sorts examples by prompt length: little padding, and the peak of memory comes first."""
    return dataset.select(longest_first_order(dataset["source_length"][:]))


class SharedBatches(LengthGroupedBatches):
    """One process's share of an epoch's batches.

    The batches are dealt out in turn. Where they do not go round, an empty one fills the last turn:
    every process must take part in every step.

    Args:
        sources, targets, batch_size, seed: See `LengthGroupedBatches`.
        rank: This process's number.
        processes: How many there are.
    """

    def __init__(
        self,
        sources: Sequence[int],
        targets: Sequence[int],
        *,
        batch_size: int,
        seed: int,
        rank: int,
        processes: int,
    ) -> None:
        super().__init__(sources, targets, batch_size=batch_size, seed=seed)
        self._rank, self._processes = rank, processes

    def __len__(self) -> int:
        return -(-super().__len__() // self._processes)

    def __iter__(self) -> Iterator[list[int]]:
        share = list(super().__iter__())[self._rank :: self._processes]
        return iter(share if len(share) == len(self) else [*share, []])

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch; the Trainer calls it by this name, also when it resumes."""
        self.epoch = epoch
