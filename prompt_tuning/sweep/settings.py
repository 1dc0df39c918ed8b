"""What a sweep's YAML may contain, and the search space that follows from it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import model_validator

from igrag.config import ConfigPath, Section, load_config, quote, resolve_path, setting
from igrag.config.choices import Pruner
from igrag.config.paths import default_root, file_root
from igrag.config.training import Positive, Seed
from igrag.config.yaml_file import read_document
from igrag.errors import ConfigError
from prompt_tuning.settings import DEFAULT_SETTINGS, NotNegative, PromptTrainingSettings

DEFAULT_SWEEP = Path(__file__).parent / "sweep.yaml"
DEFAULT_OUTPUT = default_root() / "prompt_tuning" / "checkpoints" / "sweep"
Number = int | float
Choice = None | bool | int | float | str
# Keys that say where a trial's results go: every trial has a folder of its own.
_PATHS = "data.image_vectors"  # the one key that is a list of paths
_NOT_SEARCHED = ("output.", "prompt_tuning.weights_path", "prompt_tuning.enabled")


class Range(Section):
    """The values from `low` to `high`; integers if both are integers."""

    low: Number = setting(..., "Lowest value.", "最小值。")
    high: Number = setting(..., "Highest value.", "最大值。")
    step: Number | None = setting(None, "Distance of the values.", "取值间隔。")
    log: bool = setting(False, "Search on a logarithmic scale.", "在对数尺度上搜索。")

    @property
    def is_integer(self) -> bool:
        """Whether its values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @model_validator(mode="after")
    def _check(self) -> "Range":
        if self.low >= self.high:
            raise ValueError("low to be below high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("low above 0 and no step, since log is true")
        if self.step is not None and self.step <= 0:
            raise ValueError("a step above 0")
        if self.is_integer and isinstance(self.step, float):
            raise ValueError("a whole step, since low and high are integers")
        return self


class SweepSettings(Section):
    """The whole file."""

    config: ConfigPath = setting(
        DEFAULT_SETTINGS,
        "The training configuration that every trial changes.",
        "每次试验在其之上修改的训练配置。",
    )
    search_space: dict[str, Range | list[Choice] | Choice] = setting(
        ...,
        "Key of that configuration: a range, a list of values, or one value for all trials.",
        "该配置中的键：取值范围、取值列表，或所有试验共用的一个值。",
        min_length=1,
    )
    trials: Positive = setting(
        20, "Trials of the study, those of earlier runs included.", "试验总数，包括此前已运行的。"
    )
    startup_trials: NotNegative = setting(
        10,
        "Trials that are drawn at random before TPE models the results.",
        "TPE 建模前随机抽取的试验数。",
    )
    seed: Seed = setting(0, "Seed of the search.", "搜索的随机种子。")
    pruner: Pruner = setting(
        "median",
        "Stops trials at a validation: below the median of others, or by successive halving.",
        "在验证时提前停止试验：低于此前试验的中位数，或按逐次减半。",
    )
    pruner_startup_trials: NotNegative = setting(
        5,
        "median: trials that finish before any is stopped.",
        "median：提前停止之前须完成的试验数。",
    )
    pruner_warmup_validations: NotNegative = setting(
        0, "Validations of a trial before it may be stopped.", "单次试验可被停止之前的验证次数。"
    )


@dataclass(frozen=True, slots=True)
class Sweep:
    """A checked sweep.

    Attributes:
        settings: The content of its file.
        training: The training settings of all trials, without what is searched.
        fixed: Key -> value where it differs from the training configuration in every trial.
        parameters: Key -> what is searched.
    """

    settings: SweepSettings
    training: PromptTrainingSettings
    fixed: Mapping[str, Any]
    parameters: Mapping[str, Range | list[Choice]]


def load_sweep(path: Path, overrides: Sequence[str] = (), *, trials: int | None = None) -> Sweep:
    """Reads a sweep's file, and checks every value of its search space.

    Args:
        path: The YAML file. Relative paths in it count from its project.
        overrides: "section.key=value" of the training settings, for all trials; they win over
            the file's search space.
        trials: Replaces the file's number of trials.

    Raises:
        ConfigError: A key or a value is none of the training's, with file, line and key.
    """
    more = [] if trials is None else [f"trials={trials}"]
    settings = load_config(SweepSettings, path, more)
    typed = PromptTrainingSettings.load(settings.config, list(overrides))
    fixed = {key: _value_of(typed, key) for key in map(_key_of, overrides)}
    space = {_key_of(name): searched for name, searched in settings.search_space.items()}
    check = _Check(settings.config, path, settings.search_space)
    single = {
        key: value
        for key, value in space.items()
        if not isinstance(value, Range | list) and key not in fixed
    }
    fixed |= check.values(single, fixed)
    parameters: dict[str, Range | list[Choice]] = {}
    for key, searched in space.items():
        if key in fixed:
            continue
        if isinstance(searched, Range):
            for value in (searched.low, searched.high):
                check.values({key: value}, fixed)
            parameters[key] = searched
        elif isinstance(searched, list):
            parameters[key] = [check.values({key: value}, fixed)[key] for value in searched]
    if not parameters:
        raise ConfigError(f"{path}: search_space: found single values, expected a range or a list")
    training = PromptTrainingSettings.load(settings.config, as_overrides(fixed))
    return Sweep(settings, training, fixed, parameters)


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """Returns settings as --set takes them."""
    return [f"{key}={_as_yaml(value)}" for key, value in values.items()]


def format_value(value: Any) -> str:
    """Returns a searched value as tables and messages show it: "0.0312", "random"."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class _Check:
    """Checks values of a search space as the training itself would, with the file in errors.

    Args:
        config: The training configuration.
        path: The sweep's file.
        names: The keys of its search space.
    """

    def __init__(self, config: Path, path: Path, names: Iterable[str]) -> None:
        self._config, self._root = config, file_root(path)
        self._origins: dict[str, str] = {}
        origins = read_document(path).origins
        for name in names:
            key = _key_of(name)
            where = f"{origins.get(('search_space', name), path)}: search_space.{name}"
            if key.startswith(_NOT_SEARCHED):
                raise ConfigError(f"{where}: names where results go, expected a training setting")
            # An unknown section is reported under its own name.
            parts = key.split(".")
            self._origins |= {".".join(parts[:end]): where for end in range(1, len(parts) + 1)}

    def values(self, values: Mapping[str, Choice], others: Mapping[str, Any]) -> dict[str, Any]:
        """Returns values as the training's settings hold them.

        Args:
            values: Key -> value.
            others: Further values that the training has.

        Raises:
            ConfigError: A key is unknown, or a value wrong.
        """
        overrides = as_overrides({**others, **values})
        settings = load_config(
            PromptTrainingSettings, self._config, overrides, options=self._origins
        )
        return {key: self._located(settings, key, value) for key, value in values.items()}

    def _located(self, settings: PromptTrainingSettings, key: str, value: Choice) -> Any:
        found = reduce(getattr, key.split("."), settings)
        if isinstance(found, Path):
            # An override counts from the cwd, what stands in a file from its project.
            return str(resolve_path(str(value), self._root))
        if key == _PATHS:
            return [str(resolve_path(str(value), self._root))]
        return found


def _value_of(settings: PromptTrainingSettings, key: str) -> Any:
    value = reduce(getattr, key.split("."), settings)
    if isinstance(value, Section):  # --set section={...}
        return value.to_plain()
    if key == _PATHS:
        return list(map(str, value))
    return str(value) if isinstance(value, Path) else value


def _key_of(override: str) -> str:
    """Returns the key of "key" or "key=value", under today's name of its section."""
    section, dot, rest = override.partition("=")[0].strip().partition(".")
    return f"{PromptTrainingSettings.renamed.get(section, section)}{dot}{rest}"


def _as_yaml(value: Any) -> str:
    return quote(value) if isinstance(value, str) else json.dumps(value)
