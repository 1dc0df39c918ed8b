"""Compares the logits of an adapter merged into the weights with those of the unmerged adapter.

On the first prompts and captions of the demo validation split, in float64 and in float32; for
comparison also float32 with float64 of the unmerged adapter.
"""

import argparse
import sys
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from igrag.captioning.language_model import load_language_model
from igrag.config import REPO_ROOT
from igrag.data.examples import CaptionExample, iter_examples

MODEL = REPO_ROOT / "demo" / "models" / "t5-mini"
DATA = REPO_ROOT / "demo" / "data" / "val.jsonl"
ADAPTER = REPO_ROOT / "lora_training" / "checkpoints" / "best"
_COUNT = 64


def logits(
    adapter: Path, examples: list[CaptionExample], *, merge: bool, dtype: str = "float32"
) -> Tensor:
    """Returns the logits [B, L, V] of captions given their prompts."""
    language = load_language_model(
        str(MODEL), device="cpu", dtype=dtype, lora_path=adapter, merge_lora=merge
    )
    source, target = (
        language.tokenizer(texts, padding=True, return_tensors="pt")
        for texts in ([one.prompt for one in examples], [one.caption for one in examples])
    )
    with torch.inference_mode():
        found: Tensor = language.model(**source, labels=target["input_ids"]).logits
    return found.double()


def report(title: str, first: Tensor, second: Tensor) -> None:
    """Prints the largest difference of two outputs, absolute and relative."""
    difference, largest = float((first - second).abs().max()), float(second.abs().max())
    print(f"{title}: {difference:.1e} ({difference / largest:.1e} of logits up to {largest:.1f})")


def main(adapter: Path) -> None:
    """Compares merged and unmerged logits."""
    examples = list(islice(iter_examples(DATA), _COUNT))
    exact = logits(adapter, examples, merge=False, dtype="float64")
    unmerged = logits(adapter, examples, merge=False)
    merged = logits(adapter, examples, merge=True, dtype="float64")
    report("merged and unmerged, float64", merged, exact)
    report("merged and unmerged, float32", logits(adapter, examples, merge=True), unmerged)
    report("unmerged, float32 and float64", unmerged, exact)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--adapter", type=Path, default=ADAPTER, metavar="FOLDER", help="default: the trained one"
    )
    disable_progress_bar()
    main(parser.parse_args().adapter)
