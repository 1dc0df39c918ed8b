"""The table of how diverse the captions of the methods are."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from evaluation.diversity import MeasuredDiversity, measure_diversity, read_seen_captions
from evaluation.scoring import score_methods
from igrag.errors import KnowledgeBaseError
from tests.evaluation.example_results import REFERENCES

COPIES = ("A dog runs on the beach.", "A car.", "Two birds!")
CAPTIONS = {"base": ("a dog", "a dog", "a dog"), "nearest": COPIES}


def measured(data: Path, captions: Iterable[str] | None) -> MeasuredDiversity:
    """Measures the example captions against these ones of a knowledge base, None for none."""

    def open_captions() -> Iterable[str]:
        if captions is None:
            raise KnowledgeBaseError("kb: no such folder")
        return captions

    scores = score_methods(
        CAPTIONS, REFERENCES, baseline="base", seed=0, skip=("meteor", "spice"), human=True
    )
    return measure_diversity(
        scores, read_seen_captions(data, open_captions, knowledge_base=Path("kb"))
    )


def test_copied_captions_are_seen(tmp_path: Path) -> None:
    """Captions of the knowledge base have a share of 100%, whatever their case and marks."""
    found = measured(tmp_path / "captions.json", [text.lower().rstrip(".!") for text in COPIES])
    rows = {
        row[0]: dict(zip(found.table().rows[0], row, strict=True)) for row in found.table().rows
    }
    assert (rows["nearest"]["seen"], rows["base"]["seen"]) == ("100.0%", "0.0%")
    assert (rows["base"]["distinct-1"], rows["base"]["vocabulary"]) == ("0.333", "2")
    assert list(rows) == ["method", "base", "nearest", "human"]
    assert "word by word in the knowledge base kb." in " ".join(found.table().notes)
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["methods"]["nearest"]["seen"] == 1.0 and plain["seen_in"] == [
        "the knowledge base kb"
    ]


def test_training_data_next_to_the_images_counts(tmp_path: Path) -> None:
    """Without a knowledge base it is train.jsonl of the same folder; without both it is unknown."""
    nothing = measured(tmp_path / "test.jsonl", None)
    assert nothing.methods["base"].seen is None and "seen is not known" in nothing.table().notes[1]
    assert [row[-1] for row in nothing.table().rows[1:]] == ["n/a"] * 3
    line = {"prompt": "p", "caption": "A dog.", "references": ["A dog.", "two birds"]}
    (tmp_path / "train.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    found = measured(tmp_path / "test.jsonl", None)
    assert found.methods["base"].seen == 1.0
    assert found.methods["nearest"].seen == pytest.approx(1 / 3)
    assert measured(tmp_path / "train.jsonl", None).methods["base"].seen is None
