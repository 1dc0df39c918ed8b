"""Reads one YAML mapping with YAML 1.2's scalars, and records the line of every key."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from igrag.errors import ConfigError

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """The content of a YAML file, where each key stands ("FILE:LINE"), and its problems."""

    content: dict[str, Any]
    origins: dict[KeyPath, str]
    problems: list[str]


def quote(text: str) -> str:
    """Quotes a text for YAML: a folder may be called 2026, null or "run #1"."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # Half a surrogate pair, as in a name that is not UTF-8.
        return json.dumps(text)
    # ensure_ascii would escape an emoji as two halves, which YAML does not join.
    return json.dumps(text, ensure_ascii=False)


def load_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping: `1e-4` is a number, `on`, `yes` and `no` are words.

    Raises:
        ConfigError: Missing, not UTF-8, not YAML, empty, not a mapping, or with duplicate keys.
    """
    document = read_document(path)
    if document.problems:
        raise ConfigError("; ".join(document.problems))
    return document.content


def read_document(path: Path) -> Document:
    """Reads a YAML mapping; duplicate keys are listed among its problems.

    Raises:
        ConfigError: Missing, not UTF-8, not YAML, empty, or not a mapping.
    """
    text = _read_text(path)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            lines: dict[KeyPath, int] = {}
            duplicates = [f"{path}:{problem}" for problem in _walk(node, (), lines, set())]
            content = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(_explain_syntax(path, text, error)) from None
    if content is None:
        raise ConfigError(
            f"{path}: is empty, expected sections with keys (see configs/config.yaml)"
        )
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: found a {type(content).__name__}, expected sections with keys")
    return Document(content, {keys: f"{path}:{line}" for keys, line in lines.items()}, duplicates)


def parse_value(text: str) -> Any:
    """Reads a value typed on the command line as YAML.

    Raises:
        ValueError: It is not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except (yaml.YAMLError, RecursionError):
        raise ValueError("the value is not valid YAML; quote it") from None


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's scalars; PyYAML's own are those of 1.1."""


# First letters of the scalar ("" is the empty one) -> what it then must look like.
_SCALARS = (
    ("bool", list("tTfF"), r"true|True|TRUE|false|False|FALSE"),
    ("null", ["~", "n", "N", ""], r"~|null|Null|NULL|"),
    ("int", list("-+0123456789"), r"[-+]?[0-9]+"),
    (
        "float",
        list("-+.0123456789"),
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    ),
)
_Loader.yaml_implicit_resolvers = {}
for _tag, _letters, _pattern in _SCALARS:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _letters
    )


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))  # PyYAML's own reads 010 as octal.


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        siblings = [file.name for file in path.parent.glob("*.y*ml")]
        close = get_close_matches(path.name, siblings, n=1)
        hint = f"did you mean {close[0]}?" if close else "expected a YAML configuration"
        raise ConfigError(f"{path}: no such file, {hint}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder, expected a YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: is not UTF-8 (byte {error.start}), expected a YAML file; save it as UTF-8"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _walk(
    node: yaml.Node | None, prefix: KeyPath, lines: dict[KeyPath, int], seen: set[int]
) -> Iterator[str]:
    """Records the line of each key and yields an error for each duplicate."""
    if id(node) in seen:  # An alias, which may stand inside its own anchor.
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*prefix, str(index)), lines, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        path = (*prefix, str(key.value))
        line = key.start_mark.line + 1
        if path in lines:
            yield f"{line}: duplicate key {'.'.join(path)}, first on line {lines[path]}; keep one"
        lines.setdefault(path, line)
        yield from _walk(value, path, lines, seen)


def _explain_syntax(path: Path, text: str, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"{path}: is nested too deeply, expected sections with keys"
    where = str(path)
    what = str(error)
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else where
        what = ", ".join(part for part in (error.context, error.problem) if part)
    elif isinstance(error, yaml.reader.ReaderError):
        where = f"{path}:{text.count(chr(10), 0, error.position) + 1}"
        what = error.reason
    return f"{where}: not valid YAML: {what}; correct the line, quote texts that hold : or #"
