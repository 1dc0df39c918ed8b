"""The vectors of the images that training and validation examples are about, in their batches."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from igrag.data.batching import IMAGE_ROW, Collator
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.vector_lookup import ImageVectors, Source, find_vectors, next_to

TRAIN, VAL = "train", "val"
ExampleVectors = Mapping[str, ImageVectors]  # of TRAIN and VAL; empty without image tokens
_FIX = (
    "image tokens are made from it; build the examples again with lora_training/data_builder.py "
    "--overwrite_output_dir, or set data.image_vectors to a knowledge base or a folder of images "
    "that has it"
)


def find_example_vectors(
    files: Mapping[str, tuple[Path, Dataset]],
    sources: Sequence[Source],
    *,
    encoder: EncoderIdentity | None = None,
    skip_bad_lines: bool,
) -> ExampleVectors:
    """Finds the vectors of all examples' images: next to the examples, else in the sources.

    Args:
        files: By split, the file of the examples, and what `tokenized_dataset` made of it.
        sources: Where vectors are looked up that are not next to the examples.
        encoder: What must have made them; None for any, the same for all.
        skip_bad_lines: How the files were read.

    Raises:
        DataError: (file:line) There is none of an image; or they are of different encoders.
    """
    found: dict[str, ImageVectors] = {}
    for split, (path, dataset) in files.items():
        found[split] = find_vectors(
            path,
            dataset["image_id"][:],
            [*next_to(path), *sources],
            encoder=encoder,
            skip_bad_lines=skip_bad_lines,
            fix=_FIX,
        )
        encoder = found[split].encoder
    return found


def with_rows(examples: Dataset, vectors: ExampleVectors, split: str) -> Dataset:
    """Returns examples that name the rows of their images' vectors, see `Collator`."""
    return examples.add_column(IMAGE_ROW, vectors[split].rows) if vectors else examples


def collator_of(
    tokenizer: PreTrainedTokenizerBase, vectors: ExampleVectors, split: str
) -> Collator:
    """Returns what pads a split's examples to a batch, with the vectors of their images."""
    image_vectors = vectors[split].vectors if vectors else None
    return Collator(tokenizer.pad_token_id, image_vectors=image_vectors)
