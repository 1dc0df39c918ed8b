"""The comparison of all methods on both benchmarks of the demo, over several seeds.

Each seed trains a prompt, an adapter, and a prompt on that adapter, and the evaluation captions
the images with them. Some seeds train prompts with image tokens too, with and without the adapter.
What needs no training is evaluated once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.figures.steps import Step
from igrag.config import REPO_ROOT

SEEDS = (0, 1, 2, 3, 4)
UNTRAINED = ("base", "nearest", "instruction", "human")
TRAINED = ("prompt", "lora", "lora+prompt")
IMAGE_METHODS = ("image-prompt", "lora+image-prompt")
SHUFFLED = tuple(f"{name}-shuffled" for name in IMAGE_METHODS)
IMAGE_AGAINST = ("prompt", "lora")  # What image tokens are added to.
_INSTRUCTIONS = "instructions.yaml"
IMAGE_SETTINGS = ("prompt_tuning.prompt_length=16", "prompt_tuning.image_tokens=4")
BASELINES = ("base", "nearest", "instruction")
METRICS = ("bleu4", "cider_d", "rouge_l", "clip_score", "names_main_category")
TESTED = ("bleu4", "cider_d")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Data and knowledge base of a comparison.

    Attributes:
        name: Its name in docs/figures.
        data: Folder of the splits.
        suffix: That of their files.
        main_config: The captioning configuration.
        image_vectors: Where the images' vectors are, if not next to the examples.
        image_seeds: Seeds that train prompts with image tokens.
    """

    name: str
    data: str
    suffix: str
    main_config: str
    image_vectors: str = "[]"
    image_seeds: tuple[int, ...] = ()


COVERED = Benchmark("covered", "demo/data", ".jsonl", "configs/config.yaml")
UNCOVERED = Benchmark(
    "uncovered", "demo/uncovered/data", ".jsonl.gz", "configs/uncovered.yaml",
    image_vectors="[demo/knowledge_base,demo/coco/val]", image_seeds=(0, 1, 2),
)  # fmt: skip
BENCHMARKS = (COVERED, UNCOVERED)


def untrained_step(benchmark: Benchmark, split: str) -> Step:
    """Returns the evaluation of what needs no training; it chooses the instruction."""
    return _evaluation(benchmark, split, "untrained", UNTRAINED)


def _instruction_step(benchmark: Benchmark, split: str) -> Step:
    """Returns what makes the chosen instruction a file."""
    chosen = untrained_step(benchmark, split)
    words = ("-m", "benchmarks.figures.chosen_instruction", f"{{{chosen.name}}}/metrics.json",
             f"{{output}}/{_INSTRUCTIONS}")  # fmt: skip
    return Step(f"{benchmark.name}-{split}-instruction", words, after=(chosen,))


def seed_evaluation(benchmark: Benchmark, seed: int, split: str) -> Step:
    """Returns the evaluation of a seed, which waits for its trainings."""
    lora = _lora_training(benchmark, seed)
    prompt = prompt_training(benchmark, seed, "prompt")
    both = prompt_training(benchmark, seed, "both", on=lora)
    settings = [
        f"prompt_tuning.weights_path={prompt_file(prompt)}",
        f"prompt_tuning.weights_path_with_lora={prompt_file(both)}",
        f"lora_config.weights_path={{{lora.name}}}/best",
    ]
    image: tuple[Step, ...] = ()
    if seed in benchmark.image_seeds:
        tokens = (*IMAGE_SETTINGS, f"data.image_vectors={benchmark.image_vectors}")
        image = (
            prompt_training(benchmark, seed, "image", tokens),
            prompt_training(benchmark, seed, "image-both", tokens, on=lora),
        )
        settings += [
            f"prompt_tuning.prompts.{name}={prompt_file(step)}"
            for name, step in zip(IMAGE_METHODS, image, strict=True)
        ]
    # The baselines again, since the tests pair images.
    methods = (*BASELINES, *TRAINED, *(IMAGE_METHODS if image else ()))
    return _evaluation(
        benchmark, split, str(seed), methods, settings, (prompt, lora, both, *image),
        _instruction_step(benchmark, split),
    )  # fmt: skip


def prompt_training(
    benchmark: Benchmark,
    seed: int,
    name: str,
    settings: Sequence[str] = (),
    *,
    on: Step | None = None,
    after: tuple[Step, ...] = (),
) -> Step:
    """Returns the training of a prompt.

    Args:
        benchmark: Data and captioning configuration.
        seed: Its seed.
        name: What is trained, for the name of the step.
        settings: Further keys of --set.
        on: The training of the adapter that it is for; None for none.
        after: Other steps whose output the settings name.
    """
    settings = [f"model.main_config={benchmark.main_config}", *settings]
    if on:
        settings.append(f"model.lora_weights_path={{{on.name}}}/best")
    words = ("prompt_tuning/prompt_training.py", *_training_words(benchmark, seed, settings))
    inputs = (*_inputs(benchmark, "train"), REPO_ROOT / "prompt_tuning" / "config")
    return Step(f"{benchmark.name}-{seed}-{name}", words, inputs, (*((on,) if on else ()), *after))


def _lora_training(benchmark: Benchmark, seed: int) -> Step:
    words = ("lora_training/train_lora.py", "--main_config", benchmark.main_config,
             *_training_words(benchmark, seed))  # fmt: skip
    inputs = (*_inputs(benchmark, "train"), REPO_ROOT / "lora_training" / "config")
    return Step(f"{benchmark.name}-{seed}-lora", words, inputs)


def _training_words(
    benchmark: Benchmark, seed: int, settings: Sequence[str] = ()
) -> tuple[str, ...]:
    settings = [
        f"data.train_file={benchmark.data}/train{benchmark.suffix}",
        f"data.val_file={benchmark.data}/val{benchmark.suffix}",
        f"training.seed={seed}",
        *settings,
    ]
    options = ("--train", "--output_dir", "{output}", "--overwrite_output_dir")
    return (*options, *_set(settings))


def _set(settings: Sequence[str]) -> list[str]:
    return [word for text in settings for word in ("--set", text)]


def prompt_file(step: Step) -> str:
    """Names the best prompt of a training."""
    return f"{{{step.name}}}/best_model/prompt_embeddings.pt"


def _evaluation(
    benchmark: Benchmark,
    split: str,
    name: str,
    methods: Sequence[str],
    settings: Sequence[str] = (),
    trained: tuple[Step, ...] = (),
    instruction: Step | None = None,
) -> Step:
    words = (
        "evaluation/run_evaluation.py", "--config", benchmark.main_config,
        "--data", benchmark.data, "--split", split, "--methods", ",".join(methods),
        "--images", f"demo/coco/{split}", "--output_dir", "{output}", "--overwrite_output_dir",
        *_set(settings),
        *(("--instructions", f"{{{instruction.name}}}/{_INSTRUCTIONS}") if instruction else ()),
        *(("--shuffle_image_vectors", "--against", ",".join(IMAGE_AGAINST))
          if IMAGE_METHODS[0] in methods else ()),
    )  # fmt: skip
    after = (*trained, *((instruction,) if instruction else ()))
    return Step(f"{benchmark.name}-{split}-{name}", words, _inputs(benchmark, split), after)


def _inputs(benchmark: Benchmark, *splits: str) -> tuple[Path, ...]:
    """Returns what decides a result: the examples of val and of some splits, models, settings."""
    data = REPO_ROOT / benchmark.data
    examples = [path for split in ("val", *splits) for path in sorted(data.glob(f"{split}.*"))]
    return (
        *examples,
        REPO_ROOT / "demo" / "models",
        REPO_ROOT / "configs",
        REPO_ROOT / "evaluation" / "instructions.yaml",
    )


def summarize(untrained: Mapping[str, Any], seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Joins metrics.json of several seeds.

    Args:
        untrained: The evaluation of what needs no training.
        seeds: The evaluation of each seed.

    Returns:
        By method, mean, lowest and highest of each metric, and for trained methods the
        differences to each baseline with the largest p of all seeds, for those with image tokens
        to `prompt` and `lora` too; the same for the images that the knowledge base covers and for
        those that it does not, where both are known.
    """
    parts = {}
    for group in _coverage(untrained):
        pick = [next(g for g in _coverage(seed) if g["group"] == group["group"]) for seed in seeds]
        parts[group["group"]] = {"images": group["images"], **_join(group, pick)}
    return {
        "seeds": len(seeds),
        "image_seeds": sum(IMAGE_METHODS[0] in seed["methods"] for seed in seeds),
        "images": untrained["images"],
        **_join(untrained, seeds),
        "parts": parts,
        "instruction": untrained.get("instruction"),
    }


def _coverage(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    groups = found.get("retrieval_quality") or []
    return [group for group in groups if group["by"] == "coverage"]


def _join(untrained: Mapping[str, Any], seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    methods: dict[str, Any] = {}
    for name, found in untrained["methods"].items():
        methods[name] = {"scores": {key: spread([found.get(key)]) for key in METRICS}}
    for name in (*TRAINED, *IMAGE_METHODS, *SHUFFLED):
        runs = [seed["methods"][name] for seed in seeds if name in seed["methods"]]
        if not runs:
            continue
        methods[name] = {
            "scores": {key: spread([run.get(key) for run in runs]) for key in METRICS},
            "training": runs[0].get("training"),
            "over": {
                baseline: {key: _difference(runs, baseline, key) for key in TESTED}
                for baseline in runs[0]["over"]
                if all(baseline in run["over"] for run in runs)
            },
        }
    return {"methods": methods}


def spread(values: Sequence[float | None]) -> dict[str, float] | None:
    """Returns mean, lowest and highest; None where a value is missing."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return {"mean": mean(known), "low": min(known), "high": max(known)}


def _difference(runs: Sequence[Mapping[str, Any]], baseline: str, key: str) -> dict[str, float]:
    found = [run["over"][baseline][key] for run in runs]
    values = spread([each["difference"] for each in found]) or {}
    return {**values, "largest_p": max(each["p_value"] for each in found)}


def read_metrics(step: Step, work: Path) -> dict[str, Any]:
    """Reads the metrics.json of an evaluation."""
    content: dict[str, Any] = json.loads((step.folder(work) / "metrics.json").read_text())
    return content
