"""Checks and times the project on a GPU: bash benchmarks/gpu_check.sh OUTPUT_FOLDER.

Models of the real shapes with random weights: Flan-T5-base and -large, CLIP ViT-B/32 and ViT-L/14.
Every part is tried for itself, and its figures are written before the next one starts, so that a
machine that is taken away leaves what was measured.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.measurement import now
from benchmarks.shapes import save_model, training_options, write_examples
from igrag.config import REPO_ROOT
from igrag.files import write_json

Figures = dict[str, Any]
_LOSS_TOLERANCE = 1e-4  # relative, float32 on the GPU against the CPU
_PROMPT_LENGTH = 20


def main() -> int:
    """Runs the parts in order; a part that fails is reported and does not stop the others."""
    arguments = _parse()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if not (arguments.dry_run or torch.cuda.is_available()):
        print("error: no CUDA device; give --dry_run to try it on the CPU", file=sys.stderr)
        return 1
    started = time.perf_counter()
    found: Figures = {}
    for part in PARTS:
        if time.perf_counter() - started > arguments.seconds:
            found[part.__name__] = {"left_out": f"{arguments.seconds} seconds are over"}
            continue
        before = time.perf_counter()
        try:
            found[part.__name__] = part(arguments)
        except Exception as error:
            traceback.print_exc()
            found[part.__name__] = {"error": f"{type(error).__name__}: {error}"}
        found[part.__name__]["part_seconds"] = round(time.perf_counter() - before, 1)
        write_json(arguments.output / "gpu_check.json", found)
        (arguments.output / "gpu_check.md").write_text(to_markdown(found), encoding="utf-8")
        print(f"{part.__name__}: {found[part.__name__]}", flush=True)
    return int(any("error" in figures for figures in found.values()))


def environment(arguments: argparse.Namespace) -> Figures:
    """Names the machine and the libraries."""
    import accelerate
    import peft
    import transformers

    name = "cpu"
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    versions = {each.__name__: each.__version__ for each in (torch, transformers, peft, accelerate)}
    return {"device": name, "dry_run": arguments.dry_run, **versions}


def same_loss(arguments: argparse.Namespace) -> Figures:
    """Compares the loss and the prompt's gradient in float32 with those of the CPU."""
    losses, gradients = [], []
    for device in ("cpu", _device(arguments)):
        tuner, batch = _tuner_and_batch(arguments, device, torch.float32, batch_size=2)
        loss = tuner(**batch).loss
        (gradient,) = torch.autograd.grad(loss, tuner.trainable_parameters())
        losses.append(float(loss.detach()))
        gradients.append(gradient.cpu())
    difference = abs(losses[1] - losses[0]) / abs(losses[0])
    spread = float((gradients[1] - gradients[0]).norm() / gradients[0].norm())
    if difference > _LOSS_TOLERANCE:
        raise AssertionError(f"losses {losses}: expected equal ones to {_LOSS_TOLERANCE}")
    return {"loss": losses, "relative_difference": difference, "gradient_difference": spread}


def training_base(arguments: argparse.Namespace) -> Figures:
    """Trains at Flan-T5-base's shape: ours beside PEFT and Seq2SeqTrainer, in bfloat16."""
    return _training(arguments, "base", steps=6)


def training_base_float32(arguments: argparse.Namespace) -> Figures:
    """Trains at Flan-T5-base's shape in float32."""
    return _training(arguments, "base", steps=4, dtype="float32")


def training_large(arguments: argparse.Namespace) -> Figures:
    """Trains at Flan-T5-large's shape."""
    return _training(arguments, "large", steps=4)


def resume(arguments: argparse.Namespace) -> Figures:
    """Trains four steps, then the last two again from the checkpoint in the middle."""
    folder = _folder(arguments, "base")
    write_examples(folder / "train.jsonl", 64, seed=1)
    write_examples(folder / "val.jsonl", 8, seed=2)
    prompts = []
    for checkpoint in (None, folder / "resumed" / "checkpoint-2"):
        _prompt_training(arguments, folder, checkpoint)
        path = folder / "resumed" / "checkpoint-4" / "prompt_embeddings.pt"
        prompts.append(torch.load(path, weights_only=True)["prompt_embeddings"])
    difference = float((prompts[1] - prompts[0]).abs().max())
    return {"largest_difference": difference, "equal": bool(torch.equal(*prompts))}


def captioning(arguments: argparse.Namespace) -> Figures:
    """Generates captions at Flan-T5-base's shape, greedy and with four beams."""
    found: Figures = {}
    device = _device(arguments)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    count = 8 if arguments.dry_run else 64
    tuner, batch = _tuner_and_batch(arguments, device, dtype, batch_size=count)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    for name, beams in (("greedy", 1), ("beams_4", 4)):
        options = {"num_beams": beams, "min_new_tokens": 16, "max_new_tokens": 16}
        with torch.inference_mode():
            seconds = _seconds(partial(tuner.generate, **inputs, **options))
        found[f"{name}_captions_per_second"] = round(count / seconds, 1)
    return found


def encoding(arguments: argparse.Namespace) -> Figures:
    """Encodes pixels at the shapes of CLIP ViT-B/32 and ViT-L/14."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    shapes: dict[str, dict[str, Any]] = {
        "ViT-B/32": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                     "num_attention_heads": 12, "patch_size": 32, "projection_dim": 512},
        "ViT-L/14": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                     "num_attention_heads": 16, "patch_size": 14, "projection_dim": 768},
    }  # fmt: skip
    found: Figures = {}
    device = _device(arguments)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    count = 4 if arguments.dry_run else 256
    for name, shape in shapes.items():
        if arguments.dry_run:
            shape = {**shape, "num_hidden_layers": 1}
        made: Any = CLIPVisionModelWithProjection(CLIPVisionConfig(**shape))
        model = made.to(device, dtype).eval()
        pixels = torch.randn(count, 3, 224, 224, device=device, dtype=dtype)
        with torch.inference_mode():
            seconds = _seconds(partial(model, pixel_values=pixels))
        found[f"{name}_images_per_second"] = round(count / seconds, 1)
    return found


def idle_share(arguments: argparse.Namespace) -> Figures:
    """Profiles forward and backward passes of the loop: how long the device had nothing to do."""
    from torch.profiler import ProfilerActivity, profile

    from prompt_tuning.optimization import summed_loss

    device = _device(arguments)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    tuner, batch = _tuner_and_batch(arguments, device, dtype, batch_size=16)
    parameters = tuner.trainable_parameters()

    def passes() -> None:
        for _ in range(2 if arguments.dry_run else 8):
            torch.autograd.grad(summed_loss(tuner, batch), parameters)

    seconds = _seconds(passes)
    activities = [ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiled:
        passes()
        now()  # Waits for the device.
    key = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    busy = sum(getattr(event, key) for event in profiled.key_averages()) / 1e6
    return {"seconds": round(seconds, 4), "idle_share": round(max(0.0, 1 - busy / seconds), 3)}


PARTS: tuple[Callable[[argparse.Namespace], Figures], ...] = (
    environment,
    same_loss,
    training_base,
    captioning,
    encoding,
    idle_share,
    resume,
    training_large,
    training_base_float32,
)


def to_markdown(found: Mapping[str, Figures]) -> str:
    """Returns all figures as a table."""
    rows = [
        f"| {part} | {name} | {value} |"
        for part, figures in found.items()
        for name, value in figures.items()
        if not isinstance(value, list | dict)
    ]
    tables = [figures["table"] for figures in found.values() if "table" in figures]
    rows = [row for row in rows if "\n" not in row]
    return "\n".join(["| part | figure | value |", "|---|---|---|", *rows, "", *tables]) + "\n"


def _training(
    arguments: argparse.Namespace, shape: str, *, steps: int, dtype: str = "auto"
) -> Figures:
    if arguments.dry_run:
        shape, steps = "tiny", 2
    figures = arguments.output / f"training_{shape}_{dtype}.json"
    words = [
        "benchmarks/training.py", "--shape", shape, "--pairs", "1", "--steps", str(steps),
        "--accumulation", "1" if arguments.dry_run else "8", "--captions", "32",
        "--dtype", dtype, "--json", str(figures),
    ]  # fmt: skip
    table = _run(words, arguments)
    (pair,) = json.loads(figures.read_text(encoding="utf-8"))
    ours = pair["ours"]["train_wall"]
    ratios = {f"times_{name}": round(pair[name]["train_wall"] / ours, 2) for name in ("a", "b")}
    return {"samples_per_second": round(pair["ours"]["samples"] / ours, 1), **ratios,
            "peak_gigabytes": round(pair["ours"]["peak_bytes"] / 1e9, 2),
            "table": table}  # fmt: skip


def _prompt_training(arguments: argparse.Namespace, folder: Path, checkpoint: Path | None) -> None:
    settings = {
        "training.max_steps": 4,
        "evaluation.eval_steps": 2,
        "evaluation.max_new_tokens": 4,
        "output.output_dir": folder / "resumed",
    }
    words = training_options(folder, settings)
    if checkpoint:
        words += ["--resume_from_checkpoint", str(checkpoint)]
    else:
        words.append("--overwrite_output_dir")
    _run(["prompt_tuning/prompt_training.py", "--train", *words], arguments)


def _run(words: list[str], arguments: argparse.Namespace) -> str:
    environment = dict(os.environ)
    if arguments.dry_run:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run(
        [sys.executable, *words], cwd=REPO_ROOT, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{words[0]}: exit code {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def _device(arguments: argparse.Namespace) -> str:
    return "cpu" if arguments.dry_run else "cuda"


def _folder(arguments: argparse.Namespace, shape: str) -> Path:
    """Returns the folder of a model, which the first call saves."""
    shape = "tiny" if arguments.dry_run else shape
    folder = Path(arguments.output) / "models" / shape
    if not (folder / "model" / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_model(folder / "model", shape)
    return folder


def _tuner_and_batch(
    arguments: argparse.Namespace, device: str, dtype: torch.dtype, *, batch_size: int
) -> tuple[Any, dict[str, torch.Tensor]]:
    """Returns a soft prompt before Flan-T5-base's shape, and a batch of real lengths."""
    from transformers import AutoModelForSeq2SeqLM

    from prompt_tuning.initialization import random_prompt
    from prompt_tuning.prompt_tuner import PromptTuner

    path = _folder(arguments, "base") / "model"
    model = AutoModelForSeq2SeqLM.from_pretrained(path, dtype=dtype, trust_remote_code=False)
    torch.manual_seed(0)
    prompt = random_prompt(model.get_input_embeddings().weight.float(), _PROMPT_LENGTH)
    tuner = PromptTuner(model.to(device), prompt)
    batch = {
        "input_ids": torch.randint(3, 1000, (batch_size, 260)),
        "attention_mask": torch.ones(batch_size, 260, dtype=torch.long),
        "labels": torch.randint(3, 1000, (batch_size, 20)),
    }
    return tuner, {name: tensor.to(device) for name, tensor in batch.items()}


def _seconds(run: Callable[[], Any]) -> float:
    """Returns the seconds of a second run; the first one warms up."""
    run()
    started, _ = now()
    run()
    return now()[0] - started


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("output", type=Path, help="folder of the figures")
    add("--dry_run", action="store_true", help="on the CPU, with tiny models")
    add("--seconds", type=float, default=330, help="start no part after so many (default: 330)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
