"""prompt_embeddings.pt: a soft prompt as a plain dict, read without unpickling.

Keys: prompt_embeddings [P, H] in float32, prompt_length, embedding_dim, initialization,
format_version, fingerprint. A prompt with image tokens has format version 2 and two further keys:
image_prompt (the tensors of `ImagePrompt`) and image_encoder (the identity of the encoder whose
vectors it takes).
"""

import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from igrag.config.choices import MOST_SOFT_TOKENS
from igrag.errors import CheckpointError
from igrag.files import atomic_path, check_zip_sums, is_folder
from igrag.hub import fetch
from igrag.inputs import reason_of
from igrag.retrieval.image_encoder import EncoderIdentity
from prompt_tuning.fingerprint import Fingerprint
from prompt_tuning.image_prompt import ImagePrompt

PROMPT_NAME = "prompt_embeddings.pt"
FORMAT_VERSION = 1  # of prompts without image tokens: earlier versions read them
IMAGE_FORMAT_VERSION = 2
_KEY = "prompt_embeddings"
_IMAGE_KEY, _ENCODER_KEY = "image_prompt", "image_encoder"
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_SHOWN_NAMES = 3  # of what a wrong file holds
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class PromptFile:
    """The content of a prompt file.

    Attributes:
        embeddings: [P, H] in float32, on the CPU.
        initialization: How the prompt was initialized; "unknown" if the file does not say.
        fingerprint: What it belongs to; None if the file does not say.
        image_prompt: Makes the image tokens; None of a prompt without any.
    """

    embeddings: Tensor
    initialization: str
    fingerprint: Fingerprint | None
    image_prompt: ImagePrompt | None = None

    @property
    def prompt_length(self) -> int:
        """Soft tokens, P."""
        return len(self.embeddings)

    @property
    def embedding_dim(self) -> int:
        """Width, H."""
        return self.embeddings.shape[1]


def save_prompt(path: Path, prompt: PromptFile) -> None:
    """Writes a prompt file atomically; the same prompt gives the same bytes.

    Raises:
        CheckpointError: The prompt holds a value that is not finite.
    """
    image = _image_content(prompt.image_prompt)
    if not all(value.isfinite().all() for value in (prompt.embeddings, *image.values())):
        raise CheckpointError(f"{path}: not written: the prompt has values that are not finite")
    content: dict[str, Any] = {
        # A clone: a view would take its whole storage along.
        _KEY: prompt.embeddings.detach().cpu().float().clone(),
        "prompt_length": prompt.prompt_length,
        "embedding_dim": prompt.embedding_dim,
        "initialization": prompt.initialization,
        "format_version": FORMAT_VERSION,
        "fingerprint": prompt.fingerprint.to_dict() if prompt.fingerprint else None,
    }
    if prompt.image_prompt is not None:
        content["format_version"] = IMAGE_FORMAT_VERSION
        content[_IMAGE_KEY] = image
        content[_ENCODER_KEY] = prompt.image_prompt.encoder.to_json()
    # Given a path, torch would write the temporary file's name into the bytes.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def find_prompt(path: Path) -> Path:
    """Returns a prompt's file: the path, the one in that folder, or a local copy of the hub's.

    Raises:
        CheckpointError: It is a hub id, and cannot be fetched; see `igrag.hub.fetch`.
    """
    path = fetch(path, (PROMPT_NAME,))
    return path / PROMPT_NAME if is_folder(path) else path


def load_prompt(
    path: Path,
    *,
    expected: Fingerprint | None = None,
    embedding_dim: int | None = None,
    encoder: EncoderIdentity | None = None,
) -> PromptFile:
    """Reads a prompt file; a bare tensor, or a dict without a fingerprint, logs a warning.

    Args:
        path: The file, or the folder or hub id that holds prompt_embeddings.pt.
        expected: What the prompt must belong to; None takes any.
        embedding_dim: H that it must have; None takes any.
        encoder: What makes the vectors that its image tokens are to be made from; None takes any.

    Raises:
        CheckpointError: It is missing or damaged, belongs to something else, or has another width.
    """
    path = find_prompt(path)
    prompt = _parse(path, _read(path))
    if expected is not None and prompt.fingerprint is not None:
        _check_fingerprint(path, prompt.fingerprint, expected)
    if embedding_dim not in (None, prompt.embedding_dim):
        raise CheckpointError(
            f"{path}: found embeddings of width {prompt.embedding_dim}, expected the model's "
            f"{embedding_dim}; load the model that it was trained for"
        )
    if encoder is not None and prompt.image_prompt is not None:
        _check_encoder(path, prompt.image_prompt.encoder, encoder)
    if expected is not None:
        _warn_unchecked(path, prompt.fingerprint, expected)
    return prompt


def _check_fingerprint(path: Path, found: Fingerprint, expected: Fingerprint) -> None:
    differences = found.differences(expected)
    if differences:
        raise CheckpointError(
            f"{path}: was trained for something else: {'; '.join(differences)}; "
            "train a prompt for what is loaded, or load what it was trained for"
        )


def _check_encoder(path: Path, found: EncoderIdentity, expected: EncoderIdentity) -> None:
    if differences := found.differences(expected):
        raise CheckpointError(
            f"{path}: its image tokens are made from vectors of the encoder {found.name} "
            f"({found.dimension} dimensions), but these are of {expected.name} "
            f"({expected.dimension} dimensions), which differs in {', '.join(differences)}; use "
            "the first encoder and a knowledge base of it, or train a prompt for the second"
        )


def _image_content(image_prompt: ImagePrompt | None) -> dict[str, Tensor]:
    """Returns the tensors of an image prompt, each with a storage of its own."""
    state = {} if image_prompt is None else image_prompt.state_dict()
    return {name: value.detach().cpu().float().clone() for name, value in state.items()}


def _warn_unchecked(path: Path, found: Fingerprint | None, expected: Fingerprint) -> None:
    if found is None or not found.compared(expected):
        logger.warning("%s: has no fingerprint of its model; used unchecked", path)
    elif unknown := found.not_compared(expected):
        logger.warning(
            "%s: used without comparing %s: missing in the file, or unknown for the loaded model "
            "(one in float16)", path, ", ".join(unknown),
        )  # fmt: skip


def _read(path: Path) -> Any:
    try:
        check_zip_sums(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such file, expected a soft prompt; train one with "
            "python prompt_tuning/prompt_training.py --train (on LoRA: --config "
            "prompt_tuning/config/on_lora.yaml), or change the key that names it "
            "(prompt_tuning.enabled, prompt_tuning.init_file)"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # Damage raises almost any of them.
        reason = reason_of(error, path)
        raise CheckpointError(
            f"{path}: damaged, or not a file of plain tensors ({reason}); train the prompt again"
        ) from error


def _names_in(content: dict[Any, Any]) -> str:
    """Lists a few of the names in a file: a whole model has hundreds of tensors."""
    shown = [str(name) for name in content][:_SHOWN_NAMES]
    more = len(content) - len(shown)
    return (", ".join(shown) or "nothing") + (f" and {more} more" if more else "")


def _parse(path: Path, content: Any) -> PromptFile:
    if isinstance(content, Tensor):
        return PromptFile(check_embeddings(path, content), "unknown", None)
    if not isinstance(content, dict) or not isinstance(content.get(_KEY), Tensor):
        found = _names_in(content) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(
            f'{path}: found {found}, expected "{_KEY}" [P, H]; name a soft prompt\'s file'
        )
    version = content.get("format_version", FORMAT_VERSION)
    if type(version) is not int or version not in (FORMAT_VERSION, IMAGE_FORMAT_VERSION):
        fix = "use a newer IGRAG" if isinstance(version, int) else "damaged"
        raise CheckpointError(
            f"{path}: found format_version {_brief(version)}, expected {FORMAT_VERSION} or "
            f"{IMAGE_FORMAT_VERSION}; {fix}"
        )
    embeddings = check_embeddings(path, content[_KEY])
    for key, size in zip(("prompt_length", "embedding_dim"), embeddings.shape, strict=True):
        declared = content.get(key, size)
        if type(declared) is not int or declared != size:
            raise CheckpointError(
                f"{path}: {key} is {_brief(declared)}, but the embeddings have {size}; damaged"
            )
    initialization = content.get("initialization", "unknown")
    if not isinstance(initialization, str):
        raise CheckpointError(
            f"{path}: found initialization {_brief(initialization)}, expected text; damaged"
        )
    marks = content.get("fingerprint")
    try:
        fingerprint = Fingerprint.from_dict(marks) if isinstance(marks, dict) else None
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    image_prompt = None
    if version == IMAGE_FORMAT_VERSION:
        image_prompt = _parse_image_prompt(path, content, embeddings.shape[1])
    return PromptFile(embeddings, initialization, fingerprint, image_prompt)


def _parse_image_prompt(path: Path, content: dict[Any, Any], width: int) -> ImagePrompt:
    state = content.get(_IMAGE_KEY)
    try:
        if not isinstance(state, dict) or not all(map(_is_plain, state.values())):
            raise ValueError("no plain tensors")
        encoder = EncoderIdentity.from_json(content.get(_ENCODER_KEY))
        image_prompt = ImagePrompt.from_state(state, width, encoder=encoder)
    except ValueError as error:
        raise CheckpointError(f"{path}: {_IMAGE_KEY}: {error}; damaged") from None
    return image_prompt


def _is_plain(value: object) -> bool:
    """Returns whether a value is a tensor with a value in its storage for each element."""
    return (
        isinstance(value, Tensor)
        and _is_dense(value)
        and value.dtype in _DTYPES
        and value.numel() <= _stored_values(value)
    )


def _is_dense(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_nested)


def _stored_values(tensor: Tensor) -> int:
    """Returns for how many values the storage has room: a few bytes can stand for any number."""
    return tensor.untyped_storage().nbytes() // tensor.element_size()


def check_embeddings(path: Path, embeddings: Tensor) -> Tensor:
    """Returns a file's tensor as [P, H] in float32.

    Raises:
        CheckpointError: It has another shape, or values that are no finite numbers.
    """
    if not _is_dense(embeddings):
        raise CheckpointError(f"{path}: found a tensor without plain values; damaged")
    values = _stored_values(embeddings)
    if embeddings.numel() > values:
        shape = list(embeddings.shape)
        raise CheckpointError(f"{path}: found {values} values for the shape {shape}; damaged")
    if embeddings.dim() != 2 or not embeddings.numel():
        raise CheckpointError(f"{path}: found shape {list(embeddings.shape)}, expected [P, H]")
    if len(embeddings) > MOST_SOFT_TOKENS:
        raise CheckpointError(
            f"{path}: found {len(embeddings)} soft tokens, expected at most {MOST_SOFT_TOKENS}"
        )
    if embeddings.dtype not in _DTYPES or not (prompt := embeddings.float()).isfinite().all():
        raise CheckpointError(f"{path}: found values that are no finite numbers; damaged")
    return prompt


def _brief(value: object) -> str:
    if isinstance(value, int) and abs(value) >= 2**63:  # perhaps of more digits than can be shown
        return "a number out of range"
    return repr(value) if isinstance(value, str | int | float) else f"a {type(value).__name__}"
