"""Measures what the training mixture of t5-mini has in common with the captions of the demo.

    python -m demo.overlap

A base model that has seen the captions, or their sentences, has nothing left to be tuned for.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Set
from itertools import islice
from pathlib import Path
from random import Random

from demo.language.tasks import SIMILAR_TASKS, TASKS, mixture
from demo.world.splits import all_captions
from igrag.cli import run
from igrag.config import Config
from igrag.metrics.tokens import tokenize

_NGRAM = 4


def ngrams(texts: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Yields every 4-gram of every text, lower-cased and without punctuation."""
    for text in texts:
        for line in re.split(r"[\n.]", text):
            tokens = tokenize(line)
            yield from zip(*(tokens[start:] for start in range(_NGRAM)), strict=False)


def overlap(captions: Set[str], texts: Set[str], instruction: str) -> dict[str, object]:
    """Compares captions and an instruction with the texts of the mixture.

    Args:
        captions: The captions of the demo's images.
        texts: Inputs and answers of the mixture.
        instruction: The pipeline's instruction.

    Returns:
        The share of the captions' 4-grams that the texts have, the number of captions that are
        one of the texts or a line of one, and the words of the instruction that the texts have.
        Single words are meant to be shared: Flan-T5 knows English words, too.
    """
    lines = {line.strip() for text in texts for line in re.split(r"(?<=\.)\s|\n", text)}
    known = set(ngrams(texts))
    own = list(ngrams(captions))
    words = {word for text in texts for word in re.findall(r"[a-z]+", text.lower())}
    written = [word for caption in captions for word in re.findall(r"[a-z]+", caption.lower())]
    asked = sorted(set(re.findall(r"[a-z]+", instruction.lower())))
    return {
        "caption_words_in_mixture": round(sum(word in words for word in written) / len(written), 4),
        "caption_4grams": len(own),
        "caption_4grams_in_mixture": round(sum(gram in known for gram in own) / len(own), 4),
        "captions_in_mixture": len(captions & lines),
        "instruction_words_in_mixture": [word for word in asked if word in words],
        "instruction_words_not_in_mixture": [word for word in asked if word not in words],
    }


def main(arguments: argparse.Namespace) -> int:
    """Prints the figures as JSON."""
    examples = islice(mixture(Random(arguments.seed)), arguments.examples)
    texts = frozenset(text for example in examples for text in example)
    config = Config.load()
    found = overlap(all_captions(), texts, config.prompt_config.instruction)
    share = sum(TASKS[task] for task in SIMILAR_TASKS)
    result = {"examples": arguments.examples, "share_of_similar_scenes": round(share, 4), **found}
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m demo.overlap", description=__doc__)
    parser.add_argument("--examples", type=int, default=100_000, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=8, help="seed of the mixture")
    parser.add_argument("--output", type=Path, help="a JSON file to write, too")
    parser.add_argument("--debug", action="store_true")
    parsed = parser.parse_args()
    sys.exit(run(lambda: main(parsed), debug=parsed.debug))
