"""Generates with CTranslate2 from a folder that `igrag export` has made, instead of torch.

The soft tokens are in the folder's tokenizer, a LoRA adapter in its weights. CTranslate2 is an
extra: this module imports it where a model is opened.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from igrag.captioning.exported_model import ExportedModel, read_export, soft_tokens
from igrag.captioning.language_model import LanguageModel
from igrag.devices import resolve_device
from igrag.errors import ConfigError, ModelError, UsageError
from igrag.hub import reason_of

RUNTIME = "ctranslate2"
# The names of a decoding in transformers' GenerationConfig -> CTranslate2's.
OPTION_NAMES = {
    "max_new_tokens": "max_decoding_length",
    "num_beams": "beam_size",
    "length_penalty": "length_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram_size",
    "repetition_penalty": "repetition_penalty",
}
# What the library means where a GenerationConfig leaves them open.
_UNSET = {
    "num_beams": 1,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "repetition_penalty": 1.0,
}


class CTranslate2Model:
    """A `GenerativeModel` on CTranslate2.

    It has what `CaptionGenerator` uses of a model: `device`, and `config` with the model's ids.

    Args:
        folder: The exported folder.
        tokenizer: The folder's.
        soft_tokens: The names of the soft tokens, which are never generated.
        device: auto, cpu, cuda, cuda:N or mps; the CPU for what CTranslate2 lacks.
    """

    def __init__(
        self,
        folder: Path,
        tokenizer: PreTrainedTokenizerFast,
        *,
        soft_tokens: list[str],
        device: str = "auto",
    ) -> None:
        import ctranslate2

        chosen = resolve_device(device)
        # Ids and captions are small: only CTranslate2's own tensors are on a GPU.
        self.device = torch.device("cpu")
        self.generation_config = GenerationConfig()
        self._tokenizer = tokenizer
        self._suppressed = [[token] for token in soft_tokens]
        self._set_seed = ctranslate2.set_random_seed
        try:
            self._translator = ctranslate2.Translator(
                str(folder),
                device="cuda" if chosen.type == "cuda" else "cpu",
                device_index=chosen.index or 0,
                # torch's own number follows OMP_NUM_THREADS and the CPUs of the process.
                intra_threads=torch.get_num_threads(),
            )
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"{folder}: CTranslate2 cannot load this model ({reason_of(error, folder)}); make "
                f"it again with igrag export PROMPT --format {RUNTIME}"
            ) from error
        # As the converter chooses it: T5 and mT5 decode from the padding token.
        self.config = SimpleNamespace(
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )

    def generate(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor,
        generation_config: GenerationConfig,
        **options: Any,
    ) -> Tensor:
        """Returns token ids [B, L] for ids and mask [B, T]; see `GenerativeModel`.

        Beam search ends where `num_beams` captions are finished, as with the library's
        `early_stopping=True`; `early_stopping=False`, its default, is not available.
        """
        assert not options, f"no option of CTranslate2: {sorted(options)}"
        to_tokens = self._tokenizer.convert_ids_to_tokens
        source = [
            to_tokens(ids[mask.bool()].tolist())
            for ids, mask in zip(input_ids, attention_mask, strict=True)
        ]
        results = self._translator.translate_batch(
            source,
            max_input_length=0,  # else longer ones are cut at 1,024 tokens
            min_decoding_length=0,
            suppress_sequences=self._suppressed,
            **self._options(generation_config),
        )
        to_ids: Any = self._tokenizer.convert_tokens_to_ids
        found: list[list[int]] = [to_ids(each.hypotheses[0]) for each in results]
        start, pad = self.config.decoder_start_token_id, self.config.pad_token_id
        longest = max(map(len, found))
        return torch.tensor([[start, *ids, *[pad] * (longest - len(ids))] for ids in found])

    def _options(self, config: GenerationConfig) -> dict[str, Any]:
        """Returns CTranslate2's names of a decoding; what it shares with torch is seeded."""
        wanted: Any = config  # whose attributes the library's types leave open
        options: dict[str, Any] = {}
        for name, theirs in OPTION_NAMES.items():
            value = getattr(wanted, name)
            options[theirs] = _UNSET.get(name) if value is None else value
        if not wanted.do_sample:
            return options
        if options["beam_size"] > 1:
            raise ConfigError(
                "generation_config.do_sample: CTranslate2 does not sample in beam search, found "
                f"num_beams {options['beam_size']}, expected 1; or use model_config.engine: torch"
            )
        self._set_seed(int(torch.randint(2**31, ())))
        sampling = {"topk": 0, "topp": wanted.top_p, "temperature": wanted.temperature}
        return options | {f"sampling_{name}": value for name, value in sampling.items()}


def load_ctranslate2(
    folder: str, *, template: str | None = None, device: str = "auto"
) -> tuple[LanguageModel, ExportedModel]:
    """Opens an exported model as a `LanguageModel`, with what its folder states about it.

    Args:
        folder: The exported folder.
        template: Fingerprint of the prompt template in use; None compares none.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UsageError: CTranslate2 is not installed.
        ModelError: It is no such folder, damaged, or belongs to another template.
    """
    path = Path(folder)
    exported = read_export(path, runtime=RUNTIME)
    if None not in (template, exported.template) and template != exported.template:
        raise ModelError(
            f"{folder}: its soft prompt was trained with another prompt template; use that one, "
            "or export a prompt that was trained with prompt_config's"
        )
    if find_spec("ctranslate2") is None:
        raise UsageError(
            "model_config.engine: found ctranslate2, which is not installed; expected the extra: "
            'pip install "igrag[ctranslate2]", or torch'
        )
    tokenizer = open_tokenizer(path)
    model = CTranslate2Model(
        path, tokenizer, soft_tokens=soft_tokens(exported.prompt_length), device=device
    )
    # It is no PreTrainedModel, but has all that the generator uses of one.
    language = LanguageModel(cast(PreTrainedModel, model), tokenizer, folder, None, None)
    return language, exported


def open_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Opens the tokenizer of an exported folder, which puts the soft tokens first.

    Raises:
        ModelError: It is missing or damaged.
    """
    try:
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # tokenizers raise a bare one
        raise ModelError(
            f"{folder}: its tokenizer is missing or damaged ({reason_of(error, folder)}); export "
            "the prompt again"
        ) from error
    return tokenizer
