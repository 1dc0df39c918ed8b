"""Make an index of a knowledge base, for the search among millions of images.

igrag index knowledge_base --type faiss
igrag index knowledge_base --type milvus --milvus_uri http://localhost:19530

It is trained on the knowledge base's own vectors and searches as many of its lists as are needed to
find the wanted share of the exact nearest. What is found is scored exactly. Use it with
knowledge_base_config.index. The token of a Milvus server is read from MILVUS_TOKEN.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from igrag.cli import CommandParser, add_common_options, run_command, setup_logging
from igrag.config.choices import IndexStorage, IndexType, words
from igrag.errors import UsageError

_TYPES = tuple(each for each in words(IndexType) if each != "exact")
_STORAGES = words(IndexStorage)


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Makes the index, prints what it was measured to give, and returns the exit code."""
    setup_logging("warning", verbose=arguments.verbose)
    if arguments.type != "faiss" and arguments.storage != "auto":
        raise UsageError(f"--storage: is of faiss alone, found --type {arguments.type}")
    if arguments.type != "milvus" and arguments.milvus_uri:
        raise UsageError(f"--milvus_uri: is of milvus alone, found --type {arguments.type}")
    make_index(
        arguments.knowledge_base,
        arguments.type,
        storage=arguments.storage,
        target_recall=arguments.target_recall,
        milvus_uri=arguments.milvus_uri,
    )
    return 0


def make_index(
    path: Path,
    index_type: IndexType,
    *,
    storage: IndexStorage = "auto",
    target_recall: float | None = None,
    milvus_uri: str | None = None,
) -> None:
    """Makes the index of a knowledge base, and prints what it was measured to give.

    Args:
        path: The knowledge base.
        index_type: faiss or milvus.
        storage: How faiss holds the vectors.
        target_recall: The share of the exact nearest that is to be found; None for the default.
        milvus_uri: Address of a Milvus server; None for a file in the knowledge base.
    """
    from igrag.output_lock import lock_beside
    from igrag.retrieval.indexes import build_index
    from igrag.retrieval.recall import RECALL_AT, TARGET_RECALL
    from igrag.retrieval.storage import read_manifest

    count = read_manifest(path)["count"]  # before a lock is put into a folder that is none
    with lock_beside(path / "faiss", option="knowledge base"):
        measured = build_index(
            index_type,
            path,
            storage=storage,
            target_recall=TARGET_RECALL if target_recall is None else target_recall,
            milvus_uri=milvus_uri,
        )
    print(
        f"{path}: {index_type} index of {count} vectors, recall@{RECALL_AT} "
        f"{measured.recall:.4f} with nprobe {measured.nprobe}, {measured.seconds * 1000:.2f} ms a "
        f"query (exact: {measured.exact_seconds * 1000:.2f})"
    )


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(__doc__ or "")
    add = parser.add_argument
    add("knowledge_base", type=Path, metavar="KNOWLEDGE_BASE",
        help="made by igrag build-knowledge-base")  # fmt: skip
    add("--type", choices=_TYPES, required=True,
        help="faiss: files in the knowledge base; milvus: a server, or a file there")  # fmt: skip
    add("--storage", choices=_STORAGES, default="auto",
        help="of faiss: vectors as they are, a byte a value, or 64 bytes a vector; auto: by their "
        "number")  # fmt: skip
    add("--target_recall", type=_share, metavar="R",
        help="share of the exact nearest 5 to find (default: 0.99)")  # fmt: skip
    add("--milvus_uri", metavar="URI",
        help="of milvus: address of the server (default: a file in the knowledge "
        "base)")  # fmt: skip
    add_common_options(parser)
    return parser.parse_args(words)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number above 0, at most 1")
    return share
