"""Writes the descriptions of settings into YAML comments and tables of documents: make docs.

A key is described where it is declared. From there come

- the comment after each key in the YAML files that ship, where missing keys are inserted with their
  defaults, and
- tables in Markdown files, between `<!-- settings: MODULE.CLASS lang=en -->` and
  `<!-- end settings -->`.
"""

import argparse
import difflib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from igrag.cli import CommandParser, add_common_options, run_command
from igrag.config import REPO_ROOT, Section, portable
from igrag.config.choices import in_words, words
from igrag.errors import DataError

# Every folder of configuration files -> what they must be.
MODELS = {
    "configs": "igrag.config.Config",
    "lora_training/config": "lora_training.settings.LoraSettings",
    "prompt_tuning/config": "prompt_tuning.settings.PromptTrainingSettings",
    "prompt_tuning/sweep": "prompt_tuning.sweep.settings.SweepSettings",
}
DOCUMENT_FOLDERS = (
    ".", "docs", "benchmarks", "demo", "evaluation", "lora_training", "prompt_tuning"
)  # fmt: skip
_COLUMN = 40  # where comments begin, if the line is not longer
_LONGEST_LINE = 72  # a comment after a longer one would not be seen: it goes above
_TABLE = re.compile(
    r"(<!-- settings: (?P<model>[\w.]+) lang=(?P<lang>en|zh) -->\n)(?P<table>.*?)"
    r"(<!-- end settings -->)",
    flags=re.DOTALL,
)
_HEADS = {"en": ("Key", "Default", "Meaning"), "zh": ("键", "默认值", "含义")}
_REQUIRED = {"en": "required", "zh": "必填"}


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Writes what differs, or with --check prints it; returns the exit code."""
    changes = list(find_changes(arguments.root))
    for path, old, new in changes:
        if arguments.check:
            lines = difflib.unified_diff(
                old.splitlines(), new.splitlines(), str(path), "make docs", lineterm="", n=0
            )
            print("\n".join(lines))
        else:
            path.write_text(new, encoding="utf-8")
            print(f"{path}: written")
    return 1 if arguments.check and changes else 0


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(__doc__ or "")
    add = parser.add_argument
    add("--check", action="store_true", help="write nothing; exit with 1 if something differs")
    add("--root", type=Path, default=REPO_ROOT, metavar="FOLDER", help="default: the repository")
    add_common_options(parser)
    return parser.parse_args(words)


def find_changes(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Yields each file that differs from its descriptions, with its text and the new one."""
    texts = [
        (path, comment_keys(text, load_model(name)))
        for folder, name in MODELS.items()
        for path in sorted((root / folder).glob("*.yaml"))
        for text in [path.read_text(encoding="utf-8")]
    ]
    documents = [path for folder in DOCUMENT_FOLDERS for path in (root / folder).glob("*.md")]
    texts += [(path, fill_tables(path)) for path in sorted(documents)]
    for path, new in texts:
        old = path.read_text(encoding="utf-8")
        if new != old:
            yield path, old, new


def load_model(name: str) -> type[Section]:
    """Imports a section by its full name."""
    module, _, class_name = name.rpartition(".")
    model: type[Section] = getattr(import_module(module), class_name)
    return model


def describe(field: FieldInfo, lang: str = "en") -> str:
    """Returns a key's description, after its choices where it has some."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    text = str(field.description if lang == "en" else extra.get("zh"))
    if get_origin(field.annotation) is not Literal:
        return text
    if lang == "zh":
        return f"{'、'.join(words(field.annotation))}：{text}"
    return f"{in_words(field.annotation)}: {text[0].lower()}{text[1:]}"


# YAML comments


@dataclass(frozen=True, slots=True)
class _Key:
    """A key in a YAML file: where its line is, and where its text ends without a comment."""

    path: tuple[str, ...]
    line: int
    end: int
    last_line: int


def comment_keys(text: str, model: type[Section]) -> str:
    """Returns a YAML file with the description after each key, and its missing keys inserted.

    A description after a long line goes into the comment line above it. A file with a `base` has
    only the keys that it changes.
    """
    if "base" not in _keys_of(text, ()):
        text = _insert_missing(text, model, ())
    lines = text.splitlines()
    for key in reversed(list(_walk(yaml.compose(text), ()))):  # from below: a line may be added
        field = find_field(model, key.path)
        if field is None:
            continue
        content, comment = lines[key.line][: key.end], f"# {describe(field)}"
        if len(content) <= _LONGEST_LINE:
            lines[key.line] = f"{content:<{_COLUMN - 2}}  {comment}"
            continue
        indented = f"{'  ' * (len(key.path) - 1)}{comment}"
        above = key.line - 1 if lines[key.line - 1].lstrip().startswith("#") else key.line
        lines[above : key.line + 1] = [indented, content]
    return "\n".join(lines) + "\n"


def find_field(model: Any, path: Sequence[str]) -> FieldInfo | None:
    """Returns the field of a key path; None for names of the user's own and unknown keys."""
    options = [o for o in (model, *get_args(model)) if isinstance(o, type)]
    section = next((o for o in options if issubclass(o, Section)), None)
    if section is None or not path:
        return None
    if get_origin(model) is dict:
        return find_field(section, path[1:])
    fields = {field.alias or name: field for name, field in section.model_fields.items()}
    field = fields.get(path[0])
    return find_field(field.annotation, path[1:]) if field and path[1:] else field


def _walk(node: yaml.Node | None, prefix: tuple[str, ...]) -> Iterator[_Key]:
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        return
    for key, value in node.value:
        path = (*prefix, str(key.value))
        inline = value.end_mark if _is_inline(key, value) else None
        end = inline.column if inline else key.end_mark.column + 1  # the colon's
        if isinstance(value, yaml.ScalarNode) and value.style in ("|", ">"):
            mark = value.start_mark
            header = re.match(r"[|>][-+\d]*", str(mark.buffer)[mark.pointer :])
            end = mark.column + len(header[0] if header else "")
        # A mapping ends, for the parser, where the next key begins.
        last_line = 0 if isinstance(value, yaml.MappingNode) else value.end_mark.line
        yield _Key(path, key.start_mark.line, end, last_line)
        yield from _walk(value, path)


def _is_inline(key: yaml.Node, value: yaml.Node) -> bool:
    if value.end_mark.line != key.start_mark.line:
        return False
    return not isinstance(value, yaml.CollectionNode) or bool(value.flow_style)


def _keys_of(text: str, prefix: tuple[str, ...]) -> dict[str, _Key]:
    keys = _walk(yaml.compose(text), ())
    return {key.path[-1]: key for key in keys if key.path[:-1] == prefix}


def _insert_missing(text: str, model: type[Section], prefix: tuple[str, ...]) -> str:
    """Inserts a section's missing keys, each after the key that is declared before it."""
    previous = None
    for name, field in model.model_fields.items():
        key = field.alias or name
        found = _keys_of(text, prefix)
        section: Any = field.annotation if is_section(field.annotation) else None
        if key not in found and found:
            lines = text.splitlines()
            first = min(each.line for each in found.values())
            line = first if previous is None else _end_of(text, found[previous])
            new = [f"{'  ' * len(prefix)}{key}:"]
            if section is None:
                new[0] += f" {yaml_value(field)}"
            else:
                new += [
                    f"{'  ' * (len(prefix) + 1)}{inner.alias or name}: {yaml_value(inner)}"
                    for name, inner in section.model_fields.items()
                ]
            lines[line:line] = new
            text = "\n".join(lines) + "\n"
        elif section is not None:
            text = _insert_missing(text, section, (*prefix, key))
        previous = key
    return text


def _end_of(text: str, key: _Key) -> int:
    """Returns the line after a key and its value, without the comments before the next key."""
    depth = len(key.path)
    last = [each for each in _walk(yaml.compose(text), ()) if each.path[:depth] == key.path][-1]
    return max(last.line + 1, last.last_line)


def is_section(annotation: Any) -> bool:
    """Returns whether an annotation is a section itself."""
    return isinstance(annotation, type) and issubclass(annotation, Section)


def yaml_value(field: FieldInfo) -> str:
    """Writes a field's default as YAML."""
    default = default_of(field)
    if default is PydanticUndefined:
        raise DataError(f"{field.description}: a key without a default is missing in a YAML file")
    return json.dumps(default, ensure_ascii=False)


def default_of(field: FieldInfo) -> Any:
    """Returns a field's default as JSON data."""
    default = field.get_default(call_default_factory=True)
    return portable(default) if isinstance(default, Path) else default


# Tables


def fill_tables(path: Path) -> str:
    """Returns a document with its tables of settings regenerated."""

    def table(found: re.Match[str]) -> str:
        model, lang = load_model(found["model"]), found["lang"]
        return f"{found[1]}{settings_table(model, lang)}{found[5]}"

    return _TABLE.sub(table, path.read_text(encoding="utf-8"))


def settings_table(model: type[Section], lang: str) -> str:
    """Returns the keys of a section, and of those inside it, as a Markdown table."""
    rows = [_HEADS[lang], ("---",) * 3, *_table_rows(model, lang, "")]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n"
                   for row in rows)  # fmt: skip


def _table_rows(model: type[Section], lang: str, prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        if is_section(field.annotation):
            section: Any = field.annotation
            yield from _table_rows(section, lang, f"{key}.")
            continue
        default = default_of(field)
        required = default is PydanticUndefined
        shown = _REQUIRED[lang] if required else f"`{json.dumps(default, ensure_ascii=False)}`"
        yield f"`{key}`", shown, describe(field, lang)


if __name__ == "__main__":
    sys.exit(command())
