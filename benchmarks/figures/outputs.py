"""Figures that are what a command prints: the document shows the command's own words."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures.steps import Step
from igrag.config import REPO_ROOT

# What libraries write to stderr between the lines of a table.
_PROGRESS_BAR = re.compile(r"^\n*.*\d+%\|.*\n", flags=re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Output:
    """What a command prints.

    Attributes:
        name: The file in docs/figures.
        words: The script or module with its options; {output} is a folder that is thrown away.
        inputs: Files and folders that decide the result.
        pattern: The part of the output that is shown; everything by default.
        after: Names of other outputs that must come first.
    """

    name: str
    words: tuple[str, ...]
    inputs: tuple[str, ...] = ("demo/models", "demo/data", "configs")
    pattern: str = r".+"
    after: tuple[str, ...] = ()

    def step(self) -> Step:
        """Returns the command as a step."""
        inputs = tuple(REPO_ROOT / path for path in self.inputs)
        after = tuple(BY_NAME[name].step() for name in self.after)
        return Step(self.name, self.words, inputs, after)

    def read(self, work: Path) -> dict[str, Any]:
        """Returns the command and what it printed.

        Raises:
            ValueError: It did not print what is shown.
        """
        text = (self.step().folder(work) / "step.log").read_text(encoding="utf-8")
        text = _PROGRESS_BAR.sub("", text)
        found = re.search(self.pattern, text.rstrip(), flags=re.DOTALL)
        if found is None:
            raise ValueError(f"{self.name}: the output has no {self.pattern!r}")
        return {"command": "python " + " ".join(self.words), "output": found[0]}


def code_block(data: Mapping[str, Any], lang: str) -> str:
    """Returns the output as a code block."""
    return f"```\n{data['output']}\n```\n"


def markdown(data: Mapping[str, Any], lang: str) -> str:
    """Returns output that is Markdown itself."""
    return f"{data['output']}\n"


_TABLE = r"step +epoch.*?(?=\n[^ \d]|\Z)"
OUTPUTS = (
    Output("prompt-training",
           ("prompt_tuning/prompt_training.py", "--train", "--output_dir", "{output}",
            "--overwrite_output_dir", "--set", "data.train_file=demo/data/train.jsonl",
            "--set", "data.val_file=demo/data/val.jsonl"),
           ("demo/models", "demo/data", "configs", "prompt_tuning/config"), _TABLE),
    Output("prompt-caption",
           ("main.py", "--i", "input/802.jpg", "--compare", "--set",
            "prompt_tuning.weights_path={prompt-training}/best_model/prompt_embeddings.pt"),
           pattern=r"input/802\.jpg.*", after=("prompt-training",)),
    Output("lora-training",
           ("lora_training/train_lora.py", "--train", "--output_dir", "{output}",
            "--overwrite_output_dir", "--set", "data.train_file=demo/data/train.jsonl",
            "--set", "data.val_file=demo/data/val.jsonl"),
           ("demo/models", "demo/data", "configs", "lora_training/config"), _TABLE),
    Output("overlap", ("-m", "demo.overlap"), ("demo/language", "demo/world", "configs"),
           r"\{.*\}"),
    Output("merged-adapter",
           ("benchmarks/merged_adapter.py", "--adapter", "{lora-training}/best"),
           pattern=r"merged and unmerged, float64.*", after=("lora-training",)),
    Output("settings",
           ("benchmarks/sweep_prompt_tuning.py", "--jobs", "2", "--output", "{output}"),
           ("demo/models", "demo/data", "configs", "prompt_tuning/config"), r"\| setting.*"),
    Output("training-prompt",
           ("benchmarks/training.py", "--shape", "small", "--accumulation", "4"), (),
           pattern=r"(Wall clock|CPU seconds).*"),
    Output("training-lora",
           ("benchmarks/training.py", "--shape", "small", "--method", "lora", "--model_dropout",
            "--accumulation", "4", "--captions", "32"), (), pattern=r"(Wall clock|CPU seconds).*"),
    Output("training-base",
           ("benchmarks/training.py", "--shape", "base", "--batch_size", "8", "--accumulation",
            "2", "--captions", "8"), (),
           pattern=r"(Wall clock|CPU seconds).*"),
    Output("training-on-lora",
           ("benchmarks/training.py", "--shape", "small", "--on_lora", "--accumulation", "2",
            "--captions", "16"), (), pattern=r"(Wall clock|CPU seconds).*"),
    Output("training-lines", ("benchmarks/training_lines.py",), (), pattern=r"\| lines.*"),
    Output("prompt-on-lora-training",
           ("prompt_tuning/prompt_training.py", "--train", "--output_dir", "{output}",
            "--overwrite_output_dir", "--config", "prompt_tuning/config/on_lora.yaml",
            "--set", "model.lora_weights_path={lora-training}/best",
            "--set", "data.train_file=demo/data/train.jsonl",
            "--set", "data.val_file=demo/data/val.jsonl"),
           ("demo/models", "demo/data", "configs", "prompt_tuning/config"), _TABLE,
           after=("lora-training",)),
    Output("training-times",
           ("benchmarks/training_times.py", "{prompt-training}", "{lora-training}",
            "{prompt-on-lora-training}"),
           after=("prompt-training", "lora-training", "prompt-on-lora-training")),
    Output("shorter-trainings",
           ("benchmarks/sweep_prompt_tuning.py", "--rows", "11", "12", "0", "13", "6", "--seeds",
            "0", "1", "2", "3", "4", "--output", "{output}"),
           ("demo/models", "demo/data", "configs", "prompt_tuning/config"), r"\| setting.*"),
    Output("scale-search",
           ("benchmarks/scale.py", "--folder", "{output}/bases", "--rows", "10000", "100000",
            "1000000", "--json", "{output}/rows.json"), (), pattern=r"\| rows.*"),
    Output("scale-build", ("benchmarks/build_speed.py",), (),
           pattern=r"\| processes.*"),
    Output("scale-start", ("benchmarks/training_start.py",), (), pattern=r"\| lines.*"),
    Output("scale-plan", ("benchmarks/plan_memory.py",), (), pattern=r"\| format.*"),
    Output("serving", ("benchmarks/serving.py",), ("demo/models",), pattern=r"\| server.*"),
    Output("exported-prompt",
           ("benchmarks/exported_prompt.py", "--prompt", "{prompt-training}/best_model"),
           pattern=r"1 beam.*", after=("prompt-training",)),
    Output("command-line", ("benchmarks/command_line.py", "--pairs", "3"), ("demo/models",),
           pattern=r"\| \| wall.*"),
    Output("speed-search", ("benchmarks/search_knowledge_base.py",), ()),
    Output("speed-data", ("benchmarks/build_caption_data.py",), ()),
    Output("speed-scores", ("benchmarks/score_captions.py",), ()),
    Output("retrieval-val", ("-m", "demo.evaluate_retrieval", "--split", "val")),
    Output("retrieval-dev", ("-m", "demo.evaluate_retrieval", "--split", "dev")),
)  # fmt: skip
BY_NAME = {output.name: output for output in OUTPUTS}
