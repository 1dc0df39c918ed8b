"""The captions of the nearest images that training examples may list, as `retrieved`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from datasets import Dataset, Features, List, Value
from datasets.fingerprint import Hasher

from igrag.data.arrow_cache import generated_dataset, writing_cache
from igrag.data.examples import iter_examples
from igrag.errors import DataError
from igrag.files import is_whole, sha256_file

_DIGITS = 6  # of a similarity: more than a prompt shows
_FEATURES = Features(
    {"captions": List(List(Value("string"))), "similarity": List(Value("float64"))}
)
_FIX = "build the data with --set data.retrieved={count}"


class RetrievedImage(Protocol):
    """A similar image: its captions, and its cosine."""

    @property
    def captions(self) -> tuple[str, ...]:
        """Its captions."""
        ...

    @property
    def score(self) -> float:
        """Its cosine with the image."""
        ...


def describe_retrieved(
    images: Sequence[RetrievedImage], *, captions_per_match: int
) -> list[dict[str, Any]]:
    """Returns what an example lists of similar images: the captions that a prompt would show."""
    return [
        {
            "similarity": round(image.score, _DIGITS),
            "captions": list(image.captions[:captions_per_match]),
        }
        for image in images
    ]


def retrieved_dataset(
    path: Path, *, count: int, skip_bad_lines: bool = False, cache_dir: Path | None = None
) -> Dataset:
    """Reads what the examples of a JSONL file list, in the order of `tokenized_dataset`.

    Args:
        path: The file; each line has {"retrieved": [{"similarity", "captions"}, ...]}, the nearest
            image first.
        count: Similar images of each example to read.
        skip_bad_lines: See `iter_examples`.
        cache_dir: Folder of the Arrow files; None for the library's own.

    Returns:
        A dataset on disk with captions and similarity, lists of `count`.

    Raises:
        DataError: See `iter_examples`; also (file:line) where a line lists too few, or none.
    """
    with writing_cache(cache_dir):
        return generated_dataset(
            _generate,
            {"path": path, "count": count, "skip_bad_lines": skip_bad_lines},
            features=_FEATURES,
            fingerprint=Hasher.hash(["retrieved", sha256_file(path), count, skip_bad_lines]),
            cache_dir=cache_dir,
        )


def _generate(path: Path, count: int, skip_bad_lines: bool) -> Iterator[dict[str, Any]]:
    for example in iter_examples(path, skip_bad_lines=skip_bad_lines):
        entries = example.retrieved if isinstance(example.retrieved, list) else []
        known = [entry for entry in entries[:count] if _is_valid(entry)]
        if len(known) < count:
            raise DataError(
                f'{path}:{example.line}: "retrieved" lists the captions of {len(known)} similar '
                f"images, expected {count}; {_FIX.format(count=count)}"
            )
        yield {
            "captions": [entry["captions"] for entry in known],
            "similarity": [float(entry["similarity"]) for entry in known],
        }


def _is_valid(entry: object) -> bool:
    if not isinstance(entry, Mapping):
        return False
    captions, similarity = entry.get("captions"), entry.get("similarity")
    return (
        isinstance(captions, list)
        and all(isinstance(caption, str) and is_whole(caption) for caption in captions)
        and isinstance(similarity, int | float)
    )
