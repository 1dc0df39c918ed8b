"""Reads the description of an index, and makes sure that it is of the vectors to be searched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from igrag.errors import DataError, KnowledgeBaseError
from igrag.files import read_json
from igrag.retrieval.search import Floats


def read_description(
    file: Path,
    *,
    what: str,
    version: int,
    known: str,
    vectors: Floats,
    counts: Sequence[str],
    remake: str,
) -> dict[str, Any]:
    """Reads the description of an index.

    Args:
        file: The description.
        what: Its format, such as "igrag faiss index".
        version: The version of that format.
        known: The fingerprint of the vectors.
        vectors: They themselves, [N, D], for errors.
        counts: Keys of whole numbers above 0.
        remake: How the index is made again, for errors.

    Raises:
        KnowledgeBaseError: It is missing or damaged, or of other vectors.
    """
    try:
        found = read_json(file, expected="an index's description")
    except DataError as error:
        raise KnowledgeBaseError(f"{error}; {remake}") from error
    expected = {"format": what, "format_version": version}
    if not isinstance(found, dict) or any(found.get(key) != expected[key] for key in expected):
        raise KnowledgeBaseError(
            f"{file}: not the description of an {what} of version {version}; {remake}"
        )
    if found.get("vectors") != known:
        size = f"{found.get('count')} x {found.get('dimension')}"
        raise KnowledgeBaseError(
            f"{file}: of other vectors ({size}), expected those of this knowledge base "
            f"({len(vectors)} x {vectors.shape[1]}); {remake}"
        )
    for key in counts:
        if type(found.get(key)) is not int or found[key] < 1:
            raise KnowledgeBaseError(
                f"{file}: {key} is {json.dumps(found.get(key))}, expected a whole number above 0; "
                f"{remake}"
            )
    return found
