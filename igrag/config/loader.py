"""Reads a YAML file into a pydantic model: strictly, with every problem in one error."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from igrag.config.paths import file_root, locate, portable, resolve_path
from igrag.config.yaml_file import Document, KeyPath, join_problems, parse_value, read_document
from igrag.errors import ConfigError
from igrag.files import is_file

M = TypeVar("M", bound="Section")

_LONGEST_VALUE = 60  # Characters of a found value that are shown.
_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a section with keys",
    "float_type": "a number",
    "int_type": "an integer",
    "invalid_key": "a key that is text; quote it",
    "is_instance_of": "a path",
    "list_type": "a list",
    "model_type": "a section with keys",
    "string_type": "text; quote it if it looks like something else",
}


class Section(BaseModel):
    """A section of a YAML file: unknown keys are errors, and nothing is converted silently.

    A validator raises ValueError with what it expects ("a path under ..."); the loader adds the
    file, the line, the key and what was found.

    Attributes:
        renamed: Earlier names of keys -> their names now; the earlier ones are still read.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, validate_default=True
    )
    renamed: ClassVar[Mapping[str, str]] = {}

    def to_plain(self, *, include: set[str] | None = None) -> dict[str, Any]:
        """Returns the section, or the keys to include, as JSON can hold it; see `portable`."""
        content: dict[str, Any] = _to_plain(self.model_dump(include=include))
        return content


def setting(default: Any, en: str, zh: str, **constraints: Any) -> Any:
    """Declares a key: its default and what it means, for YAML comments, READMEs and errors.

    Args:
        default: The default; `...` for a key that must be set, `{}` for a section whose keys all
            have their defaults.
        en: The description in English.
        zh: The description in Chinese.
        constraints: As pydantic's Field takes them (`gt`, `alias`, ...).
    """
    return Field(default, description=en, json_schema_extra={"zh": zh}, **constraints)


def load_config(
    model: type[M],
    path: Path,
    overrides: Sequence[str] = (),
    *,
    options: Mapping[str, str] | None = None,
) -> M:
    """Reads `path` and the files it is based on, applies the overrides and checks the result.

    A file may name another one with `base: other.yaml`, from its own folder, and change some keys.

    Args:
        model: The section that describes the whole file.
        path: The YAML file.
        overrides: Each "section.key=value", the value in YAML; later ones win. Relative paths
            in them count from the cwd, those in a file from its project's root.
        options: Which of their keys the user typed as an option: "data.seed" -> "--seed".

    Raises:
        ConfigError: The file cannot be read, or does not fit; all problems in one line.
    """
    document = _read(model, path, ())
    problems: list[str] = list(document.problems)
    found: dict[KeyPath, list[ErrorDetails]] = {}
    overridden: list[KeyPath] = []
    for override in overrides:
        try:
            overridden.append(_apply(document.content, override, model))
        except ValueError as error:
            problems.append(f"--set {override}: {error}")
    checked = None
    try:
        checked = model.model_validate(document.content, context={"root": file_root(path)})
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            found.setdefault(_key_path(problem, document.content), []).append(problem)
        # A mapping with wrong keys: that it is no list and no number either helps nobody.
        inner = {keys[:length] for keys in found for length in range(1, len(keys))}
        found = {
            keys: each
            for keys, each in found.items()
            if keys not in inner or not isinstance(each[0]["input"], dict)
        }
    if checked is None or problems:
        wrong = (
            f"{_origin(keys, path, document, overridden, options or {})}: "
            f"{_describe(keys, each, model)}"
            for keys, each in found.items()
        )
        raise ConfigError(join_problems(chain(problems, wrong), len(problems) + len(found)))
    return checked


def _read(model: type[Section], path: Path, named_by: tuple[Path, ...]) -> Document:
    """Reads a file merged over its bases; `named_by` are the files that led to it."""
    document = read_document(path)
    _rename(document, model, document.content, ())
    locate(document.content, file_root(path))
    base = document.content.pop("base", None)
    if base is None:
        return document
    where = f"{document.origins.get(('base',), path)}: base"
    if not isinstance(base, str):
        raise ConfigError(f"{where}: found {json.dumps(base)}, expected the path of a YAML file")
    try:
        file = resolve_path(str(base), path.parent)
    except ValueError as error:
        raise ConfigError(f"{where}: found {json.dumps(base)}, expected {error}") from None
    if not is_file(file):
        raise ConfigError(f"{where}: {file}: no such file, expected a path from {path.parent}")
    readers = [reader.resolve() for reader in (*named_by, path)]
    if file.resolve() in readers:
        raise ConfigError(f"{where}: {file} is based on this file itself; remove one base")
    below = _read(model, file, (*named_by, path))
    return Document(
        _merge(below.content, document.content),
        below.origins | document.origins,
        below.problems + document.problems,
    )


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Returns `below` with the keys of `above`; sections are merged key by key."""
    merged = below | above
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _merge(below[key], above[key])
    return merged


def _rename(document: Document, model: Any, content: Any, prefix: KeyPath) -> None:
    """Gives keys that a file has under an earlier name the one they have now."""
    section = _section(model)
    if section is None or not isinstance(content, dict):
        return
    for old, new in section.renamed.items():
        if old not in content:
            continue
        # What an alias or a merge key adds has no line of its own.
        where = document.origins.get((*prefix, old), "an alias")
        name = ".".join((*prefix, old))
        if new in content:
            document.problems.append(
                f"{where}: {name}: is called {new} now, which is there too; keep {new} alone"
            )
        else:
            print(f"note: {where}: {name} is called {new} now; rename it", file=sys.stderr)
            content[new] = content[old]
        del content[old]
        depth = len(prefix)
        for keys in [keys for keys in document.origins if keys[: depth + 1] == (*prefix, old)]:
            document.origins[(*prefix, new, *keys[depth + 1 :])] = document.origins.pop(keys)
    for key, field in _fields(section, ()).items():
        if key in content:
            _rename(document, field.annotation, content[key], (*prefix, key))


def _section(annotation: Any) -> type[Section] | None:
    """Returns the section that an annotation holds, as in `Data | None`."""
    options = (annotation, *get_args(annotation))
    return next((o for o in options if isinstance(o, type) and issubclass(o, Section)), None)


def _to_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    return portable(value) if isinstance(value, Path) else value


def _apply(content: dict[str, Any], override: str, model: type[Section]) -> KeyPath:
    """Sets one "section.key=value" in `content` and returns its key path."""
    name, equals, text = override.partition("=")
    keys = tuple(key.strip() for key in name.split("."))
    if not equals or not all(keys):
        raise ValueError("expected section.key=value")
    keys = _current_names(keys, model)
    value = locate(parse_value(text), Path.cwd())
    *sections, last = keys
    target = content
    for depth, section in enumerate(sections, start=1):
        if target.get(section) is None:
            target[section] = {}
        target = target[section]
        if not isinstance(target, dict):
            raise ValueError(f"{'.'.join(sections[:depth])} is a value, expected a section")
    target[last] = value
    return keys


def _current_names(keys: KeyPath, model: Any) -> KeyPath:
    section = _section(model)
    if section is None or not keys:
        return keys
    key = section.renamed.get(keys[0], keys[0])
    field = _fields(section, ()).get(key)
    return (key, *_current_names(keys[1:], field.annotation if field else None))


def _key_path(problem: ErrorDetails, content: Any) -> KeyPath:
    """Returns the part of pydantic's location that is in the file, without union branches."""
    keys: list[str] = []
    for part in map(str, problem["loc"]):
        if isinstance(content, list):
            content = dict(enumerate(content))
        if not isinstance(content, dict):
            break
        children = {str(key): child for key, child in content.items()}
        if part in children:
            keys.append(part)
            content = children[part]
    if problem["type"] == "missing":
        keys.append(str(problem["loc"][-1]))
    return tuple(keys)


def _origin(
    keys: KeyPath,
    path: Path,
    document: Document,
    overridden: Sequence[KeyPath],
    options: Mapping[str, str],
) -> str:
    """Returns where a key comes from: "FILE:LINE: key", "--set key", or the option that sets it."""
    name = ".".join(keys)
    for override in overridden:
        inside = keys[: len(override)] == override
        made_by_it = override[: len(keys)] == keys and keys and keys not in document.origins
        if inside or made_by_it:
            return options.get(name, f"--set {name}")
    ancestors = (keys[:length] for length in range(len(keys), 0, -1))
    origins = document.origins
    where = next((origins[keys] for keys in ancestors if keys in origins), str(path))
    return f"{where}: {name}" if name else where


def _describe(keys: KeyPath, problems: Sequence[ErrorDetails], model: type[BaseModel]) -> str:
    first = problems[0]
    if first["type"] == "extra_forbidden":
        return f"unknown key, {_suggest(keys, model)}"
    if first["type"] == "missing":
        field = _fields(model, keys[:-1]).get(keys[-1])
        hint = field.description if field and field.description else "a value"
        return f"missing, expected: {hint.rstrip('.')}"
    expected = " or ".join(dict.fromkeys(_expected(problem) for problem in problems))
    if isinstance(first["input"], dict) and first["type"] == "value_error":
        return f"expected {expected}"
    # Keys that JSON cannot have, such as dates, are left out.
    found = json.dumps(first["input"], ensure_ascii=False, default=str, skipkeys=True)
    if len(found) > _LONGEST_VALUE:
        found = found[:_LONGEST_VALUE] + "..."
    return f"found {found}, expected {expected}"


def _expected(problem: ErrorDetails) -> str:
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return _EXPECTED.get(problem["type"], message)


def _suggest(keys: KeyPath, model: type[BaseModel]) -> str:
    *section, key = keys
    known = list(_fields(model, tuple(section)))
    close = get_close_matches(key, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    elsewhere = [".".join(path) for path in _all_keys(model, ()) if path[-1] == key]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    return f"expected one of {', '.join(known)}"


def _all_keys(model: type[BaseModel], prefix: KeyPath) -> Iterator[KeyPath]:
    for key, field in _fields(model, ()).items():
        yield (*prefix, key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _all_keys(field.annotation, (*prefix, key))


def _fields(annotation: Any, keys: KeyPath) -> dict[str, FieldInfo]:
    """Returns the fields, by their names in the YAML, of the section at `keys`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
        if not keys:
            return fields
        return _fields(fields[keys[0]].annotation, keys[1:]) if keys[0] in fields else {}
    options = get_args(annotation)
    if keys and get_origin(annotation) in (dict, list):
        return _fields(options[-1], keys[1:])
    found = (_fields(option, keys) for option in options)
    return next((fields for fields in found if fields), {})
