"""Diversity of the captions of every method, as a table: a method that copies is seen."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluation.extra_table import ExtraTable
from evaluation.human import HUMAN
from evaluation.scoring import MethodScores
from evaluation.table import UNKNOWN
from igrag.config import portable
from igrag.data.examples import iter_examples, split_file
from igrag.errors import DataError, KnowledgeBaseError
from igrag.metrics import format_score, tokenize
from igrag.metrics.diversity import Diversity, diversity

_TRAINING_SPLIT = "train"
_TITLES = ("method", "distinct-1", "distinct-2", "vocabulary", "words", "self-BLEU-4", "seen")


@dataclass(frozen=True, slots=True)
class SeenCaptions:
    """The captions that the methods could copy.

    Attributes:
        captions: Their tokens with a space between; None if there are none.
        sources: What they are from, in words.
    """

    captions: frozenset[str] | None = None
    sources: tuple[str, ...] = ()


def read_seen_captions(
    data: Path, open_captions: Callable[[], Iterable[str]], *, knowledge_base: Path
) -> SeenCaptions:
    """Reads the captions of the knowledge base, and those of the training data next to the images.

    Args:
        data: The file of the scored images; of a JSONL file train.jsonl in the same folder counts.
        open_captions: Opens the captions of the knowledge base.
        knowledge_base: Its folder, for the words.
    """
    found: set[str] = set()
    sources = []
    training = split_file(data.parent, _TRAINING_SPLIT)
    try:
        found.update(" ".join(tokenize(caption)) for caption in open_captions())
        sources.append(f"the knowledge base {portable(knowledge_base)}")
    except KnowledgeBaseError:
        pass  # Captions from files can be scored without one.
    is_jsonl = ".jsonl" in data.suffixes
    if is_jsonl and data != training and training.is_file():
        try:
            found.update(
                " ".join(tokenize(text))
                for example in iter_examples(training)
                for text in (example.caption, *example.references)
            )
            sources.append(portable(training))
        except DataError:
            pass  # Training on it reports the error.
    return SeenCaptions(frozenset(found), tuple(sources)) if sources else SeenCaptions()


@dataclass(frozen=True, slots=True)
class MeasuredDiversity:
    """The diversity of the captions of every method.

    Attributes:
        methods: By method.
        seen: What the share of captions that were seen counts.
    """

    methods: Mapping[str, Diversity]
    seen: SeenCaptions

    def table(self) -> ExtraTable:
        """Returns the table of all methods."""
        rows = [[name, *_cells(each)] for name, each in self.methods.items()]
        notes = [
            "distinct-1 and 2: different words and pairs of words by all of them. self-BLEU-4: "
            "each caption against those of all other images. None of them measures quality.",
            f"seen: captions that stand word by word in {' or '.join(self.seen.sources)}."
            if self.seen.sources
            else "seen is not known: there is neither a knowledge base nor a train.jsonl.",
        ]
        if HUMAN in self.methods:
            notes.append("human: the first reference of each image.")
        return ExtraTable("Diversity of the captions", [_TITLES, *rows], notes)

    def to_json(self) -> dict[str, Any]:
        """Returns the figures as plain JSON data."""
        methods = {name: asdict(each) for name, each in self.methods.items()}
        return {"seen_in": list(self.seen.sources), "methods": methods}


def measure_diversity(methods: Sequence[MethodScores], seen: SeenCaptions) -> MeasuredDiversity:
    """Computes the diversity of every method's captions; of `human` the first references."""
    found = {
        method.name: diversity(list(map(tokenize, method.captions)), training=seen.captions)
        for method in methods
        if method.captions
    }
    return MeasuredDiversity(found, seen)


def _cells(found: Diversity) -> list[str]:
    return [
        format_score(found.distinct_1),
        format_score(found.distinct_2),
        f"{found.vocabulary:,}",
        format_score(found.mean_length, digits=1),
        format_score(found.self_bleu4),
        UNKNOWN if found.seen is None else f"{found.seen:.1%}",
    ]
