"""Rebuilds the demo, whole (python -m demo.build) or in stages (--stages t5 data)."""

import argparse
import gzip
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from demo.world.splits import SPLIT_SIZES
from igrag.cli import run, setup_logging
from igrag.config import Config
from igrag.errors import UsageError

if TYPE_CHECKING:  # Drawing needs no torch.
    from igrag.retrieval.image_encoder import ImageEncoder

# Of t5-mini's training: outside the repository, whatever --root is.
CHECKPOINTS = Path.home() / ".cache" / "igrag" / "demo"
_HERE = Path(__file__).resolve().parent


def main(arguments: argparse.Namespace) -> int:
    """Runs the chosen stages in order."""
    setup_logging("warning", verbose=arguments.verbose)
    unknown = sorted(set(arguments.stages) - set(STAGES))
    if unknown:
        raise UsageError(f"--stages {' '.join(unknown)}: expected some of {' '.join(STAGES)}")
    for name, stage in STAGES.items():
        if name in arguments.stages:
            started = time.perf_counter()
            stage(arguments.root, arguments.seed)
            minutes = (time.perf_counter() - started) / 60
            print(f"{name}: done in {minutes:.1f} minutes", flush=True)
    return 0


def _images(root: Path, seed: int) -> None:
    """Draws every split in COCO's format, input/'s images and the contact sheet."""
    from demo.coco_files import build_images

    build_images(root, seed)


def _clip(root: Path, seed: int) -> None:
    """Trains clip-mini."""
    from demo.train_clip import train_clip

    train_clip(root, seed)


def _t5(root: Path, seed: int) -> None:
    """Trains t5-mini, or resumes its training."""
    from demo.train_t5 import train_t5

    train_t5(root, seed=seed, work=CHECKPOINTS)


def _knowledge_base(root: Path, seed: int) -> None:
    """Encodes the train images: all of them, and those of half of the kinds."""
    from demo.world.splits import captioned_scenes, covered_kinds
    from igrag.retrieval.image_encoder import ImageEncoder

    encoder = ImageEncoder(str(root / "models" / "clip-mini"), device="cpu")
    captions = root / "coco" / "annotations" / "captions_train.json"
    _encode(root, captions, root / "knowledge_base", encoder)
    covered = covered_kinds()
    kept = {
        item.image_id for item in captioned_scenes("train") if item.scene.main.kind.name in covered
    }
    content = json.loads(captions.read_text(encoding="utf-8"))
    for part, key in (("images", "id"), ("annotations", "image_id")):
        content[part] = [entry for entry in content[part] if entry[key] in kept]
    with TemporaryDirectory() as folder:
        some = Path(folder) / "captions_train_half_of_the_kinds.json"
        some.write_text(json.dumps(content), encoding="utf-8")
        _encode(root, some, root / "uncovered" / "knowledge_base", encoder)


def _encode(root: Path, captions: Path, output: Path, encoder: "ImageEncoder") -> None:
    from igrag.retrieval.build import build_knowledge_base

    images = root / "coco" / "train"
    build_knowledge_base(captions, images, output, encoder=encoder, force=True)


def _data(root: Path, seed: int) -> None:
    """Builds the JSONL of every split, for both knowledge bases.

    What is not read by default is packed or left out, so that the demo stays under 25 MB: the
    images of uncovered/data are those of data, whose vectors the knowledge base has.
    """
    uncovered = root / "uncovered"
    for folder in (root, uncovered):
        _write_examples(root, folder, seed)
    for path in (*uncovered.glob("data/*.vectors.*"), *root.glob("data/dev.vectors.*")):
        path.unlink()
    for path in sorted((*uncovered.glob("data/*.jsonl"), root / "data" / "dev.jsonl")):
        # No time and no name inside: the same examples give the same bytes.
        packed = path.with_suffix(".jsonl.gz")
        with packed.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as stream:
            stream.write(path.read_bytes())
        path.unlink()


def _write_examples(root: Path, folder: Path, seed: int) -> None:
    """Builds folder/data from folder/knowledge_base with the data builder that users call."""
    from igrag.captioning.language_model import load_tokenizer
    from igrag.data.coco import read_captions
    from igrag.from_config import build_template
    from igrag.retrieval.image_encoder import ImageEncoder
    from igrag.retrieval.knowledge_base import KnowledgeBase
    from lora_training.chunks import build_split
    from lora_training.examples import ExampleBuilder, ImageVectors

    config = Config.load()
    tokenizer = load_tokenizer(str(root / "models" / "t5-mini"))
    encoder = ImageEncoder(str(root / "models" / "clip-mini"), device="cpu")
    knowledge_base = KnowledgeBase.open(folder / "knowledge_base", encoder=encoder.identity)
    builder = ExampleBuilder(
        knowledge_base,
        build_template(config.prompt_config),
        top_k=config.retrieval_config.top_k,
        count_tokens=lambda text: len(tokenizer(text)["input_ids"]),
        max_tokens=config.models.max_source_length,
        seed=seed,
    )
    for split in SPLIT_SIZES:
        images = read_captions(root / "coco" / "annotations" / f"captions_{split}.json")
        vectors = ImageVectors(
            knowledge_base, root / "coco" / split, get_encoder=lambda: encoder, batch_size=32
        )
        path = folder / "data" / f"{split}.jsonl"
        build_split(path, images, vectors=vectors, builder=builder, split=split)


STAGES: dict[str, Callable[[Path, int], None]] = {
    "pictures": _images,
    "clip": _clip,
    "t5": _t5,
    "knowledge_base": _knowledge_base,
    "data": _data,
}


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.build",
        description=__doc__,
    )
    add = parser.add_argument
    add("--stages", nargs="+", default=list(STAGES), metavar="STAGE", help=" ".join(STAGES))
    add("--root", type=Path, default=_HERE, help="folder to build into (default: demo/)")
    add("--seed", type=int, default=7)
    add("--verbose", action="store_true")
    add("--debug", action="store_true")
    return parser.parse_args(words)


if __name__ == "__main__":
    parsed = parse_arguments()
    sys.exit(run(lambda: main(parsed), debug=parsed.debug))
