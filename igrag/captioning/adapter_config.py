"""Checks a LoRA adapter's configuration before PEFT takes it for what it should be."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, ValidationError

from igrag.errors import CheckpointError, DataError
from igrag.files import ADAPTER_CONFIG, read_json

_PLAIN = re.compile(r"[\w.]*")  # a name, which matches in no time
_MATCHING_SECONDS = 2  # CPU time in which all expressions must have matched all names
_LONGEST_WAIT = 60  # seconds that the child may take on a busy machine
_LARGEST_UNUSED = 1024  # a rank that needs little memory even if it is wrong
_LONGEST_FOUND = 60  # characters of a found value in an error
# How PEFT matches the names in its configuration that are regular expressions.
_WHOLE, _END, _PART, _INDEXED = (
    "%s", r"(.*\.)?(%s)$", r"(^|.*\.)%s($|\..*)", r"(?:^|.*?\.)%s\.(?P<idx>\d+)\.",
)  # fmt: skip
# In a child: an expression of nested repeats may never end, and only a process can be stopped.
_MATCH = """
import json, re, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]), int(sys.argv[1]) + 1))
except ImportError:
    pass
expressions, names = json.load(sys.stdin)
for expression in map(re.compile, expressions):
    for name in names:
        expression.match(name)
        expression.fullmatch(name)
"""
Names = str | list[str] | None


class AdapterConfig(BaseModel):
    """What this project and PEFT's loading use of adapter_config.json; other keys are PEFT's own.

    Attributes:
        r: Rank.
        target_modules: Names of layers, or a regular expression.
        rank_pattern: Regular expression of a layer's name -> its rank.
        megatron_config: PEFT would import the module that megatron_core names.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    r: StrictInt = Field(8, ge=1)
    lora_alpha: StrictInt | StrictFloat = 8
    lora_dropout: StrictInt | StrictFloat = Field(0.0, ge=0, le=1)
    target_modules: Names = None
    exclude_modules: Names = None
    modules_to_save: list[str] | None = None
    layers_pattern: Names = None
    layers_to_transform: StrictInt | list[StrictInt] | None = None
    rank_pattern: dict[str, StrictInt] | None = None
    alpha_pattern: dict[str, StrictInt | StrictFloat] | None = None
    megatron_config: None = None

    @property
    def expressions(self) -> list[str]:
        """The regular expressions that are more than a name, each as PEFT's form of it."""
        layers = self.layers_pattern or []
        by_form = {
            _WHOLE: [m for m in (self.target_modules, self.exclude_modules) if isinstance(m, str)],
            _END: [*(self.rank_pattern or {}), *(self.alpha_pattern or {})],
            _PART: self.modules_to_save or [],
            _INDEXED: [layers] if isinstance(layers, str) else layers,
        }
        return [
            form % pattern
            for form, patterns in by_form.items()
            for pattern in patterns
            if not _PLAIN.fullmatch(pattern)
        ]


def check_adapter_config(path: Path) -> AdapterConfig:
    """Reads and checks adapter_config.json.

    Args:
        path: The adapter's folder.

    Raises:
        CheckpointError: It is damaged, not that of a LoRA adapter, or a value is of a wrong type.
    """
    file = path / ADAPTER_CONFIG
    try:
        content = read_json(file, expected="PEFT's configuration of an adapter")
    except DataError as error:
        raise CheckpointError(str(error)) from None
    found = content.get("peft_type") if isinstance(content, dict) else None
    if found != "LORA":
        raise CheckpointError(
            f"{file}: found an adapter of the type {str(found)[:_LONGEST_FOUND]}, expected LORA; "
            "name the folder of a LoRA adapter, or disable LoRA"
        )
    try:
        return AdapterConfig.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        expected = problem["msg"].removeprefix("Input should be ")
        raise CheckpointError(
            f"{file}: {problem['loc'][0]}: found {_brief(problem['input'])}, expected {expected}; "
            "correct it, or save the adapter again"
        ) from None


def check_fits(
    path: Path, config: AdapterConfig, names: Iterable[str], ranks: Iterable[int]
) -> None:
    """Checks what PEFT would spend without end: time on expressions, memory on large ranks.

    Args:
        path: The adapter's folder.
        config: Its configuration.
        names: The names of the model's layers.
        ranks: Those of the tensors in the adapter's file.

    Raises:
        CheckpointError: An expression does not end or is none, or a rank is not that of the file.
    """
    if config.expressions:
        _check_expressions(path / ADAPTER_CONFIG, config.expressions, list(names))
    largest = max(ranks, default=0)
    declared = max([config.r, *(config.rank_pattern or {}).values()])
    # A rank that patterns replace in all layers need not be there, and costs nothing.
    if declared > max(largest, _LARGEST_UNUSED if config.rank_pattern else 0):
        raise CheckpointError(
            f"{path / ADAPTER_CONFIG}: found rank {declared}, expected the {largest} of its "
            "weights; correct r, or save the adapter again"
        )


def _check_expressions(file: Path, expressions: list[str], names: list[str]) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _MATCH, str(_MATCHING_SECONDS)],
            input=json.dumps([expressions, names]),
            text=True,
            capture_output=True,
            timeout=_LONGEST_WAIT,
            check=False,
        )
        ended = done.returncode >= 0
    except subprocess.TimeoutExpired:
        ended = False
    if not ended:
        raise CheckpointError(
            f"{file}: found a regular expression that takes too long ({_brief(expressions[0])}), "
            "expected names of layers; name the layers in target_modules"
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["?"])[-1]
        raise CheckpointError(
            f"{file}: found no regular expression ({reason[:100]}), expected names of layers"
        )


def _brief(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_FOUND else f"{text[:_LONGEST_FOUND]}..."
