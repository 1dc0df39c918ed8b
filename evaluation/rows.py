"""The rows of a comparison in addition to the trained methods: what a reader measures them against.

- `nearest` copies the first caption of the most similar image that captioning's own retrieval
  finds, without a language model.
- `instruction` is the model as it is, asked with the best of some instructions in words, see
  `evaluation.instructions`.
- `human` scores the references against one another, see `evaluation.human`.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from evaluation.dataset import EvaluationDataset
from evaluation.human import HUMAN, images_with_others
from evaluation.instructions import InstructionTrial
from igrag.captioning.prompt_template import PromptTemplate
from igrag.errors import UsageError
from prompt_tuning.available_prompts import BASE, METHODS

NEAREST, INSTRUCTION = "nearest", "instruction"
# What needs no training, and whether a trained method beats it is what a comparison is for.
BASELINES = (BASE, NEAREST, INSTRUCTION)
_NO_OTHERS = "no image has more than one reference"
NAMES = (*METHODS, NEAREST, INSTRUCTION, HUMAN)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows in addition to the trained methods.

    Attributes:
        names: Which of the rows there are.
        nearest: The copied captions; None if there is no such row, or retrieval finds them.
        trial: What the instruction is chosen from.
        left_out: By row, why it is left out.
    """

    names: tuple[str, ...]
    nearest: tuple[str, ...] | None = None
    trial: InstructionTrial | None = None
    left_out: dict[str, str] = field(default_factory=dict)


def check_names(wanted: Sequence[str] | None, named: Collection[str] = ()) -> None:
    """Checks the names of --methods.

    Args:
        wanted: The names; None for all.
        named: The names of more soft prompts.

    Raises:
        UsageError: One is unknown, or a prompt is called as one of `NAMES`.
    """
    for name in named:
        if name in NAMES:
            raise UsageError(
                f"prompt_tuning.prompts.{name}: the evaluation has a row {name}; give the prompt "
                "another name"
            )
    known = (*NAMES, *named)
    for name in wanted or ():
        if name not in known:
            raise UsageError(f"--methods {name}: expected some of {','.join(known)}")


def find_rows(
    dataset: EvaluationDataset,
    template: PromptTemplate,
    *,
    wanted: Sequence[str] | None,
    trial: InstructionTrial | str | None,
) -> Rows:
    """Finds which rows there can be.

    Args:
        dataset: The images to score.
        template: The prompt template of captioning.
        wanted: Names from `NAMES`; None for all that can be.
        trial: What the instruction is chosen from, or why it cannot be; None where the comparison
            has no such row.

    Raises:
        UsageError: A row was requested and cannot be.
    """
    left_out = {}
    nearest = _first_captions(dataset, template)
    if isinstance(nearest, str):
        left_out[NEAREST] = nearest
    if not images_with_others(dataset.references):
        left_out[HUMAN] = _NO_OTHERS
    if isinstance(trial, InstructionTrial):
        trial = trial.problem(dataset, template) or trial
    if isinstance(trial, str):
        left_out[INSTRUCTION] = trial
    for name in wanted or ():
        if name in left_out:
            raise UsageError(f"--methods {name}: {left_out[name]}")
    offered = (NEAREST, INSTRUCTION, HUMAN) if trial is not None else (NEAREST, HUMAN)
    names = [name for name in offered if wanted is None or name in wanted]
    kept = tuple(name for name in names if name not in left_out)
    return Rows(
        names=kept,
        nearest=None if isinstance(nearest, str) or NEAREST not in kept else nearest,
        trial=trial if isinstance(trial, InstructionTrial) and INSTRUCTION in kept else None,
        left_out={name: reason for name, reason in left_out.items() if name in names},
    )


def rows_of_files(
    dataset: EvaluationDataset, files: Collection[str], *, wanted: Sequence[str] | None
) -> Rows:
    """Finds which rows there can be in addition to captions from files.

    Args:
        dataset: The images to score.
        files: The methods of the files; one that is called as a row is this row.
        wanted: Names; None for all.

    Raises:
        UsageError: A row was requested and cannot be.
    """
    reason = "captions from files are scored without retrieval and without a model"
    left_out = dict.fromkeys((NEAREST, INSTRUCTION), reason)
    if not images_with_others(dataset.references):
        left_out[HUMAN] = _NO_OTHERS
    left_out = {
        name: reason for name, reason in left_out.items()
        if name not in files and (wanted is None or name in wanted)
    }  # fmt: skip
    if wanted and HUMAN in left_out:
        raise UsageError(f"--methods {HUMAN}: {left_out[HUMAN]}")
    human = HUMAN not in {*files, *left_out} and (wanted is None or HUMAN in wanted)
    return Rows((HUMAN,) if human else (), left_out=left_out)


def in_order(names: Iterable[str]) -> list[str]:
    """Returns names in the order of the table: the baselines first, `human` last."""
    order = {name: index - len(BASELINES) for index, name in enumerate(BASELINES)} | {HUMAN: 1}
    return sorted(names, key=lambda name: order.get(name, 0))


def _first_captions(
    dataset: EvaluationDataset, template: PromptTemplate
) -> tuple[str, ...] | str | None:
    """Returns each prompt's first caption, or why it cannot be read; None without prompts."""
    if not dataset.prompts:
        return None
    found = [template.first_caption(prompt) for prompt in dataset.prompts]
    captions = tuple(caption for caption in found if caption is not None)
    if len(captions) == len(found):
        return captions
    others = len(found) - len(captions)
    return (
        f"{others} of {len(found)} prompts were not made with the template of the configuration, "
        "so that their captions cannot be read"
    )
