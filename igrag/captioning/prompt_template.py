"""Builds the prompt from the captions of similar images: for training data and for captioning."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from igrag.config.placeholders import (
    PLACEHOLDER,
    check_caption_line,
    check_object_line,
    check_template,
)
from igrag.data.coco import DetectedObject
from igrag.errors import ConfigError
from igrag.retrieval.knowledge_base import Match

if TYPE_CHECKING:  # datasets takes a second to load
    from datasets import Dataset

_NO_CAPTIONS = "(none)"
_NUMBERS = {"rank": r"\d+", "similarity": r"-?\d\.\d\d"}  # in a caption's line
_COLUMNS = ("left", "center", "right")
_ROWS = ("top", "middle", "bottom")
_EXAMPLES_AT_ONCE = 1000
logger = logging.getLogger(__name__)


class PromptTemplate:
    """Builds prompts from matches, for training data and for captioning alike.

    Args:
        template: Text with the placeholders {instruction}, {captions} and, if objects are
            wanted, {objects}.
        instruction: What the model is asked to do.
        caption_line: One retrieved caption's line, with {caption}; perhaps with {rank}, its image's
            from 1 for the most similar, and {similarity}, its image's cosine in two digits.
        captions_per_match: How many of each match's captions are shown.
        object_heading: The line above the objects, only where there are any; empty for none.
        object_line: One object's line, with {label} and {position}.
        object_source: How objects are found, as JSON data; None where prompts show none.

    Raises:
        ConfigError: A placeholder is missing or unknown.
    """

    def __init__(
        self,
        template: str,
        *,
        instruction: str,
        caption_line: str = "- {caption}",
        captions_per_match: int = 1,
        object_heading: str = "",
        object_line: str = "- {label}: {position}",
        object_source: Mapping[str, Any] | None = None,
    ) -> None:
        self._template = _checked("template", check_template, template)
        self.instruction = instruction
        self._caption_line = _checked("caption_line", check_caption_line, caption_line)
        self.captions_per_match = captions_per_match
        self._object_heading = object_heading
        self._object_line = _checked("objects.line", check_object_line, object_line)
        self._object_source = object_source
        self._pattern = self._prompt_pattern()

    def fingerprint(self) -> str:
        """Returns a SHA-256 that changes whenever the wording of prompts does."""
        parts: list[Any] = [
            self._template,
            self.instruction,
            self._caption_line,
            self.captions_per_match,
            self._object_line,
        ]
        if self._object_source is not None:  # Without objects, the hash of versions that had none.
            parts.append(dict(self._object_source))
            if self._object_heading:
                parts.append(self._object_heading)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def fits(self, prompt: str) -> bool:
        """Returns whether this template can have built `prompt`."""
        return self._pattern.fullmatch(prompt) is not None

    def first_caption(self, prompt: str) -> str | None:
        """Returns the first caption that a prompt shows, that of the most similar image.

        "" if it shows none; None if this template cannot have built the prompt.
        """
        found = self._pattern.fullmatch(prompt)
        if found is None:
            return None
        pattern = re.escape(self._caption_line).replace(re.escape("{caption}"), "(.*?)", 1)
        for name, value in _NUMBERS.items():
            pattern = pattern.replace(re.escape(f"{{{name}}}"), value)
        line = re.match(rf"{pattern}(?=\n|$)", found["captions"], flags=re.DOTALL)
        return line[1] if line else ""

    def caption_spans(self, prompt: str, captions: Sequence[str]) -> list[tuple[int, int]]:
        """Returns where a prompt shows captions: the first character, and the one after the last.

        Args:
            prompt: The prompt.
            captions: The captions that it was built from, in order; those at the end may be left
                out of it.
        """
        found = self._pattern.fullmatch(prompt)
        position = found.start("captions") if found else 0
        spans = []
        for caption in captions:
            start = prompt.find(caption, position)
            if start < 0:
                break
            position = start + len(caption)
            spans.append((start, position))
        return spans

    def replace_instruction(self, prompt: str, instruction: str) -> str | None:
        """Returns a prompt with another instruction; None if this template cannot have built it."""
        found = self._pattern.fullmatch(prompt)
        if found is None:
            return None
        start, end = found.span("instruction")
        return prompt[:start] + instruction + prompt[end:]

    def _prompt_pattern(self) -> re.Pattern[str]:
        """Returns a pattern of all prompts of this template, whose groups are the placeholders."""
        heading = re.escape(f"{self._object_heading}\n") if self._object_heading else ""
        objects = f"(?:{heading}.+)?"
        values = {"instruction": re.escape(self.instruction), "captions": ".+", "objects": objects}
        parts = re.split(r"\{(\w+)\}", self._template)  # text, name, text, name, ..., text
        pattern = "".join(map(re.escape, parts[:1]))
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            named = name != "objects" and f"(?P<{name}>" not in pattern  # It may stand twice.
            pattern += f"(?P<{name}>{values[name]})" if named else values[name]
            pattern += re.escape(text)
        # Without objects their placeholder is left out together with the end of its line.
        pattern = pattern.replace(objects + re.escape("\n"), f"(?:{heading}.+\n)?")
        return re.compile(pattern, flags=re.DOTALL)

    def build(
        self,
        matches: Sequence[Match],
        objects: Sequence[DetectedObject] = (),
        *,
        count_tokens: Callable[[str], int] | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """Fills the template.

        Args:
            matches: Similar images, the nearest first.
            objects: The objects in the image, with their boxes.
            count_tokens: Counts a text's tokens; needed for `max_tokens`.
            max_tokens: Longest prompt in tokens. Longer ones lose whole captions, those of the
                farthest matches first, and then objects, the last first; the instruction and the
                end of the template always stay.

        Raises:
            ConfigError: The prompt is too long even without any caption or object.
        """
        captions = self._lines(matches)
        prompt = self._fill(captions, objects)
        if count_tokens is None or max_tokens is None:
            return prompt
        kept, shown = len(captions), len(objects)
        if count_tokens(prompt) > max_tokens:

            def length(kept: int, shown: int) -> int:
                return count_tokens(self._fill(captions[:kept], objects[:shown]))

            kept, shown = _longest_that_fits(max_tokens, kept, shown, length)
            prompt = self._fill(captions[:kept], objects[:shown])
        _report_cuts(max_tokens, (kept, len(captions)), (shown, len(objects)))
        return prompt

    def _lines(self, matches: Sequence[Match]) -> list[str]:
        """Returns the lines of the captions that a prompt shows of matches."""
        return [
            _substitute(
                self._caption_line,
                {"caption": caption, "rank": str(rank), "similarity": f"{match.score:.2f}"},
            )
            for rank, match in enumerate(matches, start=1)
            for caption in match.captions[: self.captions_per_match]
        ]

    def _fill(self, lines: Sequence[str], objects: Sequence[DetectedObject]) -> str:
        heading = [self._object_heading] if self._object_heading else []
        values = {
            "instruction": self.instruction,
            "captions": "\n".join(lines) or _NO_CAPTIONS,
            "objects": "\n".join([*heading, *map(self._object, objects)]),
        }
        if not objects:  # No empty line where objects would stand.
            return _substitute(re.sub(r"\{objects\}\n?", "", self._template), values)
        return _substitute(self._template, values)

    def _object(self, item: DetectedObject) -> str:
        return _substitute(
            self._object_line, {"label": item.label, "position": describe_position(item)}
        )


def describe_position(item: DetectedObject) -> str:
    """Returns the position of the box's center on a grid of three by three: "top left"."""
    x, y, width, height = item.box
    column = _COLUMNS[min(2, int((x + width / 2) * 3))]
    row = _ROWS[min(2, int((y + height / 2) * 3))]
    if row == "middle":
        return column
    return row if column == "center" else f"{row} {column}"


def count_other_prompts(template: PromptTemplate, dataset: Dataset) -> int:
    """Counts the examples whose prompt this template cannot have built.

    Args:
        template: The template that captioning builds prompts with.
        dataset: What `tokenized_dataset` returned; it is read from disk, piece by piece, unless the
            number is remembered.
    """
    from igrag.data.arrow_cache import content_key, remembered

    def count() -> int:
        return sum(
            not template.fits(prompt)
            for batch in dataset.select_columns(["prompt"]).iter(_EXAMPLES_AT_ONCE)
            for prompt in batch["prompt"]
        )

    key = ["prompts of other templates", template.fingerprint(), content_key(dataset)]
    found: int = remembered(key, count)
    return found


def _longest_that_fits(
    max_tokens: int, captions: int, objects: int, length: Callable[[int, int], int]
) -> tuple[int, int]:
    """Finds how many captions and objects to keep of a prompt that is too long with all of them.

    Every caption or object makes a prompt longer, so that bisection finds in a few steps what
    leaving out one after the other would.

    Args:
        max_tokens: Longest prompt.
        captions: How many there are.
        objects: How many there are; the first is left out after the last caption.
        length: Counts the tokens of a prompt with so many captions and objects.

    Raises:
        ConfigError: The prompt is too long without any.
    """
    kept = bisect_right(range(1, captions), max_tokens, key=lambda kept: length(kept, objects))
    if kept:
        return kept, objects
    shown = bisect_right(range(objects + 1), max_tokens, key=lambda shown: length(0, shown)) - 1
    if shown < 0:
        raise ConfigError(
            f"prompt_config: {length(0, 0)} tokens without any caption or object, expected at "
            f"most {max_tokens}; shorten the template or raise model_config.max_source_length"
        )
    return 0, shown


def _report_cuts(max_tokens: int, captions: tuple[int, int], objects: tuple[int, int]) -> None:
    """Logs how many of how many captions and objects are left."""
    cuts = [
        f"{total - kept} of {total} {what} left out, {order} first"
        for (kept, total), what, order in (
            (captions, "captions", "the farthest"),
            (objects, "objects", "the last"),
        )
        if kept < total
    ]
    if cuts:
        logger.warning("prompt shortened to fit %d tokens: %s", max_tokens, "; ".join(cuts))


def _checked(key: str, check: Callable[[str], str], text: str) -> str:
    """Checks a template made in code as the configuration checks its own."""
    try:
        return check(text)
    except ValueError as error:
        raise ConfigError(f"prompt_config.{key}: expected {error}") from None


def _substitute(template: str, values: dict[str, str]) -> str:
    """Fills each placeholder once: braces inside captions stay as they are."""
    return PLACEHOLDER.sub(lambda found: values[found[1]], template)
