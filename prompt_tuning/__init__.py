"""Soft prompt tuning of a frozen Flan-T5. Independent of the LoRA recipe."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prompt_tuning.analysis.vocabulary import nearest_entries
    from prompt_tuning.methods import load_captioner
    from prompt_tuning.prompt_training import train
    from prompt_tuning.prompt_tuner import PromptTuner
    from prompt_tuning.settings import PromptTrainingSettings

__all__ = ["PromptTrainingSettings", "PromptTuner", "load_captioner", "nearest_entries", "train"]

# Imported when first used: torch and transformers take seconds.
_MODULES = {
    "PromptTrainingSettings": "prompt_tuning.settings",
    "PromptTuner": "prompt_tuning.prompt_tuner",
    "load_captioner": "prompt_tuning.methods",
    "nearest_entries": "prompt_tuning.analysis.vocabulary",
    "train": "prompt_tuning.prompt_training",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
