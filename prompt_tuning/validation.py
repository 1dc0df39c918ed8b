"""Validation: loss and captions of the held-out examples, with one pass through the encoder."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import GenerationConfig, PreTrainedTokenizerBase

from igrag.captioning.generator import clean_texts
from igrag.captioning.validation_batch import batch_loss, loss_and_tokens
from igrag.data.batching import Collator, longest_first_order, model_columns, target_lengths
from igrag.data.workers import prepare_worker
from igrag.errors import TrainingError
from igrag.memory import explain_out_of_memory
from igrag.metrics import BleuScore, bleu
from prompt_tuning.global_batches import Batch
from prompt_tuning.prompt_tuner import PromptTuner


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """Loss per target token, BLEU, the captions in the examples' order, and the seconds taken."""

    loss: float
    bleu: BleuScore
    captions: list[str]
    seconds: float


class Validation:
    """Scores a prompt on held-out examples, whose batches the processes share.

    Args:
        dataset: What `tokenized_dataset` returned.
        tokenizer: Decodes the generated captions.
        decoding: How captions are generated.
        batch_size: Captions generated at once.
        accelerator: Connects the processes.
        collator: Pads examples to a batch; None for the tokenizer's.
        workers: Data-loading processes, which prepare the next batches.
        is_sharded: All processes must run the model equally often: empty batches fill the shares,
            and generation goes on until all have ended.
    """

    def __init__(
        self,
        dataset: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        decoding: GenerationConfig,
        *,
        batch_size: int,
        accelerator: Accelerator,
        collator: Collator | None = None,
        workers: int = 0,
        is_sharded: bool = False,
    ) -> None:
        self._examples = dataset.select_columns(model_columns(dataset.column_names))
        self._references: Sequence[list[str]] = dataset["references"][:]
        self._image_ids: Sequence[str] = dataset["image_id"][:]
        self._target_tokens = sum(target_lengths(dataset))
        self._tokenizer = tokenizer
        self._collator = collator or Collator(tokenizer.pad_token_id)
        self._decoding = decoding
        self._accelerator = accelerator
        self._batch_size = batch_size
        self._workers = workers
        self._options: dict[str, Any] = {"synced_gpus": True} if is_sharded else {}
        order = longest_first_order(dataset["source_length"][:])
        self._batches = [
            order[start : start + batch_size] for start in range(0, len(order), batch_size)
        ]
        if is_sharded:
            self._batches += [[]] * (-len(self._batches) % accelerator.num_processes)

    def score(self, tuner: PromptTuner, *, title: str) -> ValidationResult:
        """Scores the prompt as it is; every process gets the whole result.

        Args:
            tuner: The prompt with its model; disabled for the base model.
            title: Description of the progress bar.

        Raises:
            TrainingError: The loss is not finite.
        """
        started = time.perf_counter()
        scored: list[tuple[float, list[int], list[str]]] = []
        was_training = tuner.training
        tuner.eval()
        for indices, batch in self._load(title):
            loss, texts = self._score_batch(tuner, batch)
            scored.append((loss, indices, texts))
        tuner.train(was_training)
        captions = [""] * len(self._references)
        total = 0.0
        # Sorted: the sum must not depend on which process scored which batch.
        for loss, indices, texts in sorted(gather_object(scored), key=lambda batch: batch[1]):
            total += loss
            for index, text in zip(indices, texts, strict=bool(indices)):  # An empty batch has one.
                captions[index] = text
        if not math.isfinite(total):
            raise TrainingError(
                f"{title}: the validation loss is {total}; lower training.learning_rate, "
                "or resume with --dtype float32"
            )
        return ValidationResult(
            loss=total / self._target_tokens,
            bleu=bleu(captions, self._references),
            captions=captions,
            seconds=time.perf_counter() - started,
        )

    def loss(self, tuner: PromptTuner, *, title: str) -> float:
        """Returns the loss per target token alone; see `score`, for one process."""
        total = sum(
            self._score_batch(tuner, batch, generate=False)[0] for _, batch in self._load(title)
        )
        return total / self._target_tokens

    def coco_results(self, captions: Sequence[str]) -> list[dict[str, str | int]]:
        """Returns captions in COCO's results format; the index replaces a missing image id."""
        pairs = zip(self._image_ids, captions, strict=True)
        return [
            {"image_id": _coco_id(image_id, index), "caption": caption}
            for index, (image_id, caption) in enumerate(pairs)
        ]

    def _load(self, title: str) -> Iterator[tuple[list[int], Batch]]:
        accelerator = self._accelerator
        share = self._batches[accelerator.process_index :: accelerator.num_processes]
        hidden = not accelerator.is_main_process
        loader: DataLoader[Batch] = DataLoader(
            cast(Any, self._examples),
            batch_sampler=share,
            collate_fn=self._collator,
            num_workers=self._workers,
            worker_init_fn=prepare_worker,
            pin_memory=torch.cuda.is_available(),
        )
        bar = tqdm(loader, desc=title, unit="batch", leave=False, disable=hidden or None)
        for indices, batch in zip(share, bar, strict=True):
            yield indices, send_to_device(batch, accelerator.device, non_blocking=True)

    @torch.no_grad()
    def _score_batch(
        self, tuner: PromptTuner, batch: Batch, *, generate: bool = True
    ) -> tuple[float, list[str]]:
        key = "evaluation.per_device_eval_batch_size"
        with self._accelerator.autocast(), explain_out_of_memory(key, self._batch_size):
            encoded = tuner.encode(
                batch["input_ids"],
                batch["attention_mask"],
                image_vectors=batch.get("image_vectors"),
            )
            if not generate:
                return batch_loss(tuner.model, *encoded, batch["labels"]), []
            loss, tokens = loss_and_tokens(
                tuner.model,
                *encoded,
                batch["labels"],
                generation_config=self._decoding,
                **self._options,
            )
        return loss, clean_texts(self._tokenizer, tokens)


def _coco_id(image_id: str, index: int) -> str | int:
    if not image_id:
        return index
    return int(image_id) if image_id.isdecimal() else image_id
