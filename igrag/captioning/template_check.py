"""Prompts that train should be those that captioning builds."""

from datasets import Dataset

from igrag.captioning.prompt_template import PromptTemplate

_ROWS_AT_ONCE = 1000


def count_other_prompts(template: PromptTemplate, rows: Dataset) -> int:
    """Counts the examples whose prompt this template cannot have built.

    Args:
        template: What captioning builds prompts with.
        rows: What `tokenized_dataset` returned; it is read from disk, piece by piece.
    """
    return sum(
        not template.fits(prompt)
        for batch in rows.select_columns(["prompt"]).iter(_ROWS_AT_ONCE)
        for prompt in batch["prompt"]
    )
