"""What can be scored: the methods that are trained, or the checkpoints of one training."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.overwrite_guard import EQUAL
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
from prompt_tuning.checkpoints import BEST_NAME, CheckpointFolder
from prompt_tuning.methods import (
    BASE,
    BOTH,
    LORA,
    METHODS,
    PROMPT,
    Trained,
    find_trained,
    open_methods,
)
from prompt_tuning.prompt_file import PROMPT_NAME

_TRAIN_PROMPT = "python prompt_tuning/prompt_training.py --train"
_TRAIN_ADAPTER = "python lora_training/train_lora.py --all"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Paths:
    """Where trained things are looked for: files of soft prompts, and the adapter's folder."""

    prompt: Path
    prompt_on_lora: Path
    lora: Path


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way of captioning.

    Attributes:
        name: What it is called in the tables.
        method: Its switch position, one of `METHODS`.
        prompt: The file of its soft prompt, None without one.
        facts: What it cost.
    """

    name: str
    method: str
    prompt: Path | None
    facts: TrainingFacts

    @property
    def needs_adapter(self) -> bool:
        """Whether the adapter must be loaded."""
        return self.method in (LORA, BOTH)


def find_methods(paths: Paths, wanted: Sequence[str] | None) -> list[Candidate]:
    """Finds the methods to compare.

    Args:
        paths: Where to look.
        wanted: Names out of `METHODS`; None for all that are trained.

    Returns:
        Those, in the order of `METHODS`.

    Raises:
        UsageError: A name is unknown, or what it means is not trained.
        CheckpointError: A file is damaged.
    """
    for name in wanted or ():
        if name not in METHODS:
            raise UsageError(f"--methods {name}: expected some of {','.join(METHODS)}")
    trained = find_trained(paths.prompt, paths.prompt_on_lora, paths.lora)
    ready = {
        BASE: True,
        PROMPT: trained.prompt is not None,
        LORA: trained.has_lora,
        BOTH: trained.prompt_on_lora is not None,
    }
    for name in wanted or ():
        if not ready[name]:
            raise UsageError(f"--methods {name}: {_explain(name, paths, trained)}")
    if wanted is None and not all(ready.values()):
        missing = ", ".join(name for name in METHODS if not ready[name])
        logger.warning("not trained, so not compared: %s", missing)
    chosen = [name for name in METHODS if ready[name] and (wanted is None or name in wanted)]
    return [_candidate(name, trained, paths) for name in chosen]


def find_checkpoints(folder: Path, paths: Paths) -> list[Candidate]:
    """Finds every checkpoint of a prompt training; first comes the model below the prompt.

    best_model is a copy of one of them as a rule, and then named beside it.

    Raises:
        CheckpointError: There is none, a file is damaged, or their adapter is not there.
    """
    files = [path / PROMPT_NAME for path in CheckpointFolder(folder).folders()]
    best = folder / BEST_NAME / PROMPT_NAME
    if best.is_file():
        files.append(best)
    if not any(path.is_file() for path in files):
        _refuse_adapters(folder)
    if not files:
        raise CheckpointError(
            f"{folder}: holds no checkpoint-N/{PROMPT_NAME}, expected the output folder of a "
            f"prompt training; train with {_TRAIN_PROMPT}"
        )
    if missing := [path for path in files if not path.is_file()]:
        raise CheckpointError(f"{missing[0]}: no such file; this checkpoint is not whole")
    trained = find_trained(files[0], files[0], paths.lora)
    if trained.prompt is None and trained.prompt_on_lora is None:
        raise CheckpointError(
            f"{files[0]}: was trained on a LoRA adapter that is not the one in {paths.lora}; "
            "give its folder: --set lora_config.weights_path=FOLDER"
        )
    below, method = (BASE, PROMPT) if trained.prompt else (LORA, BOTH)
    candidates = [_candidate(below, trained, paths)]
    for name, path in _named_once(files).items():
        candidates.append(Candidate(name, method, path, _facts(method, path, paths)))
    return candidates


def _refuse_adapters(folder: Path) -> None:
    """Tells the output folder of an adapter's training; soft prompts in PEFT's format are none."""
    from igrag.captioning.adapters import ADAPTER_WEIGHTS

    own = ("checkpoint-*", "best")
    if found := next(
        (path for name in own for path in folder.glob(f"{name}/{ADAPTER_WEIGHTS}")), None
    ):
        raise CheckpointError(
            f"{folder}: holds a LoRA adapter ({found.relative_to(folder)}), expected the output "
            "folder of a prompt training: only its checkpoints can be compared so; --methods "
            "base,lora compares the best adapter"
        )


def chosen_by_training(candidates: Sequence[Candidate]) -> str | None:
    """Returns the name of the checkpoint that is best_model, None without one."""
    names = (candidate.name for candidate in candidates)
    return next((name for name in names if BEST_NAME in name.split(EQUAL)), None)


def files_of(candidates: Sequence[Candidate], paths: Paths) -> dict[str, list[Path]]:
    """Lists what each candidate loads beside the model."""
    return {
        each.name: [*([each.prompt] if each.prompt else []), *([paths.lora] * each.needs_adapter)]
        for each in candidates
    }


def open_writers(
    language: LanguageModel, candidates: Sequence[Candidate], *, template: str
) -> dict[str, GenerativeModel]:
    """Makes a writer for each candidate.

    Args:
        language: The model, its adapter loaded but not merged if any candidate needs it.
        candidates: What to open.
        template: The prompt template's fingerprint.

    Returns:
        Writers by the candidates' names.

    Raises:
        CheckpointError: A prompt is damaged or belongs to something else.
    """
    writers = {}
    for candidate in candidates:
        trained = Trained(
            prompt=candidate.prompt if candidate.method == PROMPT else None,
            prompt_on_lora=candidate.prompt if candidate.method == BOTH else None,
            has_lora=language.lora_path is not None,
        )
        opened = open_methods(language, trained, template=template)
        writers[candidate.name] = opened[candidate.method]
    return writers


def _candidate(method: str, trained: Trained, paths: Paths) -> Candidate:
    prompt = {PROMPT: trained.prompt, BOTH: trained.prompt_on_lora}.get(method)
    return Candidate(method, method, prompt, _facts(method, prompt, paths))


def _facts(method: str, prompt: Path | None, paths: Paths) -> TrainingFacts:
    """Finds out what the prompt, the adapter below it, or both together cost."""
    facts = NOTHING_TRAINED if prompt is None else prompt_facts(prompt)
    if method not in (LORA, BOTH):
        return facts
    adapter = adapter_facts(paths.lora)
    return adapter if prompt is None else both_facts(adapter, facts)


def _explain(name: str, paths: Paths, trained: Trained) -> str:
    if name == PROMPT:
        return (
            f"no soft prompt for the model without an adapter in {paths.prompt}; train one with "
            f"{_TRAIN_PROMPT}, or give its file: --set prompt_tuning.weights_path=FILE"
        )
    if not trained.has_lora:
        return (
            f"no LoRA adapter in {paths.lora}; train one with {_TRAIN_ADAPTER}, or give its "
            "folder: --set lora_config.weights_path=FOLDER"
        )
    return (
        f"no soft prompt that was trained on the adapter in {paths.prompt_on_lora}; train one with "
        f"{_TRAIN_PROMPT} --config prompt_tuning/config/on_lora.yaml, or give its file: "
        "--set prompt_tuning.weights_path_with_lora=FILE"
    )


def _named_once(files: Sequence[Path]) -> dict[str, Path]:
    """Names files by their folders; files of the same content have all their names."""
    names: dict[str, list[Path]] = {}
    for path in files:
        names.setdefault(sha256_file(path), []).append(path)
    return {EQUAL.join(path.parent.name for path in same): same[0] for same in names.values()}
