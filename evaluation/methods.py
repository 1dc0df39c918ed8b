"""The methods to compare: those that are trained, or the checkpoints of one training."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from evaluation.overwrite_guard import EQUAL
from evaluation.rows import INSTRUCTION, check_names
from evaluation.training_facts import (
    NOTHING_TRAINED,
    TrainingFacts,
    adapter_facts,
    both_facts,
    prompt_facts,
)
from igrag.captioning.generator import GenerativeModel
from igrag.captioning.language_model import LanguageModel
from igrag.errors import CheckpointError, UsageError
from igrag.files import sha256_file
from prompt_tuning.available_prompts import (
    BASE,
    BOTH,
    LORA,
    METHODS,
    PROMPT,
    AvailablePrompts,
    find_prompts,
)
from prompt_tuning.checkpoints import BEST_NAME, CheckpointFolder
from prompt_tuning.methods import open_ensemble, open_methods
from prompt_tuning.prompt_file import PROMPT_NAME, find_prompt, load_prompt

ENSEMBLE = "ensemble"
_TRAIN_PROMPT = "python prompt_tuning/prompt_training.py --train"
_TRAIN_ADAPTER = "python lora_training/train_lora.py --all"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainedPaths:
    """Paths of what is trained: the files of soft prompts, and the adapter's folder.

    Attributes:
        prompt: The soft prompt of the model without the adapter.
        prompt_on_lora: The soft prompt that was trained on the adapter.
        lora: The adapter's folder.
        named: The files of more soft prompts, for either, by name.
    """

    prompt: Path
    prompt_on_lora: Path
    lora: Path
    named: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Method:
    """A method of captioning.

    Attributes:
        name: Its name in the tables.
        mode: Whether prompt and adapter are on: one of `METHODS`.
        prompt: The file of its soft prompt, None without one.
        facts: The cost of its training.
        others: The files of an ensemble's other soft prompts.
        control: Which vectors its image tokens get instead of the images', see
            `evaluation.controls`; None: the images'.
    """

    name: str
    mode: str
    prompt: Path | None
    facts: TrainingFacts
    others: tuple[Path, ...] = ()
    control: str | None = None

    @property
    def prompts(self) -> list[Path]:
        """The files of all its soft prompts."""
        return [] if self.prompt is None else [self.prompt, *self.others]

    @property
    def needs_adapter(self) -> bool:
        """Whether the adapter must be loaded."""
        return self.mode in (LORA, BOTH)


INSTRUCTION_METHOD = Method(INSTRUCTION, BASE, None, NOTHING_TRAINED)


def find_methods(paths: TrainedPaths, wanted: Sequence[str] | None) -> list[Method]:
    """Finds the methods to compare.

    Args:
        paths: The paths of what is trained.
        wanted: Names from `NAMES` and of `paths.named`; None for all that are trained.

    Returns:
        The methods with a model, in the order of `METHODS`, then the named prompts.

    Raises:
        UsageError: A name is unknown, or the method is not trained.
        CheckpointError: A file is damaged.
    """
    check_names(wanted, paths.named)
    prompts = find_prompts(paths.prompt, paths.prompt_on_lora, paths.lora)
    available = {
        BASE: True,
        PROMPT: prompts.prompt is not None,
        LORA: prompts.has_lora,
        BOTH: prompts.prompt_on_lora is not None,
    }
    for name in wanted or ():
        if not available.get(name, True):
            raise UsageError(f"--methods {name}: {_missing(name, paths, prompts)}")
    if wanted is None and not all(available.values()):
        missing = ", ".join(name for name in METHODS if not available[name])
        logger.warning("not trained, so not compared: %s", missing)
    if available[BOTH] and (wanted is None or BOTH in wanted) and BOTH in prompts.notes:
        logger.warning("%s: %s", BOTH, prompts.notes[BOTH])
    selected = [name for name in METHODS if available[name] and (wanted is None or name in wanted)]
    named = [name for name in paths.named if wanted is None or name in wanted]
    return [
        *(_method(name, prompts, paths) for name in selected),
        *(_named_method(name, paths.named[name], paths) for name in named),
    ]


def _named_method(name: str, path: Path, paths: TrainedPaths) -> Method:
    """Returns the method of a named prompt, whose file records the model that it belongs to."""
    mode = _mode_of(path, paths)
    if mode is None:
        raise UsageError(
            f"prompt_tuning.prompts.{name}: {path}: was trained on a LoRA adapter that is not the "
            f"one in {paths.lora}; give its folder: --set lora_config.weights_path=FOLDER"
        )
    return Method(name, mode, path, _facts(mode, path, paths))


def _mode_of(path: Path, paths: TrainedPaths) -> str | None:
    """Returns whether a prompt is for the model without or with the adapter, None for neither.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    load_prompt(path)
    prompts = find_prompts(path, path, paths.lora)
    return PROMPT if prompts.prompt else BOTH if prompts.prompt_on_lora else None


def find_ensemble(files: Sequence[Path], paths: TrainedPaths) -> Method:
    """Makes a method of several soft prompts whose logits are averaged.

    Args:
        files: Their files, or the folders that hold them.
        paths: The paths of what is trained; all prompts belong to the model without the adapter,
            or all to that with it.

    Raises:
        UsageError: They do not.
        CheckpointError: A file is missing or damaged.
    """
    files = [find_prompt(path) for path in files]
    modes = [_mode_of(path, paths) or "neither" for path in files]
    mode, *others = dict.fromkeys(modes)
    if others or mode not in (PROMPT, BOTH):
        raise UsageError(
            f"--ensemble: found prompts for {', '.join(modes)}; expected all for the model without "
            f"an adapter ({PROMPT}), or all for the adapter in {paths.lora} ({BOTH})"
        )
    facts = reduce(both_facts, map(prompt_facts, files))
    if mode == BOTH:
        facts = both_facts(adapter_facts(paths.lora), facts)
    return Method(ENSEMBLE, mode, files[0], facts, others=tuple(files[1:]))


def find_checkpoints(folder: Path, paths: TrainedPaths) -> list[Method]:
    """Finds all checkpoints of a prompt training; the model without the prompt comes first.

    best_model usually is a copy of one of them, and then shares its entry.

    Raises:
        CheckpointError: There is none, a file is damaged, or their adapter is missing.
    """
    files = [path / PROMPT_NAME for path in CheckpointFolder(folder).folders()]
    best = folder / BEST_NAME / PROMPT_NAME
    if best.is_file():
        files.append(best)
    if not any(path.is_file() for path in files):
        _check_no_adapter(folder)
    if not files:
        raise CheckpointError(
            f"{folder}: holds no checkpoint-N/{PROMPT_NAME}, expected the output folder of a "
            f"prompt training; train with {_TRAIN_PROMPT}"
        )
    if missing := [path for path in files if not path.is_file()]:
        raise CheckpointError(f"{missing[0]}: no such file; this checkpoint is incomplete")
    prompts = find_prompts(files[0], files[0], paths.lora)
    if prompts.prompt is None and prompts.prompt_on_lora is None:
        raise CheckpointError(
            f"{files[0]}: was trained on a LoRA adapter that is not the one in {paths.lora}; "
            "give its folder: --set lora_config.weights_path=FOLDER"
        )
    untuned, mode = (BASE, PROMPT) if prompts.prompt else (LORA, BOTH)
    methods = [_method(untuned, prompts, paths)]
    for name, path in _unique_files(files).items():
        methods.append(Method(name, mode, path, _facts(mode, path, paths)))
    return methods


def _check_no_adapter(folder: Path) -> None:
    """Raises an error for the output folder of an adapter's training.

    Soft prompts in PEFT's format have the same file names, but lie in folders of other names.
    """
    from igrag.files import ADAPTER_WEIGHTS

    names = ("checkpoint-*", "best")
    if found := next(
        (path for name in names for path in folder.glob(f"{name}/{ADAPTER_WEIGHTS}")), None
    ):
        raise CheckpointError(
            f"{folder}: holds a LoRA adapter ({found.relative_to(folder)}), expected the output "
            "folder of a prompt training: only its checkpoints can be compared; --methods "
            "base,lora compares the best adapter"
        )


def selected_by_training(methods: Sequence[Method]) -> str | None:
    """Returns the name of the checkpoint that is best_model, None without one."""
    names = (method.name for method in methods)
    return next((name for name in names if BEST_NAME in name.split(EQUAL)), None)


def method_files(methods: Sequence[Method], paths: TrainedPaths) -> dict[str, list[Path]]:
    """Returns, by method, what it loads in addition to the model."""
    return {each.name: [*each.prompts, *([paths.lora] * each.needs_adapter)] for each in methods}


def open_models(
    language: LanguageModel, methods: Sequence[Method], *, template: str
) -> dict[str, GenerativeModel]:
    """Wraps the loaded model for each method: its soft prompt prepended, its adapter on or off.

    Args:
        language: The model, its adapter loaded but not merged if any method needs it.
        methods: The methods.
        template: The prompt template's fingerprint.

    Returns:
        The models by the methods' names.

    Raises:
        CheckpointError: A prompt is damaged or belongs to something else.
    """
    models: dict[str, GenerativeModel] = {}
    opened: dict[tuple[str, Path | None], GenerativeModel] = {}  # A control has its method's.
    for method in methods:
        if method.others:
            models[method.name] = open_ensemble(
                language, method.prompts, template=template, on_lora=method.mode == BOTH
            )
            continue
        if found := opened.get((method.mode, method.prompt)):
            models[method.name] = found
            continue
        prompts = AvailablePrompts(
            prompt=method.prompt if method.mode == PROMPT else None,
            prompt_on_lora=method.prompt if method.mode == BOTH else None,
            has_lora=language.lora_path is not None,
        )
        model = open_methods(language, prompts, template=template)[method.mode]
        models[method.name] = opened[method.mode, method.prompt] = model
    return models


def _method(mode: str, prompts: AvailablePrompts, paths: TrainedPaths) -> Method:
    prompt = {PROMPT: prompts.prompt, BOTH: prompts.prompt_on_lora}.get(mode)
    return Method(mode, mode, prompt, _facts(mode, prompt, paths))


def _facts(mode: str, prompt: Path | None, paths: TrainedPaths) -> TrainingFacts:
    """Returns the cost of the prompt, of its adapter, or of both."""
    facts = NOTHING_TRAINED if prompt is None else prompt_facts(prompt)
    if mode not in (LORA, BOTH):
        return facts
    adapter = adapter_facts(paths.lora)
    return adapter if prompt is None else both_facts(adapter, facts)


def _missing(name: str, paths: TrainedPaths, prompts: AvailablePrompts) -> str:
    if name == PROMPT:
        return (
            f"no soft prompt for the model without an adapter in {paths.prompt}; train one with "
            f"{_TRAIN_PROMPT}, or give its file: --set prompt_tuning.weights_path=FILE"
        )
    if not prompts.has_lora:
        if LORA in prompts.notes:  # A hub id, and it could not be fetched.
            return prompts.notes[LORA]
        return (
            f"no LoRA adapter in {paths.lora}; train one with {_TRAIN_ADAPTER}, or give its "
            "folder: --set lora_config.weights_path=FOLDER"
        )
    return (
        f"no soft prompt that was trained on the adapter in {paths.prompt_on_lora}; train one with "
        f"{_TRAIN_PROMPT} --config prompt_tuning/config/on_lora.yaml, or give its file: "
        "--set prompt_tuning.weights_path_with_lora=FILE"
    )


def _unique_files(files: Sequence[Path]) -> dict[str, Path]:
    """Returns files by their folders' names; files of the same content share one entry."""
    names: dict[str, list[Path]] = {}
    for path in files:
        names.setdefault(sha256_file(path), []).append(path)
    return {EQUAL.join(path.parent.name for path in same): same[0] for same in names.values()}
