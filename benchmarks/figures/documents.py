"""The blocks of the documents that show figures, and figures outside of them.

A block is what stands between `<!-- figures: NAME [VIEW] lang=en -->` and `<!-- end figures -->`.
Outside of blocks no document may state a score: a test looks for them.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import tables
from benchmarks.figures.outputs import code_block, markdown
from igrag.commands.document import DOCUMENT_FOLDERS
from igrag.errors import DataError
from igrag.files import read_json

View = Callable[[Mapping[str, Any], str], str]
VIEWS: dict[str, View] = {
    "scores": tables.scores_table,
    "differences": tables.differences_table,
    "sentences": tables.sentences,
    "costs": tables.costs_table,
    "parts": tables.parts_table,
    "parts_sentences": tables.parts_sentences,
    "image": tables.image_table,
    "instruction": tables.instruction_sentence,
    "variants": tables.variants_table,
    "output": code_block,
    "markdown": markdown,
}
_MODEL_CARDS = ("demo/models/t5-mini", "demo/models/clip-mini")
_BLOCK = re.compile(
    r"(?P<head><!-- figures: (?P<name>[\w-]+) (?P<view>\w+) lang=(?P<lang>en|zh) -->\n)"
    r"(?P<text>.*?)(?P<tail><!-- end figures -->)",
    flags=re.DOTALL,
)
# 0.546, +0.05, 86.5%: what a score looks like.
_SCORE = re.compile(r"(?<![\w.])[+-]?0\.\d{2,}(?![\w.]*\w)|\d+\.\d%")


def documents(root: Path) -> Iterator[Path]:
    """Yields every Markdown document that may have blocks."""
    for folder in (*DOCUMENT_FOLDERS, *_MODEL_CARDS):
        yield from sorted((root / folder).glob("*.md"))


def fill_blocks(text: str, figures: Path) -> str:
    """Returns a document with its blocks written again.

    Args:
        text: The document.
        figures: Folder of the JSON files.

    Raises:
        DataError: A block names a file or a view that does not exist.
    """

    def block(found: re.Match[str]) -> str:
        view = VIEWS.get(found["view"])
        if view is None:
            raise DataError(f"figures: {found['view']}: expected some of {', '.join(VIEWS)}")
        data = read_json(figures / f"{found['name']}.json")
        return f"{found['head']}{view(data, found['lang'])}{found['tail']}"

    return _BLOCK.sub(block, text)


def loose_scores(text: str) -> list[str]:
    """Lists what looks like a score outside of blocks, code and addresses."""
    text = _BLOCK.sub("", text)
    text = re.sub(r"<!-- settings:.*?<!-- end settings -->", "", text, flags=re.DOTALL)
    text = re.sub(r"```(?:bash|yaml)\n.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"`[^`\n]*`|\]\([^)]*\)|https?://\S+", "", text)
    return _SCORE.findall(text)
