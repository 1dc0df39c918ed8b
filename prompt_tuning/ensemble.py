"""An ensemble: several soft prompts around one model that generate one caption together."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from prompt_tuning.prompt_tuner import PromptTuner


class AverageLogits(LogitsProcessor):
    """Replaces the logits of a sequence's copies by their average.

    The copies then choose the same token at every step, by greedy and by beam search.

    Args:
        members: Copies of a sequence, K; they stand next to one another.
        num_beams: Beams of each copy, N.
    """

    def __init__(self, members: int, num_beams: int) -> None:
        self._members = members
        self._num_beams = num_beams

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Returns log-probabilities [B * K * N, V] for logits or log-probabilities."""
        copies = scores.unflatten(0, (-1, self._members, self._num_beams))  # [B, K, N, V]
        # Beam search adds up log-probabilities: an average of them must be normalized again.
        average = copies.mean(dim=1, keepdim=True).log_softmax(dim=-1)  # [B, 1, N, V]
        averaged: Tensor = average.expand_as(copies).flatten(0, 2)
        return averaged


class PromptEnsemble:
    """A model whose logits are averaged over several soft prompts, in one pass over one batch.

    Each sequence is generated in as many copies as there are prompts.

    Args:
        tuner: The model with the prompts.
        names: Their names.
    """

    def __init__(self, tuner: PromptTuner, names: Sequence[str]) -> None:
        self._tuner = tuner
        self._names = list(names)

    @property
    def takes_image_vectors(self) -> bool:
        """Whether any of the prompts has image tokens."""
        return self._tuner.takes_image_vectors

    def generate(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor,
        generation_config: GenerationConfig,
        image_vectors: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """Returns token ids [B, L] for ids and mask [B, T], and perhaps image_vectors [B, D].

        Raises:
            ValueError: The decoding samples: the copies would draw different tokens.
        """
        if generation_config.do_sample:
            raise ValueError("an ensemble cannot sample, expected do_sample to be false")
        members = len(self._names)
        average = AverageLogits(members, generation_config.num_beams or 1)
        vectors = None
        if image_vectors is not None:
            vectors = image_vectors.repeat_interleave(members, dim=0)  # [B * K, D]
        tokens = self._tuner.generate(
            input_ids.repeat_interleave(members, dim=0),  # [B * K, T]
            attention_mask.repeat_interleave(members, dim=0),
            prompts=self._names * len(input_ids),
            image_vectors=vectors,
            generation_config=generation_config,
            logits_processor=LogitsProcessorList([average]),
            **options,
        )
        return tokens[::members]
