"""What sampling, averages, ensembles and transfer bring: trainings of some seeds, scored on val.

None of them is a default: they are measured on the validation split alone, on both benchmarks.

- sampled: `data.sample_retrieved`, the shown captions drawn from the nearest images per epoch;
- transfer: the prompt of the other benchmark as the initial one;
- averaged: the mean of the checkpoints of one training, which have the same initial prompt;
- ensemble: the logits of the prompts of all seeds, averaged.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures.comparison import (
    BENCHMARKS,
    IMAGE_SETTINGS,
    Benchmark,
    prompt_file,
    prompt_training,
    read_metrics,
    spread,
)
from benchmarks.figures.steps import Step
from igrag.config import REPO_ROOT

SEEDS = (0, 1, 2)
NEAREST = 15  # images that the shown ones are drawn from
METHODS = ("prompt", "sampled", "transfer", "averaged", "ensemble")
WITH_IMAGE = ("image-prompt", "image-sampled")
METRICS = ("bleu4", "cider_d")


def figure(benchmark: Benchmark) -> tuple[list[Step], "VariantsReader"]:
    """Returns the steps of a benchmark, trainings first, and what reads their results."""
    data = _data_step(benchmark)
    evaluations = []
    steps: list[Step] = []
    for seed in SEEDS:
        trained = _trainings(benchmark, seed, data)
        evaluation = _evaluation(benchmark, seed, trained)
        evaluations.append(evaluation)
        steps += [*trained.values(), evaluation]
    ensemble = _ensemble(benchmark, [prompt_training(benchmark, seed, "prompt") for seed in SEEDS])
    return [data, *steps, ensemble], VariantsReader(evaluations, ensemble)


class VariantsReader:
    """Joins the evaluations of the seeds.

    Args:
        evaluations: One of each seed.
        ensemble: That of the ensemble.
    """

    def __init__(self, evaluations: Sequence[Step], ensemble: Step) -> None:
        self._evaluations = evaluations
        self._ensemble = ensemble

    def __call__(self, work: Path) -> dict[str, Any]:
        """Returns the scores by method: mean, lowest and highest of the seeds."""
        seeds = [read_metrics(step, work)["methods"] for step in self._evaluations]
        ensemble = read_metrics(self._ensemble, work)["methods"]["ensemble"]
        scores: dict[str, Any] = {}
        for name in (*METHODS, *WITH_IMAGE):
            runs = [ensemble] if name == "ensemble" else [seed[name] for seed in seeds]
            scores[name] = {key: spread([run[key] for run in runs]) for key in METRICS}
        return {"seeds": len(seeds), "nearest": NEAREST, "methods": scores}


def _data_step(benchmark: Benchmark) -> Step:
    """Returns the examples of the benchmark once more, with the captions of more images."""
    words = (
        "lora_training/data_builder.py", "--main_config", benchmark.main_config,
        "--output_data", "{output}", "--seed", "7", "--overwrite_output_dir",
        "--set", f"data.retrieved={NEAREST}",
    )  # fmt: skip
    inputs = (REPO_ROOT / "demo" / "coco" / "annotations", REPO_ROOT / "configs")
    return Step(f"{benchmark.name}-retrieved", words, inputs)


def _trainings(benchmark: Benchmark, seed: int, data: Step) -> dict[str, Step]:
    """Returns the trainings of a seed by method."""
    (other,) = (each for each in BENCHMARKS if each.name != benchmark.name)
    source = prompt_training(other, seed, "prompt")
    sampled = (
        f"data.train_file={{{data.name}}}/train.jsonl",
        f"data.val_file={{{data.name}}}/val.jsonl",
        f"data.sample_retrieved={NEAREST}",
    )
    transfer = ("prompt_tuning.initialization=file",
                f"prompt_tuning.init_file={prompt_file(source)}")  # fmt: skip
    tokens = (*IMAGE_SETTINGS, f"data.image_vectors={benchmark.image_vectors}")
    return {
        "prompt": prompt_training(benchmark, seed, "prompt"),
        "sampled": prompt_training(benchmark, seed, "sampled", sampled, after=(data,)),
        "transfer": prompt_training(benchmark, seed, "transfer", transfer, after=(source,)),
        "image-prompt": prompt_training(benchmark, seed, "image", tokens),
        "image-sampled": prompt_training(
            benchmark, seed, "image-sampled", (*IMAGE_SETTINGS, *sampled), after=(data,)
        ),
        "averaged": _average(benchmark, seed),
    }


def _average(benchmark: Benchmark, seed: int) -> Step:
    """Returns the mean of the checkpoints of a training."""
    trained = prompt_training(benchmark, seed, "prompt")
    checkpoints = [f"{{{trained.name}}}/checkpoint-{step}" for step in (125, 250, 375)]
    words = ("-m", "igrag.commands", "average", *checkpoints, "--output", "{output}",
             "--overwrite_output_dir")  # fmt: skip
    return Step(f"{benchmark.name}-{seed}-averaged", words, after=(trained,))


def _evaluation(benchmark: Benchmark, seed: int, trained: Mapping[str, Step]) -> Step:
    named = {name: step for name, step in trained.items() if name != "prompt"}
    files = {
        name: f"{{{step.name}}}/prompt_embeddings.pt" if name == "averaged" else prompt_file(step)
        for name, step in named.items()
    }
    words = (
        *_evaluate(benchmark, "prompt," + ",".join(named)),
        "--set", f"prompt_tuning.weights_path={prompt_file(trained['prompt'])}",
        *(word for name, file in files.items()
          for word in ("--set", f"prompt_tuning.prompts.{name}={file}")),
        "--images", "demo/coco/val",
    )  # fmt: skip
    return Step(f"{benchmark.name}-{seed}-variants", words, after=tuple(trained.values()))


def _ensemble(benchmark: Benchmark, prompts: Sequence[Step]) -> Step:
    words = (*_evaluate(benchmark, "base"), "--ensemble", *map(prompt_file, prompts))
    return Step(f"{benchmark.name}-ensemble", words, after=tuple(prompts))


def _evaluate(benchmark: Benchmark, methods: str) -> tuple[str, ...]:
    return (
        "evaluation/run_evaluation.py", "--config", benchmark.main_config,
        "--data", benchmark.data, "--split", "val", "--methods", methods,
        "--output_dir", "{output}", "--overwrite_output_dir",
    )  # fmt: skip
