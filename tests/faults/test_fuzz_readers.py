"""Whatever a file holds, its reader returns a value or raises an IgragError: nothing else."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from igrag.config import DEFAULT_CONFIG, Config
from igrag.errors import IgragError

QUICK, MANY = 40, 500

IDENTITY = {"name": "clip", "dimension": 4, "weights_fingerprint": "0", "preprocessing": {}}
MANIFEST = {
    "format": "igrag knowledge base",
    "format_version": 2,
    "count": 3,
    "dimension": 4,
    "encoder": IDENTITY,
    "sha256": {"vectors.npy": "0"},
}
COCO = {
    "images": [{"id": 1, "file_name": "1.jpg", "width": 2, "height": 2}],
    "annotations": [{"id": 1, "image_id": 1, "caption": "A dog."}],
}
INSTANCES = {
    "images": COCO["images"],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}],
    "categories": [{"id": 1, "name": "dog", "synonyms": ["hound"]}],
}
RESULTS = {"base": [{"image_id": 1, "caption": "A dog."}]}
EXAMPLE = {"prompt": "p", "caption": "c", "references": ["c"], "image_id": 1, "metadata": {}}


def leaves() -> st.SearchStrategy[Any]:
    """Generates values of JSON that hold no others, those at the edges among them."""
    edges = st.sampled_from([2**63, -(2**63), 10**400, 1e308, "", "\ud800", "\0", "~", "../x"])
    numbers = st.integers() | st.floats()
    return st.none() | st.booleans() | numbers | st.text(max_size=8) | edges


def values(names: list[str]) -> st.SearchStrategy[Any]:
    """Generates JSON values whose objects mostly have the given keys."""
    keys = st.sampled_from(names) | st.text(max_size=4)
    return st.recursive(
        leaves(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
        max_leaves=12,
    )


def names_in(value: object) -> list[str]:
    """Lists the keys inside a value."""
    if isinstance(value, dict):
        return [*value, *(name for item in value.values() for name in names_in(item))]
    return [name for item in value for name in names_in(item)] if isinstance(value, list) else []


@st.composite
def replaced(draw: st.DrawFn, value: Any) -> Any:
    """Generates a valid value with something else in one place."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 5)) == 0:
        return draw(values(["a"]))
    if isinstance(value, dict):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: draw(replaced(value[key]))}
    index = draw(st.integers(0, len(value) - 1))
    return [*value[:index], draw(replaced(value[index])), *value[index + 1 :]]


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Generates a valid file with some bytes replaced, removed or added."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(changed)))
        end = draw(st.integers(start, min(len(changed), start + 8)))
        changed[start:end] = draw(st.binary(max_size=8))
    return bytes(changed[: draw(st.integers(0, len(changed)))] if draw(st.booleans()) else changed)


def to_json(value: Any) -> bytes:
    """Returns a value as JSON, with NaN and half surrogate pairs as Python writes them."""
    return json.dumps(value).encode()


def json_files(valid: Any) -> st.SearchStrategy[bytes]:
    """Generates files for a reader of JSON (YAML and JSONL too): of one like `valid`."""
    other = values(names_in(valid)).map(to_json)
    return replaced(valid).map(to_json) | other | damaged(to_json(valid)) | st.binary(max_size=64)


def prompt_bytes(content: Any) -> bytes:
    """Returns a file of torch.save."""
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def prompt_files() -> st.SearchStrategy[bytes]:
    """Generates files for the reader of soft prompts: tensors of any shape and type, and damage."""
    import torch

    valid = {
        "prompt_embeddings": torch.ones(2, 3),
        "prompt_length": 2,
        "embedding_dim": 3,
        "initialization": "random",
        "format_version": 1,
        "fingerprint": {"model": "t5"},
    }
    tensors = st.sampled_from(
        [
            torch.ones(0, 3),
            torch.ones(1).expand(100_000, 3),
            torch.full((2, 3), float("nan")),
            torch.full((2, 3), 1e300, dtype=torch.float64),
            torch.ones(2, 3, dtype=torch.int64),
            torch.ones(2, 3, dtype=torch.complex64),
            torch.ones(2, 3).to(torch.float8_e4m3fn),
            torch.ones(2, 3).to_sparse(),
            torch.ones(2, 3, device="meta"),
        ]
    )
    fields = st.sampled_from(sorted(valid))
    others = st.builds(
        lambda key, value: prompt_bytes({**valid, key: value}), fields, values(["model"]) | tensors
    )
    return others | damaged(prompt_bytes(valid)) | st.binary(max_size=64)


def read_yaml(path: Path) -> object:
    """Reads a configuration."""
    return Config.load(path, [])


def read_jsonl(path: Path) -> object:
    """Reads training examples."""
    from igrag.data.examples import iter_examples

    return list(iter_examples(path))


def read_coco(path: Path) -> object:
    """Reads captions."""
    from igrag.data.coco import read_captions

    return read_captions(path)


def read_instances(path: Path) -> object:
    """Reads the objects of images."""
    from igrag.data.coco import read_instances

    return read_instances(path)


def read_results(path: Path) -> object:
    """Reads captions to score."""
    from evaluation.coco_results import read_results

    return read_results([path])


def read_manifest(path: Path) -> object:
    """Reads a knowledge base's manifest, and compares its checksums."""
    from igrag.retrieval import storage
    from igrag.retrieval.checksums import check_captions

    path.replace(path.parent / "knowledge_base.json")
    manifest = storage.read_manifest(path.parent)
    encoder = storage.read_encoder(path.parent, manifest)
    check_captions(path.parent, manifest)
    return encoder


def read_prompt(path: Path) -> object:
    """Reads a soft prompt."""
    from prompt_tuning.prompt_file import load_prompt

    return load_prompt(path)


READERS: dict[str, tuple[Callable[[], st.SearchStrategy[bytes]], Callable[[Path], object]]] = {
    "config.yaml": (
        lambda: json_files(Config.load(DEFAULT_CONFIG, []).to_plain()),
        read_yaml,
    ),
    "examples.jsonl": (lambda: json_files(EXAMPLE), read_jsonl),
    "captions.json": (lambda: json_files(COCO), read_coco),
    "instances.json": (lambda: json_files(INSTANCES), read_instances),
    "results.json": (lambda: json_files(RESULTS), read_results),
    "manifest.json": (lambda: json_files(MANIFEST), read_manifest),
    "prompt.pt": (prompt_files, read_prompt),
}


@pytest.mark.filterwarnings("ignore")  # torch's, on pickles of another version
@pytest.mark.parametrize(
    "examples",
    [pytest.param(QUICK, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("name", READERS)
def test_reader_returns_a_value_or_a_known_error(name: str, examples: int, tmp_path: Path) -> None:
    """No content of a file ends its reader in an error that is not one of this project."""
    strategy, read = READERS[name]
    file = tmp_path / name

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy())
    def check(content: bytes) -> None:
        file.write_bytes(content)
        try:
            read(file)
        except IgragError as error:
            assert str(error)

    check()


def test_prompt_with_a_damaged_directory_is_a_known_error(tmp_path: Path) -> None:
    """A zip file that claims to continue on another disk is damaged, for the error's reason too."""
    import torch

    content = bytearray(prompt_bytes({"prompt_embeddings": torch.ones(2, 3)}))
    locator = content.index(b"PK\x06\x07")
    content[locator + 4] = 1  # the disk of the directory
    (tmp_path / "prompt.pt").write_bytes(content)
    with pytest.raises(IgragError, match="span multiple disks"):
        read_prompt(tmp_path / "prompt.pt")
