"""Validation: loss and captions of the held-out examples, with one pass through the encoder."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from datasets import Dataset
from tqdm import tqdm
from transformers import GenerationConfig

from igrag.captioning.generator import clean_texts
from igrag.data.batching import Collator
from igrag.errors import TrainingError
from igrag.metrics import BleuScore, bleu
from prompt_tuning.global_batches import Batch, target_lengths
from prompt_tuning.optimization import token_losses
from prompt_tuning.prompt_tuner import PromptTuner


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """Loss per target token, BLEU, the captions in the examples' order, and the seconds taken."""

    loss: float
    bleu: BleuScore
    captions: list[str]
    seconds: float


class Validation:
    """Scores a prompt on held-out examples, shared out over the processes.

    Args:
        dataset: What `tokenized_dataset` returned.
        collator: Pads examples to a batch.
        decoding: How captions are written.
        batch_size: Captions written at once.
        accelerator: Knows the other processes.
    """

    def __init__(
        self,
        dataset: Dataset,
        collator: Collator,
        decoding: GenerationConfig,
        *,
        batch_size: int,
        accelerator: Accelerator,
    ) -> None:
        self._rows = dataset.select_columns(["input_ids", "labels"])
        self._references: Sequence[list[str]] = dataset["references"][:]
        self._image_ids: Sequence[str] = dataset["image_id"][:]
        self._target_tokens = sum(target_lengths(dataset))
        self._collator = collator
        self._decoding = decoding
        self._accelerator = accelerator
        lengths = dataset["source_length"][:]
        order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
        self._batches = [
            order[start : start + batch_size] for start in range(0, len(order), batch_size)
        ]

    def score(self, tuner: PromptTuner, *, title: str) -> ValidationResult:
        """Scores the prompt as it is; every process gets the whole result.

        Args:
            tuner: Behind its prompt, or disabled for the base model.
            title: What the progress bar says.

        Raises:
            TrainingError: The loss is not finite.
        """
        started = time.perf_counter()
        mine: list[tuple[float, list[int], list[str]]] = []
        was_training = tuner.training
        tuner.eval()
        for places, batch in self._load(title):
            loss, texts = self._score_batch(tuner, batch)
            mine.append((loss, places, texts))
        tuner.train(was_training)
        captions = [""] * len(self._references)
        total = 0.0
        # In the batches' own order: the sum must not depend on how they were shared out.
        for loss, places, texts in sorted(gather_object(mine), key=lambda result: result[1]):
            total += loss
            for place, text in zip(places, texts, strict=True):
                captions[place] = text
        if not math.isfinite(total):
            raise TrainingError(
                f"{title}: the validation loss is {total}; lower training.learning_rate, "
                "or go on with --dtype float32"
            )
        return ValidationResult(
            loss=total / self._target_tokens,
            bleu=bleu(captions, self._references),
            captions=captions,
            seconds=time.perf_counter() - started,
        )

    def coco_results(self, captions: Sequence[str]) -> list[dict[str, str | int]]:
        """Puts captions into COCO's results format; without an image id the place stands for it."""
        return [
            {"image_id": _coco_id(image_id, place), "caption": caption}
            for place, (image_id, caption) in enumerate(zip(self._image_ids, captions, strict=True))
        ]

    def _load(self, title: str) -> Iterator[tuple[list[int], Batch]]:
        accelerator = self._accelerator
        mine = self._batches[accelerator.process_index :: accelerator.num_processes]
        hidden = not accelerator.is_main_process
        for places in tqdm(mine, desc=title, unit="batch", leave=False, disable=hidden or None):
            batch = self._collator([self._rows[place] for place in places])
            yield places, send_to_device(batch, accelerator.device)

    @torch.no_grad()
    def _score_batch(self, tuner: PromptTuner, batch: Batch) -> tuple[float, list[str]]:
        with self._accelerator.autocast():
            states, mask = tuner.encode(batch["input_ids"], batch["attention_mask"])
            logits = tuner.forward_from(states, mask, batch["labels"]).logits
            tokens = tuner.generate_from(states, mask, generation_config=self._decoding)
        loss = float(token_losses(logits, batch["labels"]))
        return loss, clean_texts(tuner.tokenizer, tokens)


def _coco_id(image_id: str, place: int) -> str | int:
    if not image_id:
        return place
    return int(image_id) if image_id.isdecimal() else image_id
