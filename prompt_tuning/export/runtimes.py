"""What runs an export: transformers, and CTranslate2, which converts the former's folder."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import (
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from igrag.captioning.ctranslate2_model import load_ctranslate2, open_tokenizer
from igrag.errors import ModelError
from igrag.hub import from_pretrained, reason_of
from prompt_tuning.export.comparison import Generate, model_generate
from prompt_tuning.export.tokens import save_model, save_tokenizer


def set_decoding(model: PreTrainedModel, decoding: GenerationConfig, suppressed: list[int]) -> None:
    """Gives a model the decoding that its folder will have.

    Args:
        model: With the soft tokens.
        decoding: How captions are decoded.
        suppressed: Ids that are never generated: the soft tokens'.
    """
    # The library masks tokens after the softmax: without renormalize_logits, beams would be
    # compared by probabilities among tokens that cannot be generated.
    options: dict[str, Any] = {"suppress_tokens": suppressed, "renormalize_logits": True}
    model.generation_config = GenerationConfig(**{**decoding.to_dict(), **options})


def write_transformers(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, is_tied: bool
) -> None:
    """Writes a folder that AutoModelForSeq2SeqLM and AutoTokenizer load.

    Args:
        folder: The folder, which exists.
        model: With the soft tokens, see `add_soft_tokens`, and its decoding.
        tokenizer: With them, too.
        is_tied: What `add_soft_tokens` has returned.
    """
    save_model(model, folder, is_tied=is_tied)
    save_tokenizer(tokenizer, folder)


def convert_to_ctranslate2(source: Path, folder: Path, *, quantization: str) -> None:
    """Converts a folder of `write_transformers` into one of CTranslate2, with its tokenizer.

    Raises:
        ModelError: CTranslate2 cannot convert this model.
    """
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):  # type: ignore[misc]  # has no types
        """The library's converter, with T5's configuration as it expects it.

        It scales the decoder's output where tie_word_embeddings is true, as transformers did before
        version 5, which sets it for every T5 and has a key of its own for the scaling.
        """

        def load_model(self, *words: Any, **options: Any) -> Any:
            model = super().load_model(*words, **options)
            scaled = getattr(model.config, "scale_decoder_outputs", False)
            model.config.tie_word_embeddings = scaled
            return model

    with TemporaryDirectory(dir=folder) as temporary:
        target = Path(temporary) / "converted"
        try:
            Converter(str(source)).convert(str(target), quantization=quantization)
        except (ValueError, NotImplementedError, RuntimeError, AttributeError) as error:
            raise ModelError(
                f"{source}: CTranslate2 cannot convert this model ({reason_of(error, source)}); "
                "use --format transformers"
            ) from error
        for file in target.iterdir():
            file.replace(folder / file.name)
    save_tokenizer(open_tokenizer(source), folder)


def open_transformers(folder: Path, decoding: GenerationConfig) -> Generate:
    """Opens an exported folder as its README does, with another decoding than its own."""
    model: Any = from_pretrained(AutoModelForSeq2SeqLM, str(folder)).eval()
    set_decoding(model, decoding, model.generation_config.suppress_tokens)
    tokenizer = open_tokenizer(folder)
    return model_generate(
        model, tokenizer, model.generation_config, max_length=tokenizer.model_max_length
    )


def open_ctranslate2(folder: Path, decoding: GenerationConfig) -> Generate:
    """Opens an exported folder as main.py does, on the CPU."""
    language, exported = load_ctranslate2(str(folder), device="cpu")
    model: Any = language.model
    return model_generate(
        model, language.tokenizer, decoding, max_length=exported.max_source_length
    )
