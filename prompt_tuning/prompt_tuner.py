"""PromptTuner: a frozen seq2seq model with a learnable soft prompt before its source.

prompt [P, H] + source embeddings [B, T, H] -> encoder [B, P + T, H] -> decoder [B, L, V]

With an image prompt, Q soft tokens made from each image's vector follow the P learned ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization
from transformers import PreTrainedTokenizerBase
from transformers.modeling_outputs import Seq2SeqLMOutput

from igrag.captioning import shared_cross_attention
from igrag.captioning.language_model import embedding_weight
from igrag.retrieval.image_encoder import EncoderIdentity
from prompt_tuning.fingerprint import Fingerprint, fingerprint_of
from prompt_tuning.image_prompt import ImagePrompt
from prompt_tuning.named_prompts import NamedPrompts
from prompt_tuning.prepending import prepend_prompt
from prompt_tuning.prompt_file import PROMPT_NAME, PromptFile, load_prompt, save_prompt

DEFAULT_NAME = "default"  # The name of the prompt that is trained.


class PromptTuner(nn.Module):
    """A frozen T5 and one learnable tensor, `prompt_embeddings` [P, H] in float32.

    The model is frozen here and stays in eval mode even after `.train()`: dropout in a frozen
    model only adds noise to the prompt's gradient (arXiv 2406.05279, section 5).

    Examples:
        >>> from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
        >>> from prompt_tuning.initialization import random_prompt
        >>> path = "demo/models/t5-mini"
        >>> tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        >>> model = AutoModelForSeq2SeqLM.from_pretrained(path, trust_remote_code=False)
        >>> tuner = PromptTuner(model, random_prompt(model.get_input_embeddings().weight, 20))
        >>> batch = tokenizer(["Describe the image."], return_tensors="pt")  # [1, T]
        >>> loss = tuner(**batch, labels=batch["input_ids"]).loss
        >>> tokens = tuner.generate(**batch, max_new_tokens=20)  # [1, L]

    Args:
        model: T5ForConditionalGeneration, or a PeftModel around one, with its LoRA adapter.
        initial_prompt: The prompt [P, H] that training starts from; `prompt_tuning.initialization`
            makes one at random, from a text, from the vocabulary or from another prompt.
        initialization: How it was made, for the saved file.
        parametrization: Module that computes the prompt from the trained tensor while training, see
            `prompt_tuning.reparameterization`; None trains the prompt itself.
        model_dropout: Enable dropout in the frozen model while training.
        tokenizer: The model's; a saved prompt then belongs to it, too.
        fingerprint: What a saved prompt belongs to; by default model and tokenizer.
        image_prompt: Makes further soft tokens of each image's vector; None for none. It is
            trained, too.
        encoder: What makes the vectors; prompts of others are not loaded. By default the one of
            `image_prompt`.

    Raises:
        ValueError: The initial prompt is empty or of another width than the model's embeddings.
    """

    # T5's loss is the mean over a batch, whatever number of items the library's Trainer hands on:
    # with it, a gradient would be as many times too large as there are accumulation steps.
    accepts_loss_kwargs = False

    def __init__(
        self,
        model: nn.Module,
        initial_prompt: Tensor,
        *,
        initialization: str = "unknown",
        parametrization: nn.Module | None = None,
        model_dropout: bool = False,
        tokenizer: PreTrainedTokenizerBase | None = None,
        fingerprint: Fingerprint | None = None,
        image_prompt: ImagePrompt | None = None,
        encoder: EncoderIdentity | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = model.requires_grad_(False)
        width = self._embedding.weight.shape[1]
        if initial_prompt.dim() != 2 or initial_prompt.shape[1] != width or not len(initial_prompt):
            found = list(initial_prompt.shape)
            raise ValueError(f"initial prompt: found shape {found}, expected [P, {width}], P > 0")
        self.initialization = initialization
        self.enabled = True
        self.active = DEFAULT_NAME
        self.fingerprint = fingerprint or fingerprint_of(model, tokenizer)
        self._model_dropout = model_dropout
        self._named_prompts = NamedPrompts(width)
        initial_prompt = initial_prompt.detach().float().clone()
        self.prompt_embeddings = nn.Parameter(initial_prompt.to(self.device))
        if parametrization is not None:
            register_parametrization(self, "prompt_embeddings", parametrization.to(self.device))
        self.image_prompt = None if image_prompt is None else image_prompt.to(self.device)
        self.encoder = encoder or (image_prompt.encoder if image_prompt else None)
        self.train(self.training)

    @classmethod
    def from_pretrained(
        cls,
        model: nn.Module,
        path: str | Path,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        fingerprint: Fingerprint | None = None,
        encoder: EncoderIdentity | None = None,
    ) -> PromptTuner:
        """Prepends a saved prompt to a model.

        Args:
            model: The model that the prompt was trained for.
            path: prompt_embeddings.pt, or the folder that holds it, or its hub id "owner/name",
                perhaps with "@revision".
            tokenizer: Compared with that of the training; None skips the comparison.
            fingerprint: What the prompt must belong to; by default the model and the tokenizer.
            encoder: What makes the vectors of images; None takes any.

        Raises:
            CheckpointError: The file is missing or damaged, or belongs to something else.
        """
        expected = fingerprint or fingerprint_of(model, tokenizer)
        width = embedding_weight(model).shape[1]
        prompt = load_prompt(Path(path), expected=expected, embedding_dim=width, encoder=encoder)
        return cls(
            model,
            prompt.embeddings,
            initialization=prompt.initialization,
            fingerprint=expected,
            image_prompt=prompt.image_prompt,
            encoder=encoder,
        )

    @classmethod
    def from_file(
        cls,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        path: Path,
        *,
        fingerprint: Fingerprint | None = None,
    ) -> PromptTuner:
        """Prepends the prompt of a file to a model; see `from_pretrained`."""
        return cls.from_pretrained(model, path, tokenizer=tokenizer, fingerprint=fingerprint)

    def save_pretrained(self, path: str | Path) -> None:
        """Writes the trained prompt into a folder, as prompt_embeddings.pt."""
        self.save_prompt(Path(path) / PROMPT_NAME)

    def save_prompt(self, path: Path) -> None:
        """Writes the trained prompt as a plain tensor with its fingerprint; see `prompt_file`."""
        prompt = PromptFile(
            self.plain_prompt(), self.initialization, self.fingerprint, self.image_prompt
        )
        save_prompt(path, prompt)

    def push_to_hub(self, repo_id: str, *, private: bool = False, **options: Any) -> str:
        """Uploads the trained prompt to the hub, with a model card, and returns its address.

        Args:
            repo_id: "owner/name".
            private: Whether only its owner may see the repository.
            options: `base_model`, `license_id` and `replace_card` of `push_prompt`. That function
                uploads a file of a training, with the figures of its record in the card.

        Raises:
            UsageError: `repo_id` is none, or the repository is public and `private` was asked for.
            OutputError: The hub refuses it, or cannot be reached.
        """
        from prompt_tuning.push import push_prompt

        options.setdefault("base_model", getattr(self.model.config, "name_or_path", None) or None)
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return push_prompt(Path(folder), repo_id, private=private, **options)[0]

    @property
    def prompt_length(self) -> int:
        """Soft tokens of the trained prompt, P."""
        return len(self.prompt_embeddings)

    @property
    def takes_image_vectors(self) -> bool:
        """Whether any of its prompts has image tokens, so that vectors of the images are needed."""
        return self.image_prompt is not None or self._named_prompts.take_image_vectors

    @property
    def device(self) -> torch.device:
        """The model's device."""
        device: torch.device = self._embedding.weight.device
        return device

    def plain_prompt(self) -> Tensor:
        """Returns the trained prompt as a plain tensor [P, H], float32, on the CPU."""
        return self.prompt_embeddings.detach().float().cpu().clone()

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Returns what an optimizer may hold: the prompt, or what a parametrization makes it of.

        Those of an image prompt follow.
        """
        return [
            parameter
            for name, parameter in self.named_parameters()
            # PEFT unfreezes an adapter that it switches on again: the model's never count.
            if parameter.requires_grad and not name.startswith("model.")
        ]

    def train(self, mode: bool = True) -> PromptTuner:
        """Switches training on or off; the frozen model stays in eval mode without dropout."""
        super().train(mode)
        if not self._model_dropout:
            self.model.eval()
        return self

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        prompts: Sequence[str | None] | None = None,
        image_vectors: Tensor | None = None,
        **options: Any,
    ) -> Seq2SeqLMOutput:
        """Runs the model with the soft prompt prepended.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], padded left or right; None means that nothing is padding.
            labels: [B, L], -100 where the loss ignores them.
            prompts: For each sequence the name of its prompt, or None for no prompt; by default
                the active one for all.
            image_vectors: For each sequence the unit vector of its image, [B, D]; prompts without
                image tokens ignore them.
            options: For the model's own forward.

        Returns:
            The model's output; encoder_last_hidden_state is [B, P + Q + T, H].

        Raises:
            KeyError: There is no prompt of a name in `prompts`.
            ValueError: `prompts` does not name one for each sequence, or there is not a vector for
                each, but a prompt needs one.
        """
        inputs = self._encoder_inputs(input_ids, attention_mask, prompts, image_vectors)
        output: Seq2SeqLMOutput = self.model(**inputs, labels=labels, **options)
        return output

    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        prompts: Sequence[str | None] | None = None,
        image_vectors: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """Generates with the soft prompt prepended; arguments as `forward`'s.

        Returns:
            Token ids [B, L].
        """
        inputs = self._encoder_inputs(input_ids, attention_mask, prompts, image_vectors)
        return shared_cross_attention.generate(self.model, inputs, **options)

    def encode(
        self, input_ids: Tensor, attention_mask: Tensor, *, image_vectors: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Runs the encoder alone, whose states serve both a loss and captions.

        Returns:
            The states [B, P + Q + T, H] and their mask [B, P + Q + T].
        """
        inputs = self._encoder_inputs(input_ids, attention_mask, None, image_vectors)
        states: Tensor = self.model.get_encoder()(**inputs).last_hidden_state
        return states, inputs["attention_mask"]

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Inside the block the model is the base model, logit for logit."""
        before, self.enabled = self.enabled, False
        try:
            yield
        finally:
            self.enabled = before

    def add_prompt(
        self, name: str, embeddings: Tensor, image_prompt: ImagePrompt | None = None
    ) -> None:
        """Adds a prompt [P', H] of any length under a name; one of this name is replaced.

        Raises:
            ValueError: The name is that of the trained prompt, or the shape is wrong.
        """
        if name == DEFAULT_NAME:
            raise ValueError(f"{name!r} is the name of the trained prompt, expected another")
        self._named_prompts.add(name, embeddings.to(self.device), image_prompt)

    def load_prompt(self, path: Path, name: str) -> PromptFile:
        """Adds the prompt of a file, or of the folder or hub id that holds it, under a name.

        Raises:
            CheckpointError: It is missing or damaged, or belongs to something else.
        """
        width = self._embedding.weight.shape[1]
        prompt = load_prompt(
            path, expected=self.fingerprint, embedding_dim=width, encoder=self.encoder
        )
        self.add_prompt(name, prompt.embeddings, prompt.image_prompt)
        return prompt

    def prompt(self, name: str) -> Tensor:
        """Returns a prompt [P, H] by name.

        Raises:
            KeyError: There is none of that name.
        """
        return self.prompt_embeddings if name == DEFAULT_NAME else self._named_prompts[name]

    def use(self, name: str) -> None:
        """Makes a prompt the active one.

        Raises:
            KeyError: There is none of that name.
        """
        self.prompt(name)
        self.active = name

    @property
    def _embedding(self) -> nn.Embedding:
        embedding: nn.Embedding = self.model.get_input_embeddings()
        return embedding

    def _encoder_inputs(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        names: Sequence[str | None] | None,
        image_vectors: Tensor | None,
    ) -> dict[str, Tensor]:
        """Returns the ids as they are if disabled, else embeddings with prompts prepended."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if not self.enabled:
            return {"input_ids": input_ids, "attention_mask": attention_mask}
        source = self._embedding(input_ids)  # [B, T, H]
        if names is None:
            prompts = [self.prompt(self.active)] * len(input_ids)
        else:
            no_prompt = source.new_empty(0, source.shape[2])
            # Once for each name: a parametrization computes its prompt at every access.
            known = {name: self.prompt(name) for name in set(names) if name is not None}
            prompts = [no_prompt if name is None else known[name] for name in names]
        if self.takes_image_vectors:
            names = [self.active] * len(prompts) if names is None else names
            prompts = self._with_image_tokens(prompts, names, image_vectors)
        embeddings, mask = prepend_prompt(prompts, source, attention_mask)
        return {"inputs_embeds": embeddings, "attention_mask": mask}

    def _with_image_tokens(
        self, prompts: list[Tensor], names: Sequence[str | None], vectors: Tensor | None
    ) -> list[Tensor]:
        """Appends the tokens of each image to its prompt [P_b, H], if that has image tokens."""
        makers = {name: self._image_prompt_of(name) for name in set(names)}
        if not any(makers.values()):
            return prompts
        if vectors is None or len(vectors) != len(prompts):
            found = "none" if vectors is None else f"{len(vectors)}"
            raise ValueError(
                f"image_vectors: found {found}, expected one for each of {len(prompts)} sequences"
            )
        vectors = vectors.to(self.device)
        tokens = {name: maker(vectors) for name, maker in makers.items() if maker}  # [B, Q, H]
        return [
            torch.cat([prompt, tokens[name][index]]) if name in tokens else prompt
            for index, (prompt, name) in enumerate(zip(prompts, names, strict=True))
        ]

    def _image_prompt_of(self, name: str | None) -> ImagePrompt | None:
        if name == DEFAULT_NAME:
            return self.image_prompt
        return None if name is None else self._named_prompts.image_prompts.get(name)
