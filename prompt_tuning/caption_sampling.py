"""Training prompts whose captions are drawn from the nearest images, in every epoch others.

A model that has seen the captions of farther images, too, trusts retrieval less blindly
(Li et al., arXiv 2406.02265).
"""

from random import Random
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from igrag.captioning.prompt_template import PromptTemplate
from igrag.data.batching import model_columns
from igrag.data.tokenization import source_ids
from igrag.retrieval.knowledge_base import Match


class CaptionSampler:
    """Draws which of the nearest images each prompt of an epoch shows.

    Args:
        examples: What `tokenized_dataset` returned.
        retrieved: What `retrieved_dataset` returned of the same file.
        template: Builds the prompts.
        tokenizer: The model's.
        shown: Similar images in a prompt.
        max_source_length: Longest prompt in tokens.
        seed: A draw depends on this, the epoch and the example's index alone: a resumed run draws
            what the uninterrupted one would have drawn.
    """

    def __init__(
        self,
        examples: Dataset,
        retrieved: Dataset,
        template: PromptTemplate,
        tokenizer: PreTrainedTokenizerBase,
        *,
        shown: int,
        max_source_length: int,
        seed: int,
    ) -> None:
        columns = model_columns(examples.column_names)
        self._others = examples.select_columns([name for name in columns if name != "input_ids"])
        self._retrieved = retrieved
        self._template = template
        self._tokenizer = tokenizer
        self._shown = shown
        self._max_source_length = max_source_length
        self._seed = seed

    def of_epoch(self, epoch: int) -> "SampledExamples":
        """Returns the examples of an epoch."""
        return SampledExamples(self, epoch)

    def __len__(self) -> int:
        return len(self._others)

    def example(self, epoch: int, index: int) -> dict[str, Any]:
        """Returns the input_ids [T] of an example in an epoch, and what else `Collator` reads."""
        ids = source_ids(
            self._tokenizer, self.prompt(epoch, index), max_source_length=self._max_source_length
        )
        return {"input_ids": ids, **self._others[index]}

    def prompt(self, epoch: int, index: int) -> str:
        """Returns an example's prompt with the captions that are drawn for an epoch."""
        nearest = self._retrieved[index]
        count = len(nearest["captions"])
        rng = Random(f"{self._seed}-{epoch}-{index}")
        matches = [
            Match(rank, nearest["similarity"][rank], tuple(nearest["captions"][rank]))
            for rank in sorted(rng.sample(range(count), self._shown))  # the nearest first
        ]
        return self._template.build(
            matches,
            count_tokens=lambda text: len(self._tokenizer(text)["input_ids"]),
            max_tokens=self._max_source_length,
        )


class SampledExamples:
    """The examples of one epoch, for a data loader; see `CaptionSampler`."""

    def __init__(self, sampler: CaptionSampler, epoch: int) -> None:
        self._sampler = sampler
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._sampler)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._sampler.example(self._epoch, index)
