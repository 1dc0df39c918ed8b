"""export.json: what the folder of an exported model is, as `igrag export` writes it."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from igrag.errors import DataError, ModelError
from igrag.files import read_json, write_json

EXPORT_NAME = "export.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """An exported model: a base model with a soft prompt among its tokens.

    Attributes:
        format: The runtime that it is for.
        quantization: Of the weights; float32 for none.
        prompt_length: Soft tokens, which the folder's tokenizer puts first.
        max_source_length: Longest input in tokens, with the soft tokens.
        base_model: Folder or hub id of the base model.
        lora: Whether a LoRA adapter is merged into it.
        template: Fingerprint of the prompt template that the soft prompt belongs to; None where
            the prompt's file does not have it.
        decoding: How captions were decoded when the export was checked, as `Decoding`'s fields.
        format_version: Of this file.
    """

    format: str
    quantization: str
    prompt_length: int
    max_source_length: int
    base_model: str
    lora: bool
    template: str | None
    decoding: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def write(self, folder: Path) -> None:
        """Writes export.json into a folder."""
        write_json(folder / EXPORT_NAME, asdict(self))


def read_export(folder: Path, *, runtime: str) -> ExportedModel:
    """Reads export.json of an exported model.

    Args:
        folder: The folder that `igrag export` has made.
        runtime: What it must be for, a value of --format.

    Raises:
        ModelError: It is no such folder, damaged, or for another runtime.
    """
    path = folder / EXPORT_NAME
    remedy = f"make it with igrag export PROMPT --format {runtime}"
    try:
        content = read_json(path, expected=f"a model for {runtime}; {remedy}")
    except DataError as error:
        raise ModelError(str(error)) from None
    wanted = {each.name: each.type for each in fields(ExportedModel)}
    if not isinstance(content, dict) or content.keys() != wanted.keys():
        found = sorted(content)[:3] if isinstance(content, dict) else type(content).__name__
        raise ModelError(f"{path}: found {found}, expected the keys {sorted(wanted)}; {remedy}")
    exported = ExportedModel(**content)
    wrong = [name for name, of in wanted.items() if not _is_of(of, getattr(exported, name))]
    if wrong or exported.format_version != FORMAT_VERSION:
        name = wrong[0] if wrong else "format_version"
        raise ModelError(f"{path}: {name}: found {content[name]!r}; damaged, or from a newer IGRAG")
    if exported.format != runtime:
        raise ModelError(
            f"{path}: found a model for {exported.format}, expected {runtime}; {remedy}"
        )
    return exported


def soft_tokens(prompt_length: int) -> list[str]:
    """Returns the names of the soft tokens, in their order."""
    return [f"<soft_{index}>" for index in range(prompt_length)]


def _is_of(annotation: Any, value: object) -> bool:
    if annotation is int:
        return type(value) is int and value > 0
    return isinstance(value, dict if annotation == dict[str, Any] else annotation)
