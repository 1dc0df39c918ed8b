#!/usr/bin/env python
"""Time building training data from a knowledge base of COCO's size.

    python benchmarks/build_caption_data.py

The knowledge base and the captions file are synthetic and hold the same images, so that every
vector is reused. Timed is everything from reading the captions file to the last line written.
Prints the seconds, by part, and the process's peak memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.memory import peak_bytes
from benchmarks.search_knowledge_base import BLOCK, CLUSTERS, near, random_units
from igrag.config import DEFAULT_CONFIG, REPO_ROOT, Config
from igrag.data.coco import CaptionedImage, read_captions
from igrag.retrieval.image_encoder import EncoderIdentity, ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase

TOKENIZER = REPO_ROOT / "demo" / "models" / "t5-mini"
CAPTIONS, WORDS_IN_CAPTION = 5, 10
WORDS = (
    "a the man woman child dog cat horse bird bus train boat table street field beach red blue "
    "green white old young large small on in near with and under sits stands runs rides holds"
)


def main() -> int:
    """Makes the knowledge base and the captions file, build the data, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=118_287, help="images (COCO train2017)")
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--samples", type=int, default=5_000)
    parser.add_argument("--top-k", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        captions, knowledge_base = Path(folder) / "captions.json", Path(folder) / "knowledge_base"
        make_files(captions, knowledge_base, arguments)
        count_tokens = load_counter()
        start = time.perf_counter()
        parts = build(captions, knowledge_base, arguments, count_tokens)
        seconds = time.perf_counter() - start
    print(
        f"{arguments.samples} samples from {arguments.count} x {arguments.dimension}, "
        f"k = {arguments.top_k}: {seconds:.1f} s ({parts}), peak memory {peak_bytes() / 1e9:.2f} GB"
    )
    return 0


def make_files(captions: Path, knowledge_base: Path, arguments: argparse.Namespace) -> None:
    """Saves the same captioned images as a COCO captions file and as a knowledge base."""
    generator = np.random.default_rng(arguments.seed)
    centers = random_units(generator, CLUSTERS, arguments.dimension)
    vectors = np.empty((arguments.count, arguments.dimension), np.float32)
    for start in range(0, len(vectors), BLOCK):
        vectors[start : start + BLOCK] = near(generator, centers, len(vectors[start:][:BLOCK]))
    words = WORDS.split()
    shape = (len(vectors), CAPTIONS, WORDS_IN_CAPTION)
    chosen = generator.integers(len(words), size=shape, dtype=np.int8)
    entries = [
        CaptionedImage(
            row, f"{row:012}.jpg", tuple(" ".join(words[word] for word in text) for text in texts)
        )
        for row, texts in enumerate(chosen)
    ]
    encoder = EncoderIdentity("random", arguments.dimension, "none", {})
    KnowledgeBase.write(knowledge_base, vectors=vectors, entries=entries, encoder=encoder)
    images = [{"id": entry.image_id, "file_name": entry.file_name} for entry in entries]
    annotations = [
        {"image_id": entry.image_id, "caption": text}
        for entry in entries
        for text in entry.captions
    ]
    data = {"images": images, "annotations": annotations}
    captions.write_text(json.dumps(data), encoding="utf-8")


def load_counter() -> Callable[[str], int]:
    """Returns what counts tokens: the demo model's tokenizer, or words where it is not built."""
    if not TOKENIZER.is_dir():
        print(f"{TOKENIZER}: not there, words are counted instead of tokens", file=sys.stderr)
        return lambda text: len(text.split())
    from igrag.captioning.language_model import load_tokenizer

    tokenizer = load_tokenizer(str(TOKENIZER))
    return lambda text: len(tokenizer(text)["input_ids"])


def build(
    captions: Path,
    knowledge_base: Path,
    arguments: argparse.Namespace,
    count_tokens: Callable[[str], int],
) -> str:
    """Writes the examples as `data_builder.py` does; returns the seconds of each part."""
    from igrag.from_config import build_template
    from lora_training.chunks import build_split
    from lora_training.examples import ExampleBuilder, ImageVectors
    from lora_training.splits import sample_images

    def no_encoder() -> ImageEncoder:
        raise AssertionError("an image is not in the knowledge base")

    config = Config.load(DEFAULT_CONFIG, [])
    start = time.perf_counter()
    images = sample_images(read_captions(captions), count=arguments.samples, seed=arguments.seed)
    read = time.perf_counter()
    opened = KnowledgeBase.open(knowledge_base)
    vectors = ImageVectors(opened, captions.parent, get_encoder=no_encoder, batch_size=32)
    builder = ExampleBuilder(
        opened,
        build_template(config.prompt_config),
        top_k=arguments.top_k,
        count_tokens=count_tokens,
        max_tokens=config.models.max_source_length,
        seed=arguments.seed,
    )
    path = captions.parent / "train.jsonl"
    report = build_split(path, images, vectors=vectors, builder=builder, split="train")
    assert report.written == report.reused == arguments.samples
    done = time.perf_counter()
    return f"{read - start:.1f} reading captions, {done - read:.1f} building"


if __name__ == "__main__":
    sys.exit(main())
