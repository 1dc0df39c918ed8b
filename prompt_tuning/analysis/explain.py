"""Look into a soft prompt: what each soft token is near to, and what is lost without it.

igrag explain prompt_tuning/checkpoints/best_model --output explained
igrag explain prompt_tuning/checkpoints/best_model --output explained --image input/802.jpg
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from igrag.cli import CommandParser, at_least, run_command
from igrag.config import portable
from igrag.training.summary import aligned
from prompt_tuning.analysis.opened_prompt import (
    OpenedPrompt,
    add_options,
    held_output,
    load_settings,
    open_prompt_file,
)

if TYPE_CHECKING:  # torch and transformers take seconds to load: --help must not wait for them.
    from prompt_tuning.analysis.ablation import PromptScore
    from prompt_tuning.analysis.vocabulary import NearestEntry

JSON_NAME, CHART_NAME, PAGE_NAME = "explained.json", "explained.png", "attention.html"
_EXAMPLES = 100  # Each soft token costs a validation of them.
_NEAREST = 5  # vocabulary entries that are shown of each soft token


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Writes table, chart and page into the output folder, and returns the exit code."""
    settings, config = load_settings(arguments)
    if arguments.image:  # The only implementation that returns weights.
        eager = config.models.model_copy(update={"attn_implementation": "eager"})
        config = config.model_copy(update={"models": eager})
    names = [JSON_NAME, CHART_NAME, *([PAGE_NAME] if arguments.image else [])]
    output: Path = arguments.output
    with held_output(output, names, overwrite=arguments.overwrite_output_dir):
        opened = open_prompt_file(arguments.prompt, settings, config)
        explain(opened, output, examples=None if arguments.no_ablation else arguments.examples)
        if arguments.image:
            from prompt_tuning.analysis.attention_page import write_attention

            write_attention(opened, arguments.image, output / PAGE_NAME)
    for name in names:
        print(output / name)
    return 0


def explain(opened: OpenedPrompt, output: Path, *, examples: int | None) -> None:
    """Prints the table of a prompt's soft tokens, and writes it as JSON and as a chart.

    Args:
        opened: The prompt.
        output: The folder.
        examples: Validation examples of the ablation; None leaves it out.
    """
    from igrag.captioning.language_model import embedding_weight
    from igrag.files import write_json
    from prompt_tuning.analysis.ablation import PromptScorer, ablate
    from prompt_tuning.analysis.charts import draw_tokens
    from prompt_tuning.analysis.vocabulary import nearest_entries

    prompt = opened.tuner.plain_prompt()
    embeddings = embedding_weight(opened.language.model)
    nearest = nearest_entries(prompt, embeddings, opened.language.tokenizer, count=_NEAREST)
    norms: list[float] = prompt.norm(dim=1).tolist()
    content: dict[str, Any] = {
        "prompt": portable(opened.path),
        "model": portable(opened.language.name),
        "prompt_length": len(prompt),
        "mean_embedding_norm": float(embeddings.detach().float().norm(dim=1).mean()),
    }
    whole, without = None, []
    if examples is not None:
        scorer = PromptScorer(opened.tuner, opened.validation(examples))
        whole = scorer.score(range(len(prompt)), title="whole prompt")
        without = ablate(scorer)
        content |= {
            "val_file": portable(opened.settings.val_file),
            "examples": examples,
            "loss": whole.loss,
            "bleu_4": whole.bleu_4,
        }
    content["soft_tokens"] = _describe(nearest, norms, whole, without)
    print(_table(content))
    write_json(output / JSON_NAME, content)
    draw_tokens(
        nearest, norms, output / CHART_NAME,
        title=f"Soft prompt of {len(prompt)} tokens", whole=whole, without=without,
    )  # fmt: skip


def _describe(
    nearest: "Sequence[Sequence[NearestEntry]]",
    norms: Sequence[float],
    whole: "PromptScore | None",
    without: "Sequence[PromptScore]",
) -> list[dict[str, Any]]:
    """Returns the soft tokens as JSON data; changes are those without the token."""
    tokens = []
    for index, (entries, norm) in enumerate(zip(nearest, norms, strict=True)):
        token: dict[str, Any] = {
            "index": index + 1,
            "norm": norm,
            "nearest": [{"token": each.token, "cosine": each.cosine} for each in entries],
        }
        if whole is not None:
            token |= {
                "loss_change": without[index].loss - whole.loss,
                "bleu_4_change": without[index].bleu_4 - whole.bleu_4,
            }
        tokens.append(token)
    return tokens


def _table(content: dict[str, Any]) -> str:
    """Returns the soft tokens as text, and below them what the changes are relative to."""
    has_ablation = "loss" in content
    rows = [["token", "norm", *(["loss", "BLEU-4"] if has_ablation else []), "nearest entries"]]
    for token in content["soft_tokens"]:
        row = [str(token["index"]), f"{token['norm']:.2f}"]
        if has_ablation:
            row += [f"{token['loss_change']:+.4f}", f"{token['bleu_4_change']:+.4f}"]
        row.append(", ".join(f"{each['token']} {each['cosine']:.2f}" for each in token["nearest"]))
        rows.append(row)
    lines = [aligned(rows, left=[len(rows[0]) - 1])]
    lines.append(f"mean norm of the vocabulary: {content['mean_embedding_norm']:.2f}")
    if has_ablation:
        lines.append(
            f"loss, BLEU-4: changes without the token; whole prompt: loss {content['loss']:.4f}, "
            f"BLEU-4 {content['bleu_4']:.4f} ({content['examples']} validation examples at most)"
        )
    return "\n".join(lines)


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(__doc__ or "")
    add = parser.add_argument
    add("prompt", type=Path, metavar="PROMPT",
        help="prompt_embeddings.pt, a folder that holds it, or its hub id")  # fmt: skip
    add("--examples", type=at_least(1), default=_EXAMPLES, metavar="N",
        help="validation examples to measure on (default: %(default)s)")  # fmt: skip
    add("--no_ablation", action="store_true", help="only norms and nearest vocabulary entries")
    add("--image", type=Path, nargs="+", default=[], metavar="FILE",
        help="also write attention.html: what the decoder read for each word of these images' "
        "captions")  # fmt: skip
    add_options(parser, output="where explained.json, explained.png and attention.html go")
    return parser.parse_args(words)
