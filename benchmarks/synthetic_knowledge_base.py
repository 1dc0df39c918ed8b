"""A knowledge base of any number of synthetic images, written block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray

from igrag.files import atomic_directory, write_json
from igrag.retrieval.checksums import CAPTIONS, MANIFEST, SUMS, VECTORS, checksums
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.storage import FORMAT, FORMAT_VERSION, write_id_order

CLUSTERS = 1_000
NOISE = 1.0  # Of a vector against its cluster's center: neighbors have a cosine of about 0.65.
# The i-th direction of the noise has a share of about 1 / i of its variance, so that about 30
# directions count, as for images' vectors.
DECAY = 0.5
_VECTOR_BLOCK = 16_384
_CAPTION_BLOCK = 1_000  # as datasets writes them


def draw_vectors(count: int, dimension: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Draws unit vectors [count, D] around the centers of clusters, which are always the same."""
    centers = unit(np.random.default_rng(0).standard_normal((CLUSTERS, dimension)))
    noise = generator.standard_normal((count, dimension), np.float32)
    noise *= np.arange(1, dimension + 1, dtype=np.float32) ** -DECAY
    chosen = centers[generator.integers(CLUSTERS, size=count)]
    return unit(chosen + NOISE * unit(noise)).astype(np.float32)


def unit(vectors: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Scales rows to length 1."""
    scaled: NDArray[np.floating[Any]] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def make_knowledge_base(
    path: Path, count: int, *, dimension: int = 512, text_ids: bool = False, seed: int = 0
) -> None:
    """Writes a knowledge base with a caption for each image, unless it is there.

    Args:
        path: The folder.
        count: Images.
        dimension: Length of their vectors.
        text_ids: Name the images by texts.
        seed: Of the vectors.
    """
    if path.exists():
        return
    encoder = EncoderIdentity("synthetic", dimension, "none", {})
    with atomic_directory(path) as folder:
        generator = np.random.default_rng([seed, count])
        vectors = np.lib.format.open_memmap(folder / VECTORS, "w+", np.float32, (count, dimension))
        for start in range(0, count, _VECTOR_BLOCK):
            block = vectors[start : start + _VECTOR_BLOCK]
            block[:] = draw_vectors(len(block), dimension, generator)
        vectors.flush()
        _write_captions(folder / CAPTIONS, count, text_ids)
        write_id_order(folder, path)
        manifest = {
            "format": FORMAT, "format_version": FORMAT_VERSION, "count": count,
            "dimension": dimension, "encoder": encoder.to_json(), "source": {}, "skipped": [],
        }  # fmt: skip
        write_json(folder / MANIFEST, manifest | {SUMS: checksums(folder)})


def _write_captions(folder: Path, count: int, text_ids: bool) -> None:
    """Writes the table of captions as datasets does, in one file."""
    folder.mkdir()
    name = "data-00000-of-00001.arrow"
    id_type = pyarrow.string() if text_ids else pyarrow.int64()
    schema = pyarrow.schema(
        [
            ("image_id", id_type),
            ("file_name", pyarrow.string()),
            ("captions", pyarrow.list_(pyarrow.string())),
        ]
    )
    with (folder / name).open("wb") as stream, pyarrow.ipc.new_stream(stream, schema) as file:
        for start in range(0, count, _CAPTION_BLOCK):
            rows = range(start, min(start + _CAPTION_BLOCK, count))
            # Not in the order of the rows, as ids mostly are not.
            ids = [row * 7_919 % 2**31 for row in rows]
            columns = {
                "image_id": [f"image-{each:010}" for each in ids] if text_ids else ids,
                "file_name": [f"{row:012}.jpg" for row in rows],
                "captions": [[f"a synthetic image with the number {row}"] for row in rows],
            }
            file.write_batch(pyarrow.RecordBatch.from_pydict(columns, schema))
    write_json(folder / "state.json", {"_data_files": [{"filename": name}]})
