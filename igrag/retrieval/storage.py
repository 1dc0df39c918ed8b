"""The files of a knowledge base: written as a whole, checked when opened.

`knowledge_base.json` is written last inside the new folder, and the folder appears under its
name only when it is complete. Nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from igrag.data.coco import CaptionedImage
from igrag.data.entry_table import to_table
from igrag.errors import DataError, KnowledgeBaseError
from igrag.files import (
    atomic_directory,
    exists,
    naming_full_disk,
    read_json,
    reserve_space,
    sha256_file,
    write_json,
)
from igrag.inputs import check_regular
from igrag.retrieval.caption_table import CaptionTable, open_table, sorted_rows
from igrag.retrieval.checksums import (
    CAPTIONS,
    FAISS,
    FAISS_NAMES,
    ID_ORDER,
    MANIFEST,
    OWN_NAMES,
    REBUILD,
    SUMS,
    VECTORS,
    check_captions,
    checksums,
    sampled_rows,
)
from igrag.retrieval.image_encoder import EncoderIdentity

if TYPE_CHECKING:
    from pyarrow import Table

FORMAT = "igrag knowledge base"
FORMAT_VERSION = 2  # 1 knew the encoder by two of its weights
UNIT_TOLERANCE = 1e-3
COPIED_ROWS = 16_384
_CAPTIONS_FILE = "data-00000-of-00001.arrow"  # as datasets names it
_OWN = OWN_NAMES | {f"{FAISS}/{name}" for name in FAISS_NAMES}


@dataclass(frozen=True, slots=True)
class SkippedImage:
    """An image of the captions file that the knowledge base does not hold, and why."""

    file_name: str
    reason: str


def check_output_folder(path: Path, *, force: bool) -> None:
    """Refuses to overwrite what the user may want to keep.

    A missing or empty folder is fine; with `force` so is a knowledge base, as long as nothing
    else lies in its folder.

    Raises:
        KnowledgeBaseError: Something else is there.
    """
    path = Path(path)
    if path.is_symlink() and not path.exists():
        raise KnowledgeBaseError(f"{path}: is a link to nothing, expected a new folder's name")
    if not path.exists():
        return
    if not path.is_dir():
        raise KnowledgeBaseError(f"{path}: is a file, expected a new folder's name")
    names = {entry.name for entry in path.iterdir()}
    if not names:
        return
    if not _is_knowledge_base(path):
        raise KnowledgeBaseError(
            f"{path}: the folder exists and is not a knowledge base; name a new one"
        )
    if not force:
        raise KnowledgeBaseError(
            f"{path}: is a knowledge base already; --overwrite_output_dir replaces it"
        )
    names |= {f"{FAISS}/{entry.name}" for entry in _entries(path / FAISS)}
    foreign = sorted(name for name in names - _OWN if not name.startswith(f".{FAISS}."))
    if foreign:
        raise KnowledgeBaseError(
            f"{path}: holds {foreign[0]!r} next to the knowledge base, which would be lost; "
            "move it away or name a new folder"
        )


def write_files(
    path: Path,
    *,
    vectors: NDArray[np.float32],
    entries: Sequence[CaptionedImage],
    encoder: EncoderIdentity,
    source: dict[str, Any],
    skipped: Sequence[SkippedImage],
) -> None:
    """Writes a knowledge base's folder, replacing what is there; see `KnowledgeBase.write`."""
    _check_parts(path, vectors, entries, encoder)
    write_streamed(
        path,
        count=len(entries),
        vectors=(
            vectors[start : start + COPIED_ROWS] for start in range(0, len(vectors), COPIED_ROWS)
        ),
        captions=[to_table(entries)],
        encoder=encoder,
        source=source,
        skipped=skipped,
    )


def write_streamed(
    path: Path,
    *,
    count: int,
    vectors: Iterable[NDArray[np.float32]],
    captions: Iterable[Table],
    encoder: EncoderIdentity,
    source: dict[str, Any],
    skipped: Sequence[SkippedImage],
) -> None:
    """Writes a knowledge base's folder from parts as they come, replacing what is there.

    Args:
        path: The folder to make.
        count: How many images there are, N.
        vectors: Unit vectors, blocks of [n, D] with N rows in all.
        captions: Tables of image_id, file_name and captions with N rows in all; ids are unique.
        encoder: What made the vectors.
        source: Where the images came from.
        skipped: Images that were left out.

    Raises:
        KnowledgeBaseError: A row is no unit vector, or there are more or less of them.
    """
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "count": count,
        "dimension": encoder.dimension,
        "encoder": encoder.to_json(),
        "source": source,
        "skipped": [asdict(image) for image in skipped],
    }
    with atomic_directory(Path(path)) as folder:
        with naming_full_disk(path, needed=count * encoder.dimension * 4):
            _save_vectors(folder / VECTORS, vectors, (count, encoder.dimension), path)
        rows = _save_captions(folder / CAPTIONS, captions)
        if rows != count:
            raise KnowledgeBaseError(f"{path}: found captions of {rows} images, expected {count}")
        write_id_order(folder, path)
        write_json(folder / MANIFEST, manifest | {SUMS: checksums(folder)})


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads and checks `knowledge_base.json`.

    Raises:
        KnowledgeBaseError: It is missing, damaged, or of an unknown format.
    """
    path = Path(path)
    if not path.is_dir():
        found = "not a folder" if path.exists() else "no such knowledge base"
        raise KnowledgeBaseError(
            f"{path}: {found}; build one with scripts/build_knowledge_base.py "
            "or set knowledge_base_config.path"
        )
    file = path / MANIFEST
    if not exists(file):
        raise KnowledgeBaseError(f"{path}: not a knowledge base ({MANIFEST} is missing)")
    try:
        manifest = read_json(file, expected="a knowledge base's manifest")
    except DataError as error:
        raise KnowledgeBaseError(f"{error}; {REBUILD}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise KnowledgeBaseError(f"{file}: not the manifest of an {FORMAT}")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise KnowledgeBaseError(
            f"{file}: format version {version!r}, expected {FORMAT_VERSION}; {REBUILD}"
        )
    for key in ("count", "dimension"):
        value = manifest.get(key)
        if type(value) is not int or value < 1:
            raise KnowledgeBaseError(f"{file}: {key} is {value!r}, expected a whole number above 0")
    return manifest


def read_encoder(path: Path, manifest: dict[str, Any]) -> EncoderIdentity:
    """Reads the identity of the encoder that made the vectors."""
    try:
        encoder = EncoderIdentity.from_json(manifest.get("encoder"))
    except ValueError as error:
        raise KnowledgeBaseError(f"{path / MANIFEST}: {error}; {REBUILD}") from error
    if encoder.dimension != manifest["dimension"]:
        raise KnowledgeBaseError(
            f"{path / MANIFEST}: dimension is {manifest['dimension']}, but the encoder's is "
            f"{encoder.dimension}; {REBUILD}"
        )
    return encoder


def open_vectors(path: Path, manifest: dict[str, Any]) -> NDArray[np.float32]:
    """Memory-maps the vectors [N, D]; their shape, and a sample of the rows, must be right."""
    file = path / VECTORS
    try:
        check_regular(file)
        vectors = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise KnowledgeBaseError(f"{file}: is missing; {REBUILD}") from None
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise KnowledgeBaseError(f"{file}: is damaged or cut off ({error}); {REBUILD}") from error
    expected = (manifest["count"], manifest["dimension"])
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32:
        raise KnowledgeBaseError(f"{file}: expected an array of float32; {REBUILD}")
    if vectors.shape != expected:
        raise KnowledgeBaseError(
            f"{file}: holds {list(vectors.shape)} values, expected {list(expected)} as in "
            f"{MANIFEST}; {REBUILD}"
        )
    _check_unit(file, vectors[sampled_rows(len(vectors))])
    return vectors


def open_captions(path: Path, manifest: dict[str, Any]) -> CaptionTable:
    """Memory-maps the captions, a row for each vector."""
    folder, count = path / CAPTIONS, manifest["count"]
    check_captions(path, manifest)
    try:
        table = open_table(folder)
        # Before the ids are looked at: those of another build have another order.
        captions = CaptionTable(table, _open_id_order(path)) if len(table) == count else None
    except Exception as error:
        # pyarrow raises many errors on missing, cut off or foreign files.
        reason = " ".join(str(error).split())[:160]
        raise KnowledgeBaseError(f"{folder}: missing or damaged ({reason}); {REBUILD}") from error
    if captions is None:
        raise KnowledgeBaseError(
            f"{folder}: holds {len(table)} rows for {count} vectors; {REBUILD}"
        )
    return captions


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def write_id_order(folder: Path, where: Path) -> None:
    """Sorts the ids of a folder's captions once, so that opening does not.

    Raises:
        KnowledgeBaseError: An id is repeated; it names `where`.
    """
    try:
        order = sorted_rows(open_table(folder / CAPTIONS).column("image_id"))
    except ValueError as error:
        raise KnowledgeBaseError(f"{where}: {error}, expected each once") from error
    np.save(folder / ID_ORDER, order, allow_pickle=False)


def _open_id_order(path: Path) -> NDArray[Any] | None:
    """Memory-maps the order of the ids; None where an earlier version wrote the folder."""
    if not exists(path / ID_ORDER):
        return None
    check_regular(path / ID_ORDER)
    order: NDArray[Any] = np.load(path / ID_ORDER, mmap_mode="r", allow_pickle=False)
    return order


def _is_knowledge_base(path: Path) -> bool:
    """Returns whether a folder is a knowledge base, even a damaged one."""
    try:
        manifest = read_json(path / MANIFEST)
    except DataError:
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def _check_parts(
    path: Path,
    vectors: NDArray[np.float32],
    entries: Sequence[CaptionedImage],
    encoder: EncoderIdentity,
) -> None:
    expected = (len(entries), encoder.dimension)
    if not entries or vectors.shape != expected or vectors.dtype != np.float32:
        raise KnowledgeBaseError(
            f"{path}: vectors of shape {list(vectors.shape)} in {vectors.dtype}, expected "
            f"{list(expected)} in float32 and at least one"
        )
    ids = {entry.image_id for entry in entries}
    if len(ids) != len(entries) or len({type(image_id) for image_id in ids}) != 1:
        raise KnowledgeBaseError(f"{path}: image ids must be all numbers or all texts, each once")


def _check_unit(where: Path, vectors: NDArray[np.float32]) -> None:
    """Checks rows [R, D] to be finite and of length 1."""
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(np.linalg.norm(vectors, axis=1) - 1)
    if not (off <= UNIT_TOLERANCE).all():  # also where off is not a number
        raise KnowledgeBaseError(f"{where}: holds vectors that are not unit vectors; {REBUILD}")


def _save_vectors(
    file: Path, blocks: Iterable[NDArray[np.float32]], shape: tuple[int, int], where: Path
) -> None:
    """Writes the vectors [N, D] in NumPy's format, block by block.

    Not through a memory map: on a full disk that ends the process.
    """
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    rows = 0
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        reserve_space(stream, shape[0] * shape[1] * 4)
        for block in blocks:
            _check_unit(where, block)
            stream.write(block.astype("<f4", copy=False).tobytes())
            rows += len(block)
    if rows != shape[0]:
        raise KnowledgeBaseError(f"{where}: found {rows} vectors, expected {shape[0]}")


def _save_captions(folder: Path, tables: Iterable[Table]) -> int:
    """Writes tables as `datasets` saves one to disk, table by table; returns their rows."""
    import pyarrow
    from datasets import DatasetInfo, Features

    folder.mkdir()
    file, rows, stream = folder / _CAPTIONS_FILE, 0, iter(tables)
    first = next(stream)
    features = Features.from_arrow_schema(first.schema)
    schema = features.arrow_schema  # with the library's description of the columns
    with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as output:
        for table in chain([first], stream):
            output.write_table(table.cast(schema))
            rows += table.num_rows
    DatasetInfo(features=features).write_to_directory(str(folder), pretty_print=True)
    state: dict[str, Any] = {
        "_data_files": [{"filename": file.name}],
        "_fingerprint": sha256_file(file)[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    write_json(folder / "state.json", state)
    return rows
