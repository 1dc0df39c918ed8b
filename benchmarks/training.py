"""Times prompt tuning beside PEFT with the library's Trainer, on models of Flan-T5's shapes.

    python benchmarks/training.py --shape small                  # three pairs, about an hour
    python benchmarks/training.py --shape base --pairs 1
    python benchmarks/training.py --shape small --method lora

Three contestants train 20 soft tokens, or a LoRA adapter of rank 16, on the same examples, each in
a process of its own, in turn:

- ours: `prompt_tuning/prompt_training.py --train` or `lora_training/train_lora.py --train`;
- (a): PEFT and Seq2SeqTrainer with its defaults, predict_with_generate;
- (b): the same with batches grouped by length, in bfloat16 where that is faster here, and with
  validation batches as large as ours.

With --model_dropout, ours runs a second time with dropout in the frozen model, as PEFT has it.
With --on_lora, a prompt on a merged LoRA adapter is compared with one without instead.

The weights are random, the lengths those of prompts with five captions: sources of 60 to 512 tokens
(260 in the mean), targets of 8 to 30. Each trains on all examples once, in its own order, after
something has warmed it up. Printed are medians, and the ratios of each pair.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.contestants import CONTESTANTS, DROPPING, ON_LORA
from benchmarks.measurement import Measured
from benchmarks.shapes import SHAPES, save_adapter, save_model, write_examples

_BUSY_LOAD = 0.5  # processes; above it wall clock means nothing


def main() -> int:
    """Runs the contestants in turn and prints the table."""
    arguments = parse_arguments()
    if arguments.worker:
        found = CONTESTANTS[arguments.method][arguments.worker](arguments)
        print(json.dumps(asdict(found)))
        return 0
    names = contestants(arguments)
    busy = os.getloadavg()[0] > _BUSY_LOAD
    with tempfile.TemporaryDirectory(prefix="igrag_training_") as name:
        folder = Path(name)
        save_model(folder / "model", arguments.shape)
        if arguments.on_lora:
            save_adapter(folder / "adapter", folder / "model")
        examples = arguments.steps * arguments.batch_size * arguments.accumulation
        write_examples(folder / "train.jsonl", examples, seed=1)
        write_examples(folder / "val.jsonl", arguments.captions, seed=2)
        pairs = []
        for number in range(arguments.pairs):
            pairs.append({each: _run(each, folder) for each in names})
            print(f"pair {number + 1} of {arguments.pairs}: done", file=sys.stderr, flush=True)
        if arguments.method == "prompt":  # In a run of its own: counting takes time.
            flops = _run("ours", folder, "--count_flops").sample_flops
            pairs = [{**pair, "ours": replace(pair["ours"], sample_flops=flops)} for pair in pairs]
    print(table(pairs, busy=busy))
    if arguments.json:
        content = [{name: asdict(found) for name, found in pair.items()} for pair in pairs]
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


def contestants(arguments: argparse.Namespace) -> list[str]:
    """Names who runs, ours first."""
    names = ["ours", ON_LORA] if arguments.on_lora else ["ours", "a", "b"]
    if arguments.model_dropout:
        names.insert(1, DROPPING)
    return names


def table(pairs: Sequence[dict[str, Measured]], *, busy: bool) -> str:
    """Returns medians of every contestant, and how many times faster ours is, pair by pair."""
    clock = "cpu" if busy else "wall"
    lines = [
        f"{'CPU seconds: the machine is busy' if busy else 'Wall clock'}; {len(pairs)} pairs.",
        "",
        "| | samples/s | captions/s | peak memory |",
        "|---|---:|---:|---:|",
    ]
    for name in pairs[0]:
        runs = [pair[name] for pair in pairs]
        train = statistics.median(each.samples / _train(each, clock) for each in runs)
        captions = statistics.median(each.captions / _caption(each, clock) for each in runs)
        memory = statistics.median(each.peak_bytes for each in runs) / 1e9
        lines.append(f"| {name} | {train:.2f} | {captions:.2f} | {memory:.2f} GB |")
    shares = [each.sample_flops * each.samples / each.train_wall / each.peak_flops
              for each in (pair["ours"] for pair in pairs)]  # fmt: skip
    if any(shares):  # Counted for the prompt alone.
        lines += ["", f"Share of the matmul peak in ours' steps: {statistics.median(shares):.0%}."]
    lines += ["", "| ours against | training | validation | memory |", "|---|---:|---:|---:|"]
    for name in [each for each in pairs[0] if each != "ours"]:
        ratios = [
            (
                _train(pair[name], clock) / _train(pair["ours"], clock),
                _caption(pair[name], clock) / _caption(pair["ours"], clock),
                pair["ours"].peak_bytes / pair[name].peak_bytes,
            )
            for pair in pairs
        ]
        cells = [_spread(values) for values in zip(*ratios, strict=True)]
        lines.append(f"| ({name}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.2f}x ({low:.2f} to {high:.2f})"


def _train(found: Measured, clock: str) -> float:
    return found.train_cpu if clock == "cpu" else found.train_wall


def _caption(found: Measured, clock: str) -> float:
    return found.caption_cpu if clock == "cpu" else found.caption_wall


def _run(name: str, folder: Path, *more: str) -> Measured:
    """Runs a contestant in a process of its own."""
    words = [sys.executable, __file__, *sys.argv[1:], "--worker", name, "--folder", str(folder)]
    words += more
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with (folder / f"{name}.log").open("w") as log:
        found = subprocess.run(words, env=environment, stdout=subprocess.PIPE, stderr=log)
    if found.returncode:
        print((folder / f"{name}.log").read_text()[-2000:], file=sys.stderr)
        raise SystemExit(f"error: {name}: exit code {found.returncode}")
    return Measured(**json.loads(found.stdout.decode().splitlines()[-1]))


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--shape", choices=SHAPES, default="small", help="of Flan-T5 (default: small)")
    add("--method", choices=CONTESTANTS, default="prompt", help="prompt (default) or lora")
    add("--pairs", type=int, default=3, help="how often each contestant runs (default: 3)")
    add("--steps", type=int, default=1, help="optimizer steps (default: 1)")
    add("--batch_size", type=int, default=16)
    add("--accumulation", type=int, default=8, help="micro-batches of a step")
    add("--captions", type=int, default=64, help="validation examples")
    add("--device", default="auto", help="auto (default), cpu or cuda")
    add("--dtype", default="auto", help="of ours: auto (default), float32, bfloat16")
    add("--model_dropout", action="store_true", help="ours also with dropout in the frozen model")
    add("--on_lora", action="store_true",
        help="a prompt on a merged LoRA adapter beside one without, instead of PEFT's")  # fmt: skip
    add("--compile", action="store_true", help="compile ours: training.compile: true")
    add("--json", type=Path, metavar="FILE", help="write all figures there, too")
    add("--worker", choices=CONTESTANTS["prompt"], help=argparse.SUPPRESS)
    add("--folder", type=Path, help=argparse.SUPPRESS)
    add("--count_flops", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.on_lora and arguments.method != "prompt":
        parser.error("--on_lora: is for --method prompt")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
