"""Images whose captions come in batches, retrieved with one search of a large knowledge base."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from igrag.retrieval import search
from igrag.retrieval.knowledge_base import KnowledgeBase
from tests.command import Command
from tests.tiny import CocoFolder


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of queries of each search."""
    counts: list[int] = []
    plain = KnowledgeBase.search

    def count(self: KnowledgeBase, queries: NDArray[np.float32], k: int, **options: Any) -> Any:
        counts.append(len(queries))
        return plain(self, queries, k, **options)

    monkeypatch.setattr(KnowledgeBase, "search", count)
    return counts


def test_large_base_is_read_once_for_a_folder(
    command: Command,
    coco: CocoFolder,
    tmp_path: Path,
    searched: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One search serves all images, one of which is damaged; the results are those of batches."""
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff")
    paths = [*(coco.image(number) for number in range(1, 8)), broken, coco.image(8)]
    settings = ("generation_config.batch_size=3",)

    def rows() -> list[dict[str, Any]]:
        searched.clear()
        code, out, err = command("--json", "--i", *paths, settings=settings)
        assert code == 1 and err.count("broken.jpg") == 1
        return [{**json.loads(line), "seconds": None} for line in out.splitlines()]

    expected = rows()
    assert [row["image"] for row in expected] == [str(path) for path in paths if path != broken]
    assert searched == [3, 3, 2]
    monkeypatch.setattr(search, "LARGE_BYTES", 0)
    assert rows() == expected
    assert searched == [8]
