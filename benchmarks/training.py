"""Times prompt tuning beside PEFT with the library's Trainer, on models of Flan-T5's shapes.

    python benchmarks/training.py --shape small                  # three pairs, about an hour
    python benchmarks/training.py --shape base --pairs 1 --steps 2

Three contestants train 20 soft tokens on the same examples, each in a process of its own, in turn:

- ours: `prompt_tuning/prompt_training.py --train`;
- (a): PEFT's PromptTuningConfig and Seq2SeqTrainer with its defaults, predict_with_generate;
- (b): the same with batches grouped by length, in bfloat16 where that is faster here, and with
  validation batches as large as ours.

The weights are random, the lengths those of prompts with five captions: sources of 60 to 512 tokens
(260 in the mean), targets of 8 to 30. Printed are medians, and the ratios of each pair.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.shapes import SHAPES, save_model, training_options, write_examples

_PROMPT_LENGTH, _NEW_TOKENS = 20, 24
_EVAL_BATCH_SIZE = 32  # Ours' default; the library's is 8.
_CONTESTANTS = ("ours", "a", "b")
_BUSY_LOAD = 0.5  # processes; above it wall clock means nothing


@dataclass(frozen=True, slots=True)
class Measured:
    """What one contestant took.

    Attributes:
        train_wall: Seconds of the steps after the first one.
        train_cpu: The same in CPU seconds of all threads.
        samples: Examples of those steps.
        caption_wall: Seconds of the validation, loss and captions.
        caption_cpu: The same in CPU seconds.
        captions: Captions of that validation.
        peak_bytes: Largest resident memory of the process.
        peak_flops: Floating-point operations per second of a large float32 matmul.
        sample_flops: Those of the matmuls of an example's step, padding included; 0: not counted.
    """

    train_wall: float
    train_cpu: float
    samples: int
    caption_wall: float
    caption_cpu: float
    captions: int
    peak_bytes: int
    peak_flops: float
    sample_flops: float = 0.0


Clock = tuple[float, float]


def now() -> Clock:
    """Returns wall and CPU seconds, after what a GPU has still to do."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def main() -> int:
    """Runs the contestants in turn and prints the table."""
    arguments = _parse()
    if arguments.worker:
        found = _WORKERS[arguments.worker](arguments)
        print(json.dumps(asdict(found)))
        return 0
    busy = os.getloadavg()[0] > _BUSY_LOAD
    with tempfile.TemporaryDirectory(prefix="igrag_training_") as name:
        folder = Path(name)
        save_model(folder / "model", arguments.shape)
        examples = arguments.steps * arguments.batch_size * arguments.accumulation
        write_examples(folder / "train.jsonl", examples, seed=1)
        write_examples(folder / "val.jsonl", arguments.captions, seed=2)
        pairs = []
        for number in range(arguments.pairs):
            pairs.append({each: _run(each, folder) for each in _CONTESTANTS})
            print(f"pair {number + 1} of {arguments.pairs}: done", file=sys.stderr, flush=True)
    print(table(pairs, busy=busy))
    if arguments.json:
        content = [{name: asdict(found) for name, found in pair.items()} for pair in pairs]
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


def train_ours(arguments: argparse.Namespace) -> Measured:
    """Trains by the typed command's own function, and takes the time of steps and validation."""
    from torch.utils.flop_counter import FlopCounterMode

    from prompt_tuning import prompt_training
    from prompt_tuning.training_log import TrainingLog
    from prompt_tuning.validation import Validation

    steps: list[Clock] = []
    validations: list[Clock] = []
    record_step, score = TrainingLog.step, Validation.score
    counter = FlopCounterMode(display=False)  # Of the first step, which is not timed.

    def timed_step(*words: Any, **options: Any) -> None:
        if not steps:
            counter.__exit__(None, None, None)
        steps.append(now())
        record_step(*words, **options)

    def timed_score(*words: Any, **options: Any) -> Any:
        before = now()
        result = score(*words, **options)
        validations.append(_since(before))
        if not steps:
            counter.__enter__()
        return result

    TrainingLog.step, Validation.score = timed_step, timed_score  # type: ignore[method-assign]
    folder = arguments.folder
    settings = {
        "prompt_tuning.prompt_length": _PROMPT_LENGTH,
        "training.num_train_epochs": 1,
        "training.per_device_train_batch_size": arguments.batch_size,
        "training.gradient_accumulation_steps": arguments.accumulation,
        "evaluation.max_new_tokens": _NEW_TOKENS,
        "output.output_dir": folder / "ours",
    }
    words = [*training_options(folder, settings), "--overwrite_output_dir"]
    words += ["--dtype", arguments.dtype, "--device", arguments.device]
    if arguments.dtype == "float32":
        words += ["--set", "training.mixed_precision=fp32"]
    with _printing_to_stderr():
        if prompt_training.command(["--train", *words]):
            raise RuntimeError("the training failed")
    found = measured(steps, arguments, min(validations), max_memory())
    examples = arguments.batch_size * arguments.accumulation
    return replace(found, sample_flops=counter.get_total_flops() / examples)


def train_peft(arguments: argparse.Namespace, *, grouped: bool = False) -> Measured:
    """Trains by PEFT and the library's Seq2SeqTrainer."""
    import torch
    from transformers import (
        DataCollatorForSeq2Seq,
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
        TrainerCallback,
    )

    from igrag.devices import auto_dtype

    folder = arguments.folder
    tokenizer, model, data = _peft_parts(folder)
    steps: list[Clock] = []

    class Clocks(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            steps.append(now())

    options: dict[str, Any] = {}
    if grouped:
        fast_bfloat16 = auto_dtype("cuda" if torch.cuda.is_available() else "cpu") == "bfloat16"
        options = {
            "train_sampling_strategy": "group_by_length",
            "bf16": fast_bfloat16,
            "per_device_eval_batch_size": _EVAL_BATCH_SIZE,
        }
    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=str(folder / "peft"),
            max_steps=arguments.steps,
            per_device_train_batch_size=arguments.batch_size,
            gradient_accumulation_steps=arguments.accumulation,
            learning_rate=0.3,
            predict_with_generate=True,
            generation_max_length=_NEW_TOKENS,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=arguments.device == "cpu",
            logging_steps=1,
            **options,
        ),
        train_dataset=data["train"],
        eval_dataset=data["val"],
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
        callbacks=[Clocks()],
    )
    with _printing_to_stderr():
        trainer.train()
        before = now()
        trainer.evaluate()
        validation = _since(before)
    return measured(steps, arguments, validation, max_memory())


def _peft_parts(folder: Path) -> tuple[Any, Any, Any]:
    """Returns tokenizer, PEFT's model with its soft prompt, and the tokenized examples."""
    from datasets import load_dataset
    from peft import PromptTuningConfig, TaskType, get_peft_model
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model", trust_remote_code=False)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "model", trust_remote_code=False)
    prompt = PromptTuningConfig(
        task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=_PROMPT_LENGTH,
        num_transformer_submodules=1,
    )  # fmt: skip
    model = get_peft_model(model, prompt)

    def tokenize(row: dict[str, Any]) -> dict[str, Any]:
        return {**tokenizer(row["prompt"]), "labels": tokenizer(row["caption"])["input_ids"]}

    files = {name: str(folder / f"{name}.jsonl") for name in ("train", "val")}
    data = load_dataset("json", data_files=files, cache_dir=str(folder / "cache"))
    data = data.map(tokenize, remove_columns=["prompt", "caption"])
    return tokenizer, model, data


def measured(
    steps: Sequence[Clock], arguments: argparse.Namespace, validation: Clock, peak: int
) -> Measured:
    """Joins the figures; the first step, which warms everything up, is left out."""
    (first_wall, first_cpu), (last_wall, last_cpu) = steps[0], steps[-1]
    return Measured(
        train_wall=last_wall - first_wall,
        train_cpu=last_cpu - first_cpu,
        samples=(len(steps) - 1) * arguments.batch_size * arguments.accumulation,
        caption_wall=validation[0],
        caption_cpu=validation[1],
        captions=arguments.captions,
        peak_bytes=peak,
        peak_flops=matmul_peak(),
    )


def max_memory() -> int:
    """Returns the most memory of the GPU, else the largest resident memory so far, in bytes."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def matmul_peak() -> float:
    """Returns the floating-point operations a second of the best large matmul here.

    In float32 on a CPU, in bfloat16 where `dtype: auto` chooses it.
    """
    import torch

    from igrag.devices import resolve_device, resolve_dtype

    device = resolve_device("auto")
    options: dict[str, Any] = {"device": device, "dtype": resolve_dtype("auto", device)}
    size = 2048 if device.type == "cpu" else 8192
    left, right = torch.randn(size, size, **options), torch.randn(size, size, **options)
    best = float("inf")
    for _ in range(5):
        started = now()[0]
        left @ right
        best = min(best, now()[0] - started)
    return float(2 * size**3 / best)


def table(pairs: Sequence[dict[str, Measured]], *, busy: bool) -> str:
    """Returns medians of every contestant, and how many times faster ours is, pair by pair."""
    clock = "cpu" if busy else "wall"
    lines = [
        f"{'CPU seconds: the machine is busy' if busy else 'Wall clock'}; {len(pairs)} pairs.",
        "",
        "| | samples/s | captions/s | peak memory |",
        "|---|---:|---:|---:|",
    ]
    for name in _CONTESTANTS:
        runs = [pair[name] for pair in pairs]
        train = statistics.median(each.samples / _train(each, clock) for each in runs)
        captions = statistics.median(each.captions / _caption(each, clock) for each in runs)
        memory = statistics.median(each.peak_bytes for each in runs) / 1e9
        lines.append(f"| {name} | {train:.2f} | {captions:.2f} | {memory:.2f} GB |")
    shares = [each.sample_flops * each.samples / each.train_wall / each.peak_flops
              for each in (pair["ours"] for pair in pairs)]  # fmt: skip
    lines += ["", f"Share of the matmul peak in ours' steps: {statistics.median(shares):.0%}."]
    lines += ["", "| ours against | training | validation | memory |", "|---|---:|---:|---:|"]
    for name in _CONTESTANTS[1:]:
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


def _since(before: Clock) -> Clock:
    wall, cpu = now()
    return wall - before[0], cpu - before[1]


@contextmanager
def _printing_to_stderr() -> Iterator[None]:
    """Keeps stdout for the figures."""
    kept = os.dup(1)
    sys.stdout.flush()
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _run(name: str, folder: Path) -> Measured:
    """Runs a contestant in a process of its own."""
    words = [sys.executable, __file__, *sys.argv[1:], "--worker", name, "--folder", str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with (folder / f"{name}.log").open("w") as log:
        found = subprocess.run(words, env=environment, stdout=subprocess.PIPE, stderr=log)
    if found.returncode:
        print((folder / f"{name}.log").read_text()[-2000:], file=sys.stderr)
        raise SystemExit(f"error: {name}: exit code {found.returncode}")
    return Measured(**json.loads(found.stdout.decode().splitlines()[-1]))


_WORKERS: dict[str, Callable[[argparse.Namespace], Measured]] = {
    "ours": train_ours,
    "a": train_peft,
    "b": lambda arguments: train_peft(arguments, grouped=True),
}


def _parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--shape", choices=SHAPES, default="small", help="of Flan-T5 (default: small)")
    add("--pairs", type=int, default=3, help="how often each contestant runs (default: 3)")
    add("--steps", type=int, default=3, help="optimizer steps, the first one not timed")
    add("--batch_size", type=int, default=16)
    add("--accumulation", type=int, default=8, help="micro-batches of a step")
    add("--captions", type=int, default=64, help="validation examples")
    add("--device", default="auto", help="auto (default), cpu or cuda")
    add("--dtype", default="auto", help="of ours: auto (default), float32, bfloat16")
    add("--json", type=Path, metavar="FILE", help="write all figures there, too")
    add("--worker", choices=_CONTESTANTS, help=argparse.SUPPRESS)
    add("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.steps < 2:
        parser.error("--steps: expected at least 2")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
