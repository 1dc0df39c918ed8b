"""Compares two runs by what they were made with: their settings, data and models."""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from igrag.errors import UsageError
from igrag.training.record import TrainingRecord

# Settings of two runs that are compared as the same training with other seeds.
_MAY_DIFFER = re.compile(
    r"training\.(seed|output_dir|report_to|report_images|save_total_limit)|output\..*"
    r"|prompt_tuning\.weights_path|evaluation\.save_total_limit"
)


def refuse_changes(
    checkpoint: Path,
    before: Mapping[str, dict[str, Any]],
    now: Mapping[str, dict[str, Any]],
    *,
    free: Collection[str],
) -> None:
    """Makes sure that a run resumes with what it was started with.

    Args:
        checkpoint: What the run resumes from.
        before: "settings", "data", ... -> what the checkpoint was made with.
        now: The same of this run.
        free: Keys "section.key" that may change, as they do not change what is computed.

    Raises:
        UsageError: Something else differs.
    """
    for what in before:
        changed = [text for key, text in differences(before[what], now[what]) if key not in free]
        if changed:
            raise UsageError(
                f"{checkpoint}: was made with other {what}: {'; '.join(changed)}; "
                "resume with the same, or start a new run with another --output_dir"
            )


def refuse_other_training(
    file: Path, record: TrainingRecord, first_file: Path, first: TrainingRecord
) -> None:
    """Makes sure that two runs differ in their seed alone: only then a mean means something.

    Args:
        file: The run's all_results.json.
        record: Its content.
        first_file: That of the run that it is compared with.
        first: Its content.

    Raises:
        UsageError: Method, model, data or settings differ.
    """
    here, there = (
        {"base_model": run.model.name, "examples": run.data, **run.config, "method": run.method}
        for run in (record, first)
    )
    changed = [text for key, text in differences(there, here) if not _MAY_DIFFER.fullmatch(key)]
    if record.method != first.method:  # Then all settings differ.
        changed = [f"method was {first.method}, is {record.method}"]
    if changed:
        raise UsageError(
            f"{file}: found another training than {first_file}: {'; '.join(changed)}; "
            "expected runs that differ in their seed alone"
        )


def differences(
    before: dict[str, Any], now: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Yields the keys of nested settings that differ, each with a text that names both values.

    Args:
        before: Section -> key -> value.
        now: The same later.
        prefix: The sections around both, with a dot at the end.
    """
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}", f"{prefix}{key} was {old}, is {new}"
