"""Times torch and CTranslate2 (float32, int8) on one soft prompt, by greedy and beam search.

python benchmarks/exported_prompt.py --prompt prompt_tuning/checkpoints/best_model

Each pair is torch and then the other, on the same prompts; the figure is the median of the pairs'
ratios. Captions are compared with the PromptTuner's, whose beam search ends as CTranslate2's does
(early_stopping), and with main.py's own, which does not end so early.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from transformers.utils.logging import disable_progress_bar

from igrag.captioning.exported_model import ExportedModel
from igrag.captioning.generator import Decoding, prepare_decoding
from igrag.captioning.language_model import LanguageModel, load_language_model
from igrag.config import REPO_ROOT
from prompt_tuning.export.comparison import (
    Generate,
    GeneratedTokens,
    Sample,
    comparable,
    generate_tokens,
    model_generate,
)
from prompt_tuning.export.exporter import export_model
from prompt_tuning.export.runtimes import open_ctranslate2
from prompt_tuning.prompt_tuner import PromptTuner

_LONGEST, _BATCH_SIZE = 512, 8


def open_tuner(arguments: argparse.Namespace) -> tuple[LanguageModel, PromptTuner]:
    """Loads the model in float32 on the CPU with the prompt prepended."""
    language = load_language_model(arguments.model, device="cpu", dtype="float32")
    tuner = PromptTuner.from_file(language.model, language.tokenizer, arguments.prompt)
    return language, tuner.eval()


def export(arguments: argparse.Namespace, sample: Sample, folder: Path, quantization: str) -> None:
    """Writes the exported model; each needs a model of its own, which is changed."""
    language, tuner = open_tuner(arguments)
    length = tuner.prompt_length
    exported = ExportedModel(
        "ctranslate2", quantization, length, _LONGEST + length, language.name, False, None,
        asdict(Decoding(num_beams=1)),
    )  # fmt: skip
    folder.mkdir()
    few = Sample(sample.prompts[:4], sample.references[:4])
    export_model(tuner, language.tokenizer, exported, folder, sample=few)


def main(arguments: argparse.Namespace) -> None:
    """Prints a line for each quantization and number of beams."""
    disable_progress_bar()
    sample = Sample.read(arguments.examples, arguments.samples)
    language, tuner = open_tuner(arguments)

    def run(generate: Generate) -> GeneratedTokens:
        return generate_tokens(generate, sample, language.tokenizer, batch_size=_BATCH_SIZE)

    with TemporaryDirectory() as temporary:
        for quantization in ("float32", "int8"):
            export(arguments, sample, Path(temporary) / quantization, quantization)
        for beams in (1, 4):
            decoding = prepare_decoding(language.model, Decoding(num_beams=beams))
            early = comparable(decoding, early_stopping=True)
            torch_generate, usual_generate = (
                model_generate(tuner, language.tokenizer, each, max_length=_LONGEST)
                for each in (early, decoding)
            )
            usual = run(usual_generate)
            for quantization in ("float32", "int8"):
                other = open_ctranslate2(Path(temporary) / quantization, early)
                pairs = [(run(usual_generate), run(other)) for _ in range(arguments.pairs)]
                found, same_rule = pairs[-1][1], run(torch_generate)
                ratios = sorted(ours.seconds / theirs.seconds for ours, theirs in pairs)
                print(
                    f"{beams} beam(s), {quantization}: {median(ratios):.2f}x torch "
                    f"({ratios[0]:.2f} to {ratios[-1]:.2f}; early_stopping in torch: "
                    f"{usual.seconds / same_rule.seconds:.2f}x), equal captions "
                    f"{found.equal_to(same_rule)} (main.py's torch: {found.equal_to(usual)}) of "
                    f"{arguments.samples}, BLEU-4 {found.bleu_4:.4f} (torch {usual.bleu_4:.4f})",
                    flush=True,
                )


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--prompt", type=Path, required=True, help="prompt_embeddings.pt, or its folder")
    add("--model", default=str(REPO_ROOT / "demo" / "models" / "t5-mini"))
    add("--examples", type=Path, default=REPO_ROOT / "demo" / "data" / "val.jsonl")
    add("--samples", type=int, default=64)
    add("--pairs", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_arguments())
