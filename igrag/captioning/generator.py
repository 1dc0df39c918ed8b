"""Generates captions from prompts with a frozen seq2seq model; sampling is seeded."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from igrag.captioning import shared_cross_attention
from igrag.data.text_length import cut_text
from igrag.data.unknown_tokens import NOTICEABLE, unknown_shares
from igrag.memory import explain_out_of_memory

logger = logging.getLogger(__name__)
# The unit vector [D] of each image.
Vectors = Sequence[NDArray[np.float32] | None]


@dataclass(frozen=True, slots=True)
class Decoding:
    """How captions are decoded; the names are those of transformers' GenerationConfig.

    A key that is added to `generation_config` in the schema needs its field here, and no more.
    """

    max_new_tokens: int = 40
    num_beams: int = 4
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0

    def to_generation_config(self, model: PreTrainedModel) -> GenerationConfig:
        """Builds the library's config, with the model's ids."""
        options = asdict(self)
        if not self.do_sample:
            del options["temperature"], options["top_p"]
        else:
            options["top_k"] = 0  # The library's default of 50 would cut silently.
        if self.num_beams == 1:
            del options["length_penalty"]
        return GenerationConfig(**options, **_ids(model))


class GenerativeModel(Protocol):
    """What generates tokens: the model itself, or the model with the soft prompt prepended.

    One whose `takes_image_vectors` is true also gets image_vectors [B, D].
    """

    def generate(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor,
        generation_config: GenerationConfig,
        **options: Any,
    ) -> Tensor:
        """Returns token ids [B, L] for ids and mask [B, T]."""
        ...


def generate_tokens(model: GenerativeModel, **inputs: Any) -> Tensor:
    """Generates from ids and mask [B, T]; a model of the library computes no beam's work twice.

    Args:
        model: What generates.
        inputs: As its `generate` takes them.

    Returns:
        Token ids [B, L].
    """
    if not hasattr(model, "get_encoder"):  # Of the project's own, or on another engine.
        return model.generate(**inputs)
    encoder_inputs = {name: inputs.pop(name) for name in ("input_ids", "attention_mask")}
    return shared_cross_attention.generate(model, encoder_inputs, **inputs)


def takes_image_vectors(model: GenerativeModel) -> bool:
    """Returns whether a model generates from the vectors of the images, too."""
    return bool(getattr(model, "takes_image_vectors", False))


class CaptionGenerator:
    """Generates captions for prompt texts, in batches of about equal length.

    `switch_to` changes the model that generates, and `decode_with` how it does, at any time and
    without loading anything again.

    Args:
        model: The frozen model. The decoding options of its folder are dropped.
        tokenizer: Its tokenizer.
        decoding: How to decode.
        max_source_length: Longest prompt in tokens; longer ones must be shortened before.
        batch_size: Prompts decoded at once.
        seed: Seed of the sampling; each call starts from it.

    Attributes:
        tokenizer: The tokenizer.
        decoding: How captions are decoded now.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        decoding: Decoding | None = None,
        max_source_length: int = 512,
        batch_size: int = 8,
        seed: int = 42,
    ) -> None:
        self._model = model
        # The library's base class does not declare `generate`.
        self._loaded = self._generative = cast(GenerativeModel, model)
        self.tokenizer = tokenizer
        self.decoding = decoding or Decoding()
        self._config = prepare_decoding(model, self.decoding)
        self.max_source_length = max_source_length
        self._batch_size = batch_size
        self._seed = seed
        self._warned_of_unknown = False

    def switch_to(self, model: GenerativeModel | None) -> None:
        """Generates with `model` from now on; None: with the model as it was loaded."""
        self._generative = model or self._loaded

    @property
    def model(self) -> GenerativeModel:
        """What generates: the frozen model, or a PromptTuner around it."""
        return self._generative

    def decode_with(self, decoding: Decoding) -> None:
        """Decodes with other options from now on."""
        self.decoding = decoding
        self._config = decoding.to_generation_config(self._model)

    def count_tokens(self, text: str) -> int:
        """Counts the tokens of `text` as the model sees it, its end token included.

        Of a text that is far too long, only the beginning counts.
        """
        return len(self.tokenizer(cut_text(text, self.max_source_length))["input_ids"])

    def read(self, ids: Sequence[int]) -> str:
        """Returns the text of generated token ids, as `generate` would return it."""
        return clean_texts(self.tokenizer, torch.tensor([ids]))[0]

    def generate(
        self,
        prompts: Sequence[str],
        *,
        prompt_names: Sequence[str | None] | None = None,
        image_vectors: Vectors | None = None,
        streamer: BaseStreamer | None = None,
    ) -> list[str]:
        """Generates one caption for each prompt, in the order of the prompts.

        The same call gives the same captions, sampled or not; the global random state is left
        as it was.

        Args:
            prompts: The prompts.
            prompt_names: For each the name of its soft prompt, None for no soft prompt, where the
                model is a PromptTuner with several; batches mix them. By default its active one.
            image_vectors: The vector of each prompt's image, for a model that takes them.
            streamer: Gets the tokens of a single prompt as they are generated, without beams.
        """
        captions = [""] * len(prompts)
        device = self._model.device
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.inference_mode():
            torch.manual_seed(self._seed)
            for indices in self._batches(prompts):
                options = self._image_inputs(image_vectors, indices)
                if streamer is not None:
                    options["streamer"] = streamer
                if prompt_names is not None:
                    options["prompts"] = [prompt_names[index] for index in indices]
                texts = self._generate_batch([prompts[index] for index in indices], options)
                for index, text in zip(indices, texts, strict=True):
                    captions[index] = text
        return captions

    def _batches(self, prompts: Sequence[str]) -> Iterator[list[int]]:
        """Groups prompts of about equal length, so that little of a batch is padding."""
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        for start in range(0, len(order), self._batch_size):
            yield order[start : start + self._batch_size]

    def _image_inputs(self, vectors: Vectors | None, indices: Sequence[int]) -> dict[str, Any]:
        """Returns the vectors of a batch's images as the model takes them, if it does."""
        if vectors is None or not takes_image_vectors(self._generative):
            return {}
        chosen = [vectors[index] for index in indices]
        stacked = np.stack([vector for vector in chosen if vector is not None])
        return {"image_vectors": torch.from_numpy(stacked).to(self._model.device)}

    def _generate_batch(self, prompts: list[str], options: dict[str, Any]) -> list[str]:
        prompts = [cut_text(prompt, self.max_source_length) for prompt in prompts]
        encoded = self.tokenizer(
            prompts,
            padding=True,
            truncation=True,
            max_length=self.max_source_length,
            return_tensors="pt",
        ).to(self._model.device)
        self._warn_of_unknown(prompts, encoded["input_ids"])
        with explain_out_of_memory("generation_config.batch_size", self._batch_size):
            tokens = generate_tokens(
                self._generative,
                input_ids=encoded["input_ids"],  # [B, T]
                attention_mask=encoded["attention_mask"],
                generation_config=self._config,
                **options,
            )
        return clean_texts(self.tokenizer, tokens)

    def _warn_of_unknown(self, prompts: list[str], ids: Tensor) -> None:
        """Warns once of prompts in an alphabet that the tokenizer lacks; ids are [B, T]."""
        if self._warned_of_unknown:
            return
        shares = unknown_shares(self.tokenizer, prompts, ids.tolist())
        if max(shares) >= NOTICEABLE:
            self._warned_of_unknown = True
            logger.warning(
                "a prompt turns into unknown tokens, by %.0f%% of its characters: %.80r; use a "
                "model that was trained on their language, such as mT5",
                100 * max(shares), prompts[shares.index(max(shares))],
            )  # fmt: skip


def prepare_decoding(model: PreTrainedModel, decoding: Decoding) -> GenerationConfig:
    """Builds the config to decode with, and drops the decoding options of the model's folder.

    The library takes what a config leaves open from there, such as a repetition penalty.
    """
    model.generation_config = GenerationConfig(**_ids(model))
    return decoding.to_generation_config(model)


def clean_texts(tokenizer: PreTrainedTokenizerBase, tokens: Tensor) -> list[str]:
    """Turns generated ids [B, L] into captions of one line each."""
    texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [" ".join(text.split()) for text in texts]


def _ids(model: PreTrainedModel) -> dict[str, Any]:
    names = ("pad_token_id", "eos_token_id", "decoder_start_token_id")
    return {name: getattr(model.config, name) for name in names}
