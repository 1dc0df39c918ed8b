"""Writes a model with its soft prompt as tokens, and compares it with what it was made from."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from igrag.captioning.exported_model import ExportedModel, soft_tokens
from igrag.captioning.generator import Decoding, prepare_decoding
from igrag.captioning.language_model import embedding_weight
from igrag.errors import ModelError, UsageError
from prompt_tuning.export import runtimes
from prompt_tuning.export.comparison import (
    Generate,
    GeneratedTokens,
    Sample,
    comparable,
    generate_tokens,
    model_generate,
)
from prompt_tuning.export.tokens import add_soft_tokens, tokenizer_with_soft_tokens
from prompt_tuning.prompt_tuner import PromptTuner

_TRANSFORMERS, _CTRANSLATE2, _FLOAT32 = "transformers", "ctranslate2", "float32"
_BATCH_SIZE = 8
_NO_ONNX = (
    "no exporter of T5 works with transformers 5 (optimum-onnx 0.1 needs 4.57, onnxruntime's "
    "convert_generation fails); export --format transformers, then in an environment of its own: "
    "pip install optimum-onnx onnxruntime; optimum-cli export onnx --model FOLDER --task "
    "text2text-generation-with-past OUTPUT, for ORTModelForSeq2SeqLM"
)


def check_format(name: str, quantization: str) -> None:
    """Checks that a format can be written here.

    Raises:
        UsageError: It cannot, or not with this quantization.
    """
    if name not in (_TRANSFORMERS, _CTRANSLATE2):
        raise UsageError(f"--format {name}: {_NO_ONNX}")
    if quantization != _FLOAT32 and name != _CTRANSLATE2:
        raise UsageError(
            f"--quantization {quantization}: found --format {name}, which is written in {_FLOAT32} "
            f"alone; expected --format {_CTRANSLATE2}"
        )
    if name == _CTRANSLATE2 and find_spec("ctranslate2") is None:
        raise UsageError(
            f"--format {name}: CTranslate2 is not installed, expected the extra: "
            'pip install "igrag[ctranslate2]"'
        )


def export_model(
    tuner: PromptTuner,
    tokenizer: PreTrainedTokenizerBase,
    exported: ExportedModel,
    folder: Path,
    *,
    sample: Sample,
) -> tuple[GeneratedTokens, GeneratedTokens]:
    """Writes an exported model into a folder, and generates the sample's captions with both.

    Args:
        tuner: The model in float32 on the CPU, with its prompt; the model is changed.
        tokenizer: The model's.
        exported: What to write.
        folder: Where, which exists.
        sample: What to compare on.

    Returns:
        What the PromptTuner generated, and what the exported model generates.

    Raises:
        ModelError: It does not generate the same tokens in float32, or cannot be written.
    """
    model: PreTrainedModel = tuner.model
    prompt = tuner.plain_prompt()
    decoding = prepare_decoding(model, Decoding(**exported.decoding))
    compared = comparable(decoding, early_stopping=exported.format == _CTRANSLATE2)
    longest = exported.max_source_length - len(prompt)
    before = _generate(
        model_generate(tuner, tokenizer, compared, max_length=longest), sample, tokenizer
    )
    extended = tokenizer_with_soft_tokens(
        tokenizer, len(prompt), vocabulary=len(embedding_weight(model)), max_length=longest
    )
    is_tied = add_soft_tokens(model, prompt)
    to_id: Any = extended.convert_tokens_to_ids
    runtimes.set_decoding(model, decoding, [to_id(name) for name in soft_tokens(len(prompt))])
    exported.write(folder)
    with TemporaryDirectory(dir=folder) as temporary:
        plain = folder if exported.format == _TRANSFORMERS else Path(temporary)
        runtimes.write_transformers(plain, model, extended, is_tied=is_tied)
        if exported.format == _CTRANSLATE2:
            runtimes.convert_to_ctranslate2(plain, folder, quantization=exported.quantization)
    after = _generate(_open(folder, exported, compared), sample, tokenizer)
    if exported.quantization == _FLOAT32:
        _check_equal(before, after, tokenizer, exported)
    return before, after


def _open(folder: Path, exported: ExportedModel, decoding: GenerationConfig) -> Generate:
    if exported.format == _TRANSFORMERS:
        return runtimes.open_transformers(folder, decoding)
    return runtimes.open_ctranslate2(folder, decoding)


def _generate(
    generate: Generate, sample: Sample, tokenizer: PreTrainedTokenizerBase
) -> GeneratedTokens:
    return generate_tokens(generate, sample, tokenizer, batch_size=_BATCH_SIZE)


def _check_equal(
    before: GeneratedTokens,
    after: GeneratedTokens,
    tokenizer: PreTrainedTokenizerBase,
    exported: ExportedModel,
) -> None:
    captions = len(before.tokens)
    if (equal := after.equal_to(before)) == captions:
        return
    pairs = list(zip(before.tokens, after.tokens, strict=True))
    number = next(index for index, (ours, theirs) in enumerate(pairs) if ours != theirs)
    wanted, found = (tokenizer.decode(tokens) for tokens in pairs[number])
    raise ModelError(
        f"{exported.base_model}: not exported: for {exported.format} {equal} of {captions} "
        f"captions have the PromptTuner's tokens, expected all; of example {number + 1} it "
        f"generates {found!r} instead of {wanted!r}; try --set generation_config.num_beams=1"
    )
