"""The knowledge base: captioned images as unit vectors, saved, opened and searched.

A folder holds

- `knowledge_base.json`: format version, the encoder's identity, count, dimension, where the
  images came from and which were skipped;
- `vectors.npy`: float32 unit vectors [N, D], memory-mapped when opened;
- `captions/`: a `datasets` table whose row n (image_id, file_name, captions) belongs to
  vector n;
- `id_order.npy`: the rows in the order of their image ids;
- `faiss/`, `milvus.db` and `milvus.json`, where `igrag index` has made them: see `indexes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igrag.config.choices import IndexType
from igrag.data.coco import CaptionedImage, ImageId
from igrag.errors import KnowledgeBaseError
from igrag.retrieval.caption_table import CaptionTable
from igrag.retrieval.checksums import REBUILD, VECTORS, check_all
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.indexes import open_index, verify_index
from igrag.retrieval.search import ExactIndex, NotFiniteError, VectorIndex
from igrag.retrieval.storage import (
    SkippedImage,
    check_output_folder,
    open_captions,
    open_vectors,
    read_encoder,
    read_manifest,
    write_files,
)

__all__ = ["DUPLICATE_SCORE", "ImageId", "KnowledgeBase", "Match", "SkippedImage"]

# An exact copy of an image scores 1 up to float32 rounding; a re-compressed one already less.
DUPLICATE_SCORE = 1 - 1e-5
SCORE_DIGITS = 6  # After the point; float32 vectors have no more, and 1 is an image's own score.


@dataclass(frozen=True, slots=True)
class Match:
    """An image found by a search; `score` is the cosine, to `SCORE_DIGITS`, at most 1."""

    image_id: ImageId
    score: float
    captions: tuple[str, ...]


class KnowledgeBase:
    """Captioned images that can be searched; made by `open`."""

    def __init__(
        self,
        vectors: NDArray[np.float32],
        captions: CaptionTable,
        *,
        encoder: EncoderIdentity,
        path: Path,
        index: VectorIndex | None = None,
    ) -> None:
        """Takes the parts, which `open` has checked to fit together.

        Args:
            vectors: Unit vectors [N, D].
            captions: The captions of N images.
            encoder: What made the vectors.
            path: The folder, for messages.
            index: Searches the vectors; None: exactly.
        """
        self.encoder = encoder
        self.path = path
        self._vectors = vectors
        self._captions = captions
        self._image_ids = captions.image_ids
        self._index = ExactIndex(vectors) if index is None else index

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        encoder: EncoderIdentity | None = None,
        index: IndexType = "exact",
        milvus_uri: str | None = None,
    ) -> KnowledgeBase:
        """Opens a folder, checking that its parts fit together.

        Args:
            path: The folder.
            encoder: The encoder of the queries; one that differs from the knowledge base's is
                refused.
            index: What searches the vectors; all but exact are made by `igrag index`.
            milvus_uri: Address of the Milvus server or cluster; None: a file in the folder.

        Raises:
            KnowledgeBaseError: A part is missing, damaged or misfit, or the encoder differs.
            UsageError: The extra that the index needs is not installed.
        """
        path = Path(path)
        manifest = read_manifest(path)
        built_with = read_encoder(path, manifest)
        if encoder is not None:
            _check_encoder(path, built_with, encoder)
        vectors = open_vectors(path, manifest)
        return cls(
            vectors,
            open_captions(path, manifest),
            encoder=built_with,
            path=path,
            index=open_index(index, path, manifest, vectors, milvus_uri=milvus_uri),
        )

    @classmethod
    def verify(cls, path: Path) -> tuple[KnowledgeBase, bool]:
        """Opens a folder and compares all its files with their checksums.

        Returns:
            The knowledge base, and whether it has checksums: earlier versions wrote none.

        Raises:
            KnowledgeBaseError: As `open`, or a file has changed.
        """
        has_sums = check_all(Path(path), read_manifest(path))
        verify_index(Path(path))
        return cls.open(path), has_sums

    @classmethod
    def write(
        cls,
        path: Path,
        *,
        vectors: NDArray[np.float32],
        entries: Sequence[CaptionedImage],
        encoder: EncoderIdentity,
        source: Mapping[str, Any] | None = None,
        skipped: Sequence[SkippedImage] = (),
        force: bool = False,
    ) -> None:
        """Writes a folder as a whole or not at all.

        Args:
            path: The folder to make; see `check_output_folder`.
            vectors: Unit vectors [N, D], row n belonging to entry n; may be a memory map.
            entries: The captioned images, N.
            encoder: What made the vectors.
            source: Free JSON data on where the images came from.
            skipped: Images that were left out.
            force: Replace an existing knowledge base.

        Raises:
            KnowledgeBaseError: The parts do not fit together or the folder may not be replaced.
        """
        check_output_folder(path, force=force)
        write_files(
            path,
            vectors=vectors,
            entries=entries,
            encoder=encoder,
            source=dict(source or {}),
            skipped=skipped,
        )

    def check_encoder(self, encoder: EncoderIdentity) -> None:
        """Checks that the encoder of the queries is the knowledge base's.

        Raises:
            KnowledgeBaseError: It differs.
        """
        _check_encoder(self.path, self.encoder, encoder)

    def __len__(self) -> int:
        """Returns the number of images, N."""
        return len(self._image_ids)

    @property
    def dimension(self) -> int:
        """The length of the vectors, D."""
        return int(self._vectors.shape[1])

    @property
    def image_ids(self) -> Sequence[ImageId]:
        """The images' ids in the order of the rows."""
        return self._image_ids

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The unit vectors [N, D], memory-mapped."""
        return self._vectors

    @property
    def searched_together(self) -> int:
        """How many queries are best searched at once; 1: as many as there are."""
        return self._index.together

    def __contains__(self, image_id: object) -> bool:
        """Returns whether an image is in the knowledge base."""
        return self._image_ids.row(image_id) is not None

    def vector(self, image_id: ImageId) -> NDArray[np.float32] | None:
        """Returns an image's unit vector [D], None for an unknown image."""
        row = self._image_ids.row(image_id)
        return None if row is None else np.array(self._vectors[row])

    def captions(self) -> Iterator[str]:
        """Yields all captions, in the order of the images."""
        yield from self._captions

    def captions_of(self, image_id: ImageId) -> tuple[str, ...]:
        """Returns an image's captions, none for an unknown image."""
        row = self._image_ids.row(image_id)
        return () if row is None else self._captions.of_row(row)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        skip_ids: Sequence[ImageId | None] | None = None,
        skip_duplicates: bool = False,
    ) -> list[list[Match]]:
        """Finds the k nearest images of each query, by exact inner product of what is found.

        Args:
            queries: Unit vectors [Q, D].
            k: How many matches for each query; fewer in a smaller knowledge base.
            skip_ids: For each query an image that it must not find (its own), or None, [Q].
            skip_duplicates: Skip images with a score of at least `DUPLICATE_SCORE`:
                exact copies of the query image.

        Returns:
            For each query its matches, best first; equal scores in the order of the rows.

        Raises:
            ValueError: `k` is below 1 or the shapes do not fit.
            KnowledgeBaseError: A vector is damaged.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        if k < 1:
            raise ValueError(f"k is {k}, expected at least 1")
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            shape = list(queries.shape)
            raise ValueError(f"queries of shape {shape}, expected [Q, {self.dimension}]")
        if not np.isfinite(queries).all():
            raise ValueError("queries hold values that are not finite")
        skip_rows = None
        if skip_ids is not None:
            if len(skip_ids) != len(queries):
                raise ValueError(f"{len(skip_ids)} skip_ids for {len(queries)} queries")
            skip_rows = np.array([self._row_or_none(own) for own in skip_ids], np.int64)
        below = DUPLICATE_SCORE if skip_duplicates else None
        try:
            hits = self._index.nearest(queries, k, skip_rows=skip_rows, below=below)
        except NotFiniteError as error:
            raise KnowledgeBaseError(
                f"{self.path / VECTORS}: damaged: {error} (image {self._image_ids[error.row]}); "
                f"{REBUILD}"
            ) from error
        rows, inverse = np.unique(hits.row, return_inverse=True)
        captions = [self._captions.of_row(row) for row in rows.tolist()]
        matches: list[list[Match]] = [[] for _ in queries]
        for query, index, score in zip(hits.query, inverse, hits.score, strict=True):
            image_id = self._image_ids[int(rows[index])]
            cosine = min(1.0, round(float(score), SCORE_DIGITS))
            matches[query].append(Match(image_id, cosine, captions[index]))
        return matches

    def _row_or_none(self, image_id: ImageId | None) -> int:
        row = None if image_id is None else self._image_ids.row(image_id)
        return -1 if row is None else row


def _check_encoder(path: Path, built_with: EncoderIdentity, encoder: EncoderIdentity) -> None:
    if differences := built_with.differences(encoder):
        raise KnowledgeBaseError(
            f"{path}: built with the encoder {built_with.name} ({built_with.dimension} "
            f"dimensions), opened with {encoder.name} ({encoder.dimension} dimensions), which "
            f"differs in {', '.join(differences)}; set retrieval_config.encoder to the first "
            "or rebuild the knowledge base with the second"
        )
