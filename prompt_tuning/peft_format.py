"""Soft prompts in PEFT's adapter format: a folder that PeftModel.from_pretrained loads."""

import logging
from pathlib import Path
from typing import Any

from peft import PromptTuningConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from igrag.captioning.adapters import refuse_old_weights
from igrag.errors import CheckpointError, DataError
from igrag.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, atomic_directory, read_json
from igrag.inputs import check_regular, reason_of
from prompt_tuning.prompt_file import PromptFile, check_embeddings

_TYPE, _KEY = "PROMPT_TUNING", "prompt_embeddings"
_MOST_PROMPTS = 2  # of an encoder and a decoder
# What cannot be a prompt before the source.
_OTHER_TYPES = {
    "MULTITASK_PROMPT_TUNING": "multitask prompt tuning: a prompt for each task",
    "PREFIX_TUNING": "prefix tuning: keys and values for every layer",
    "P_TUNING": "p-tuning: a network that makes the prompt",
}
logger = logging.getLogger(__name__)


def export_peft(prompt: PromptFile, folder: Path, *, base_model: str, model_config: Any) -> None:
    """Writes a prompt as PEFT's prompt-tuning adapter.

    Args:
        prompt: The prompt.
        folder: Where it goes; a folder that stands there is replaced.
        base_model: Name of the model it belongs to, as PEFT will load it.
        model_config: The model's transformers configuration.

    Raises:
        CheckpointError: It has image tokens, which the format cannot hold.
    """
    if prompt.image_prompt is not None:
        raise CheckpointError(
            f"{folder}: not written: found a prompt with {prompt.image_prompt.image_tokens} image "
            "tokens, which PEFT's format cannot hold; expected one that was trained with "
            "prompt_tuning.image_tokens: 0"
        )
    config = PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM",
        base_model_name_or_path=base_model,
        inference_mode=True,
        num_virtual_tokens=prompt.prompt_length,
        token_dim=prompt.embedding_dim,
        # By default PEFT keeps a second prompt for the decoder, which its forward leaves unused.
        num_transformer_submodules=1,
        num_layers=model_config.num_hidden_layers,
        num_attention_heads=model_config.num_attention_heads,
    )
    with atomic_directory(folder) as temporary:
        config.save_pretrained(str(temporary))
        # save_file would make a file that its owner alone can read.
        weights = save({_KEY: prompt.embeddings.contiguous()})
        (temporary / ADAPTER_WEIGHTS).write_bytes(weights)


def import_peft(folder: Path) -> PromptFile:
    """Reads a prompt-tuning adapter of PEFT's; it does not say which embeddings it belongs to.

    By default PEFT keeps a second prompt for the decoder of a seq2seq model, which neither its
    training nor its generation uses (huggingface/peft#386): the first one is read.

    Raises:
        CheckpointError: It is missing or damaged, or of another PEFT type.
    """
    refuse_old_weights(folder)
    length, prompts = _read_lengths(folder / ADAPTER_CONFIG)
    path = folder / ADAPTER_WEIGHTS
    try:
        check_regular(path)
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: missing or damaged ({reason_of(error, path)})") from None
    prompt = tensors.get(_KEY)
    if prompt is None or prompt.dim() != 2 or len(prompt) != length * prompts:
        found = {name: list(tensor.shape) for name, tensor in tensors.items()}
        raise CheckpointError(f'{path}: found {found}, expected "{_KEY}" [{length * prompts}, H]')
    if prompts > 1:
        logger.warning(
            "%s: holds %d prompts of %d tokens (num_transformer_submodules); the first is taken, "
            "the only one that PEFT uses", path, prompts, length,
        )  # fmt: skip
    return PromptFile(check_embeddings(path, prompt[:length]), "unknown", None)


def _read_lengths(path: Path) -> tuple[int, int]:
    """Reads P and the number of prompts from an adapter's configuration, once its type is known."""
    try:
        config = read_json(path)
    except DataError as error:
        raise CheckpointError(str(error)) from None
    if not isinstance(config, dict) or config.get("peft_type") != _TYPE:
        found = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        other = f" ({_OTHER_TYPES[found]})" if found in _OTHER_TYPES else ""
        raise CheckpointError(f"{path}: found peft_type {found}{other}, expected {_TYPE}")
    length = config.get("num_virtual_tokens")
    # In older configurations null, which stands for one.
    prompts = config.get("num_transformer_submodules") or 1
    if type(length) is not int or type(prompts) is not int or not 0 < prompts <= _MOST_PROMPTS:
        raise CheckpointError(
            f"{path}: found num_virtual_tokens {length} and num_transformer_submodules {prompts}, "
            f"expected numbers, the second 1 or {_MOST_PROMPTS}"
        )
    return length, prompts
