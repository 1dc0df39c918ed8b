"""Reads one YAML mapping with YAML 1.2's scalars, and records the line of every key."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain, islice
from pathlib import Path
from typing import Any

import yaml

from igrag.errors import ConfigError
from igrag.inputs import actual_content, read_text

KeyPath = tuple[str, ...]

# Far more than any configuration has, and still read in a moment.
_MOST_BYTES, _MOST_VALUES, _MOST_LEVELS = 200_000, 3_000, 50
_LISTED = 10  # problems that are named; of more, the number


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
        raise ConfigError(join_problems(document.problems, len(document.problems)))
    return document.content


def join_problems(problems: Iterable[str], count: int) -> str:
    """Joins the first ten of `count` problems, which are made one by one, for one error."""
    shown = list(islice(problems, _LISTED))
    more = [f"and {count - len(shown):,} more problems"] if count > len(shown) else []
    return "; ".join([*shown, *more])


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
    except Exception as error:  # PyYAML's own, and nearly any where a tag does not fit its value.
        raise ConfigError(_explain_syntax(path, text, error)) from None
    if content is None:
        raise ConfigError(
            f"{path}: is empty, expected sections with keys (see configs/config.yaml)"
        )
    if not isinstance(content, dict):
        found = actual_content(path) or f"a {type(content).__name__}"
        raise ConfigError(f"{path}: found {found}, expected sections with keys")
    return Document(content, {keys: f"{path}:{line}" for keys, line in lines.items()}, duplicates)


def parse_value(text: str) -> Any:
    """Reads a value typed on the command line as YAML.

    Raises:
        ValueError: It is not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except Exception:  # as in `read_document`
        raise ValueError("the value is not valid YAML; quote it") from None


class _TooLargeError(yaml.MarkedYAMLError):
    """More values than any configuration has, as such or where aliases are expanded."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with bounds and with YAML 1.2's scalars; PyYAML's own are those of 1.1.

    A few lines of aliases of aliases stand for billions of values, which checks and messages
    would expand one by one.
    """

    _values = _levels = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Composes a node as PyYAML does, up to the bounds."""
        self._values, self._levels = self._values + 1, self._levels + 1
        for count, most, name in (
            (self._values, _MOST_VALUES, "values"),
            (self._levels, _MOST_LEVELS, "levels"),
        ):
            if count > most:
                parser: Any = self  # The library's types lack this method's.
                mark = parser.peek_event().start_mark
                raise _TooLargeError(problem=f"more than {most:,} {name}", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._levels -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        """Composes the document, whose aliases may not expand it beyond the bound."""
        node = super().get_single_node()
        if node is not None:
            _count_expanded(node, {})
        return node


def _count_expanded(node: yaml.Node, counted: dict[int, int | None]) -> int:
    """Counts the values of a node with its aliases expanded; `counted` holds those known."""
    if id(node) in counted:
        count = counted[id(node)]
        if count is None:
            mark = node.start_mark
            raise _TooLargeError(problem="an anchor with an alias of itself", problem_mark=mark)
        return count
    counted[id(node)] = None
    pairs = node.value if isinstance(node, yaml.CollectionNode) else []
    children = chain.from_iterable(pairs) if isinstance(node, yaml.MappingNode) else pairs
    total = 1 + sum(_count_expanded(child, counted) for child in children)
    if total > _MOST_VALUES:
        problem = f"aliases that stand for more than {_MOST_VALUES:,} values"
        raise _TooLargeError(problem=problem, problem_mark=node.start_mark)
    counted[id(node)] = total
    return total


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
        return read_text(path, most_bytes=_MOST_BYTES)
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
    where = str(path)
    what = str(error)
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else where
        what = ", ".join(part for part in (error.context, error.problem) if part)
    elif isinstance(error, yaml.reader.ReaderError):
        where = f"{path}:{text.count(chr(10), 0, error.position) + 1}"
        what = error.reason
    if isinstance(error, _TooLargeError):
        return f"{where}: found {what}, expected sections with keys"
    if found := actual_content(path):
        return f"{path}: is {found}"
    return f"{where}: not valid YAML: {what}; correct the line, quote texts that hold : or #"
