"""The row `instruction`: the model as it is, asked with the best instruction in words.

The instruction is chosen by BLEU-4 on images that are not scored, so that the row is as good as
what somebody finds who tries a few wordings instead of training.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from evaluation.dataset import EvaluationDataset, EvaluationImage, read_jsonl
from igrag.captioning.generator import CaptionGenerator
from igrag.captioning.prompt_template import PromptTemplate
from igrag.config import portable
from igrag.config.yaml_file import load_yaml
from igrag.data.examples import split_file
from igrag.errors import ConfigError, UsageError
from igrag.metrics import bleu
from igrag.processes import Processes

INSTRUCTIONS = Path(__file__).with_name("instructions.yaml")
_KEY = "instructions"
# Splits on which an instruction is chosen by default, next to the scored file.
_CHOICE_SPLITS = ("val", "train")


@dataclass(frozen=True, slots=True)
class InstructionScore:
    """An instruction and its BLEU-4."""

    text: str
    bleu4: float


@dataclass(frozen=True, slots=True)
class InstructionChoice:
    """The chosen instruction.

    Attributes:
        text: The instruction of the highest BLEU-4.
        scores: All instructions, in their order; that of the configuration is the first.
        data: The file whose images it was chosen on.
        images: How many these are.
    """

    text: str
    scores: tuple[InstructionScore, ...]
    data: str
    images: int

    def note(self) -> str:
        """Returns the choice in a sentence."""
        best = max(found.bleu4 for found in self.scores)
        configured = self.scores[0]
        others = (
            "it is that of the configuration, as in base"
            if self.text == configured.text
            else f"that of the configuration has {configured.bleu4:.3f}"
        )
        return (
            f'instruction: the model without training, asked with "{self.text}", the best of '
            f"{len(self.scores)} instructions on {self.images:,} images of {self.data} "
            f"(BLEU-4 {best:.3f}; {others})"
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the choice as plain JSON data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class InstructionTrial:
    """What an instruction is chosen from.

    Attributes:
        file: The YAML file of the instructions.
        instructions: The instructions.
        data: The images that they are tried on.
    """

    file: Path
    instructions: tuple[str, ...]
    data: EvaluationDataset

    def problem(self, scored: EvaluationDataset, template: PromptTemplate) -> str | None:
        """Returns why nothing can be chosen for these images; None if it can."""
        prompts = [*self.data.prompts, *scored.prompts]
        others = sum(not template.fits(prompt) for prompt in prompts)
        if others:
            return (
                f"{others} of {len(prompts)} prompts were not made with the template of the "
                "configuration, so that their instruction cannot be replaced"
            )
        return None

    def choose(
        self, generator: CaptionGenerator, template: PromptTemplate, processes: Processes
    ) -> InstructionChoice:
        """Captions the images with every instruction, by the generator's current model.

        Of instructions with the same BLEU-4 it is the first. The processes share them.
        """
        tried = [*dict.fromkeys((template.instruction, *self.instructions))]
        total = len(tried) * len(self.data.images)
        hidden = None if processes.ranks.is_first else True
        with tqdm(
            total=total, desc="instructions", unit="caption", file=sys.stderr, disable=hidden
        ) as bar:

            def score(number: int) -> float:
                prompts = with_instruction(template, self.data.prompts, tried[number])
                captions = generator.generate(prompts)
                bar.update(len(captions) * processes.ranks.size)
                return bleu(captions, self.data.references).bleu4

            found = processes.everywhere("instructions", len(tried), score)
            scores = [*map(InstructionScore, tried, found)]
        best = max(scores, key=lambda found: found.bleu4)
        return InstructionChoice(
            best.text, tuple(scores), portable(self.data.path.resolve()), len(self.data.images)
        )


def find_trial(
    scored: EvaluationDataset, *, file: Path | None, data: Path | None, limit: int
) -> InstructionTrial | str:
    """Finds what an instruction is chosen from.

    Args:
        scored: The images to score; none of them may take part in the choice.
        file: YAML file of instructions; None for those of this package.
        data: JSONL file to choose on; None for val.jsonl next to the scored JSONL file, or
            train.jsonl if that is scored itself.
        limit: Try them on the first images, so many.

    Returns:
        What it is chosen from, or why it cannot be, in words that follow "it is left out: ".

    Raises:
        ConfigError: The file of instructions is invalid.
        DataError: The JSONL file is invalid.
        UsageError: The given JSONL file holds images that are scored.
    """
    instructions = read_instructions(file or INSTRUCTIONS)
    path = data or _neighbor(scored)
    if path is None:
        return (
            "its instruction must be chosen on images that are not scored; give prompts and "
            "references of others as JSONL: --instruction_data FILE"
        )
    images = read_jsonl(path, limit=limit)
    if problem := _shared(scored, images):
        if data is not None:
            raise UsageError(
                f"--instruction_data {path}: {problem}, expected other images: an instruction "
                "that is chosen on the images that it is scored on looks better than it is"
            )
        return f"its instruction would be chosen on {portable(path)}, which {problem}"
    return InstructionTrial(file or INSTRUCTIONS, instructions, images)


def read_instructions(path: Path) -> tuple[str, ...]:
    """Reads a YAML file with a list `instructions`.

    Raises:
        ConfigError: It cannot be read, or is none.
    """
    content = load_yaml(path)
    texts = content.get(_KEY)
    if [*content] != [_KEY] or not isinstance(texts, list) or not texts:
        found = ", ".join(map(str, content)) if [*content] != [_KEY] else f"{texts!r:.60}"
        raise ConfigError(f"{path}: found {found}, expected one key {_KEY} with a list of texts")
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"{path}: {_KEY}: found {text!r:.60} as number {number}, "
                              "expected a text")  # fmt: skip
    return tuple(text.strip() for text in texts)


def with_instruction(template: PromptTemplate, prompts: Sequence[str], text: str) -> list[str]:
    """Returns prompts, all made with the template, with another instruction."""
    replaced = [template.replace_instruction(prompt, text) for prompt in prompts]
    assert None not in replaced  # `InstructionTrial.problem` checks it.
    return [prompt for prompt in replaced if prompt is not None]


def _neighbor(scored: EvaluationDataset) -> Path | None:
    """Returns the first file of the choice next to a scored JSONL file that is not it."""
    if not scored.prompts:
        return None
    found = []
    for split in _CHOICE_SPLITS:
        path = split_file(scored.path.parent, split)
        if not path.is_file():  # Without val, train is no split next to the scored one.
            break
        found.append(path)
    return next((path for path in found if not path.samefile(scored.path)), None)


def _shared(scored: EvaluationDataset, chosen_on: EvaluationDataset) -> str | None:
    """Returns what two sets of images share, in words that follow their file; None if nothing."""
    if chosen_on.path.samefile(scored.path):
        return "is the file that is scored"
    if scored.has_ids and chosen_on.has_ids:
        count = len(scored.known_ids & chosen_on.known_ids)
        return f"holds {count} images of {portable(scored.path)} (by their ids)" if count else None
    known = {key for image in scored.images for key in _contents(image)}
    count = sum(not known.isdisjoint(_contents(image)) for image in chosen_on.images)
    name = portable(scored.path)
    return f"holds {count} images of {name} (by prompts and references)" if count else None


def _contents(image: EvaluationImage) -> set[str | frozenset[str]]:
    """Returns what an image without an id is known by; a single reference may be of several."""
    prompt = {image.prompt} if image.prompt is not None else set()
    return prompt | ({frozenset(image.references)} if len(image.references) > 1 else set())
