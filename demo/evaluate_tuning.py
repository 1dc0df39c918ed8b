"""Scores t5-mini without and with the trained soft prompt on a split of the miniature.

python prompt_tuning/prompt_training.py --train
python -m demo.evaluate_tuning --split test
"""

import argparse
import sys
from pathlib import Path

from igrag.assembly import build_template
from igrag.caption_data import iter_examples
from igrag.cli import run, setup_logging
from igrag.config import Config, find_model
from igrag.generator import CaptionGenerator, Decoding
from igrag.language_model import load_language_model
from igrag.metrics import bleu
from prompt_tuning.switching import open_prompt

_DATA = Path(__file__).resolve().parent / "data"


def main() -> int:
    """Prints BLEU-4 of both and the gain."""
    arguments = _parse_arguments()
    setup_logging("warning", verbose=False)
    config = Config.load(overrides=arguments.set)
    language = load_language_model(find_model(config.models, None).path, device="cpu")
    tuner = open_prompt(
        language,
        config.prompt_tuning.weights_path,
        template=build_template(config.prompt_config).fingerprint(),
    )
    examples = list(iter_examples(_DATA / f"{arguments.split}.jsonl"))
    generator = CaptionGenerator(
        language.model, language.tokenizer, decoding=Decoding(num_beams=1), batch_size=32
    )
    scores = []
    for name, writer in (("untuned", None), ("soft prompt", tuner)):
        generator.switch_to(writer)
        captions = generator.generate([example.prompt for example in examples])
        scores.append(bleu(captions, [example.references for example in examples]).bleu4)
        print(f"{arguments.split}, {name + ':':13} BLEU-4 {scores[-1]:.3f}", flush=True)
    print(f"gain {scores[1] - scores[0]:+.3f}")
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], prog="python -m demo.evaluate_tuning"
    )
    parser.add_argument("--split", default="test", choices=("val", "test"))
    parser.add_argument("--set", action="append", default=[], help="a key of configs/config.yaml")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run(main, debug=False))
