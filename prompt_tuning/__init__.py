"""Soft prompt tuning of a frozen Flan-T5. Independent of the LoRA recipe."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prompt_tuning.prompt_tuner import PromptTuner

__all__ = ["PromptTuner"]


def __getattr__(name: str) -> Any:
    """Imports PromptTuner when it is asked for: torch takes seconds to load."""
    if name != "PromptTuner":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from prompt_tuning.prompt_tuner import PromptTuner

    return PromptTuner
