"""PromptTuner: a frozen seq2seq model with learnable embeddings before its source.

prompt [P, H] + source [B, T, H] -> encoder [B, P + T, H] -> decoder
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization
from transformers import PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from prompt_tuning.fingerprint import Fingerprint, fingerprint_of
from prompt_tuning.initialization import Initialization, first_prompt
from prompt_tuning.named_prompts import NamedPrompts
from prompt_tuning.prepend import prepend
from prompt_tuning.prompt_file import PromptFile, load_prompt, save_prompt
from prompt_tuning.reparameterization import Reparameterization, parametrization

DEFAULT_TEXT = "Generate a concise and accurate image caption:"
TRAINED = "default"  # The name of the prompt that is trained.


class PromptTuner(nn.Module):
    """A frozen T5 and one learnable tensor, `prompt_embeddings` [P, H] in float32.

    The model is frozen here and stays in eval mode even after `.train()`: dropout in a frozen
    model only adds noise to the prompt's gradient (arXiv 2406.05279, section 5).

    Args:
        model: T5ForConditionalGeneration, or a PeftModel around one, with its LoRA adapter.
        tokenizer: The model's.
        prompt_length: Soft tokens, P.
        initialization: "random", "text", "vocab" (frequent tokens) or "file".
        init_scale: For "random": standard deviation; None takes that of the model's embeddings.
        init_text: For "text".
        init_file: For "file": another prompt, repeated or cut to P.
        reparameterization: "none", "residual" or "superpos"; only while training.
        bottleneck: For "residual": width of its MLP.
        sampled_embeddings: For "superpos": how many are drawn.
        model_dropout: Let the frozen model drop out while training.
        seed: Decides what is drawn.
        fingerprint: What a saved prompt belongs to; by default the model and the tokenizer.

    Raises:
        ValueError: An option is missing or out of range.
        CheckpointError: `init_file` cannot be read, or its embeddings have another width.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        prompt_length: int = 20,
        initialization: Initialization = "random",
        *,
        init_scale: float | None = None,
        init_text: str = DEFAULT_TEXT,
        init_file: Path | None = None,
        reparameterization: Reparameterization = "none",
        bottleneck: int = 64,
        sampled_embeddings: int = 128,
        model_dropout: bool = False,
        seed: int = 42,
        fingerprint: Fingerprint | None = None,
    ) -> None:
        super().__init__()
        if prompt_length < 1:
            raise ValueError(f"prompt_length: found {prompt_length}, expected at least 1")
        self.model: Any = model.requires_grad_(False)
        self.tokenizer = tokenizer
        self.initialization: str = initialization
        self.enabled = True
        self.active = TRAINED
        self.fingerprint = fingerprint or fingerprint_of(model, tokenizer)
        self._model_dropout = model_dropout
        self._others = NamedPrompts(self._embedding.weight.shape[1])
        generator = torch.Generator().manual_seed(seed)
        table = self._embedding.weight.detach()
        first = first_prompt(
            initialization,
            table,
            tokenizer,
            prompt_length,
            scale=init_scale,
            text=init_text,
            source=None if init_file is None else self._read(init_file).embeddings,
            generator=generator,
        )
        self.prompt_embeddings = nn.Parameter(first.to(table.device))
        way = parametrization(
            reparameterization,
            table,
            tokenizer,
            bottleneck=bottleneck,
            sampled_embeddings=sampled_embeddings,
            generator=generator,
        )
        if way is not None:
            register_parametrization(self, "prompt_embeddings", way.to(table.device))
        self.train(self.training)

    @classmethod
    def from_file(
        cls,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        path: Path,
        *,
        fingerprint: Fingerprint | None = None,
    ) -> "PromptTuner":
        """Puts a saved prompt before a model.

        Raises:
            CheckpointError: The file is missing or damaged, or belongs to something else.
        """
        expected = fingerprint or fingerprint_of(model, tokenizer)
        file = load_prompt(path, expected=expected)
        tuner = cls(
            model, tokenizer, file.prompt_length, "file", init_file=path, fingerprint=expected
        )
        tuner.initialization = file.initialization  # The file's own, not how it came here.
        return tuner

    @property
    def prompt_length(self) -> int:
        """Soft tokens of the trained prompt, P."""
        return len(self.prompt_embeddings)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self._embedding.weight.device
        return device

    def train(self, mode: bool = True) -> "PromptTuner":
        """Switches training on or off; the frozen model stays in eval mode unless asked else."""
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
        **options: Any,
    ) -> Seq2SeqLMOutput:
        """Runs the model behind the prompt.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], padded left or right; None means that nothing is padding.
            labels: [B, L], -100 where the loss does not look.
            prompts: For each row the name of its prompt, or None for no prompt; by default the
                active one for all.
            options: For the model's own forward.

        Returns:
            The model's output; encoder_last_hidden_state is [B, P + T, H].

        Raises:
            KeyError: There is no prompt of a name in `prompts`.
            ValueError: `prompts` does not name one for each row.
        """
        source = self._source(input_ids, attention_mask, prompts)
        output: Seq2SeqLMOutput = self.model(**source, labels=labels, **options)
        return output

    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        prompts: Sequence[str | None] | None = None,
        **options: Any,
    ) -> Tensor:
        """Writes with the model behind the prompt; arguments as `forward`'s.

        Returns:
            Token ids [B, L].
        """
        source = self._source(input_ids, attention_mask, prompts)
        tokens: Tensor = self.model.generate(**source, **options)
        return tokens

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the encoder alone, whose states serve both a loss and captions.

        Returns:
            The states [B, P + T, H] and their mask [B, P + T], for `forward_from` and
            `generate_from`.
        """
        source = self._source(input_ids, attention_mask, None)
        states: Tensor = self.model.get_encoder()(**source).last_hidden_state
        return states, source["attention_mask"]

    def forward_from(self, states: Tensor, mask: Tensor, labels: Tensor) -> Seq2SeqLMOutput:
        """Runs the decoder on what `encode` returned."""
        encoded = BaseModelOutput(last_hidden_state=states)
        output: Seq2SeqLMOutput = self.model(
            encoder_outputs=encoded, attention_mask=mask, labels=labels
        )
        return output

    def generate_from(self, states: Tensor, mask: Tensor, **options: Any) -> Tensor:
        """Writes from what `encode` returned: token ids [B, L]."""
        # A new object at every call: beam search repeats its rows in place.
        encoded = BaseModelOutput(last_hidden_state=states)
        tokens: Tensor = self.model.generate(
            encoder_outputs=encoded, attention_mask=mask, **options
        )
        return tokens

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Inside the block the model is the base model, logit for logit."""
        before, self.enabled = self.enabled, False
        try:
            yield
        finally:
            self.enabled = before

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What an optimizer may hold: the prompt, or what a reparameterization makes it from."""
        return [
            parameter
            for name, parameter in self.named_parameters()
            # PEFT unfreezes an adapter that it switches on again: the model's never count.
            if parameter.requires_grad and not name.startswith("model.")
        ]

    def folded(self) -> Tensor:
        """Returns the trained prompt as a plain tensor [P, H], float32, on the CPU."""
        return self.prompt_embeddings.detach().float().cpu().clone()

    def add_prompt(self, name: str, embeddings: Tensor) -> None:
        """Adds a prompt [P', H] of any length under a name; an old one of this name is replaced.

        Raises:
            ValueError: The name is taken by the trained prompt, or the shape is wrong.
        """
        if name == TRAINED:
            raise ValueError(f"{TRAINED!r} is the name of the trained prompt, expected another")
        self._others.add(name, embeddings.to(self.device))

    def prompt(self, name: str) -> Tensor:
        """Returns a prompt [P, H] by name.

        Raises:
            KeyError: There is none of that name.
        """
        return self.prompt_embeddings if name == TRAINED else self._others[name]

    def use(self, name: str) -> None:
        """Makes a prompt the active one.

        Raises:
            KeyError: There is none of that name.
        """
        self.prompt(name)
        self.active = name

    def save_prompt(self, path: Path) -> None:
        """Writes the trained prompt, folded, with its fingerprint; see `prompt_file`."""
        save_prompt(path, PromptFile(self.folded(), self.initialization, self.fingerprint))

    def load_prompt(self, path: Path, name: str) -> PromptFile:
        """Adds the prompt of a file under a name.

        Raises:
            CheckpointError: It is missing or damaged, or belongs to something else.
        """
        file = self._read(path, expected=self.fingerprint)
        self.add_prompt(name, file.embeddings)
        return file

    @property
    def _embedding(self) -> nn.Embedding:
        embedding: nn.Embedding = self.model.get_input_embeddings()
        return embedding

    def _read(self, path: Path, *, expected: Fingerprint | None = None) -> PromptFile:
        width = self._embedding.weight.shape[1]
        return load_prompt(path, expected=expected, embedding_dim=width)

    def _source(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        prompts: Sequence[str | None] | None,
    ) -> dict[str, Tensor]:
        """What the model gets for its source: the ids as they are, or embeddings behind prompts."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if not self.enabled:
            return {"input_ids": input_ids, "attention_mask": attention_mask}
        source = self._embedding(input_ids)  # [B, T, H]
        if prompts is None:
            rows = [self.prompt(self.active)] * len(input_ids)
        else:
            nothing = source.new_empty(0, source.shape[2])
            # Once for each name: a reparameterization computes its prompt again at every look.
            known = {name: self.prompt(name) for name in set(prompts) if name is not None}
            rows = [nothing if name is None else known[name] for name in prompts]
        embeddings, mask = prepend(rows, source, attention_mask)
        return {"inputs_embeds": embeddings, "attention_mask": mask}
