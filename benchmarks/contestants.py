"""The trainings that benchmarks/training.py times: this project's, and PEFT with the Trainer."""

import argparse
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measurement import (
    Clock,
    Measured,
    max_memory,
    measured,
    now,
    printing_to_stderr,
    since,
)
from benchmarks.shapes import LORA, NEVER_CHOSEN, training_options

PROMPT_LENGTH, _NEW_TOKENS = 20, 24
_EVAL_BATCH_SIZE = 32  # Ours' default; the library's is 8.
# Ours with dropout in the frozen model, as PEFT trains: tells that part of a ratio apart.
DROPPING = "ours with dropout"
NO_SETTINGS: Mapping[str, object] = {}
ON_LORA = "ours on LoRA"  # A prompt for the model with an adapter merged into it.


def train_our_prompt(
    arguments: argparse.Namespace, *, more: Mapping[str, object] = NO_SETTINGS
) -> Measured:
    """Trains by the typed command's own function, and takes the time of steps and validation."""
    from torch.utils.flop_counter import FlopCounterMode

    from prompt_tuning import prompt_training
    from prompt_tuning.training_log import TrainingLog
    from prompt_tuning.validation import Validation

    steps: list[Clock] = []
    started: list[Clock] = []
    validations: list[Clock] = []
    record_step, score = TrainingLog.step, Validation.score
    counter: Any = FlopCounterMode(display=False) if arguments.count_flops else nullcontext()

    def timed_step(*words: Any, **options: Any) -> None:
        steps.append(now())
        record_step(*words, **options)

    def timed_score(*words: Any, **options: Any) -> Any:
        if steps:
            counter.__exit__(None, None, None)
        before = now()
        result = score(*words, **options)
        validations.append(since(before))
        if not started:  # The untuned model has warmed everything up.
            started.append(now())
            counter.__enter__()
        return result

    TrainingLog.step, Validation.score = timed_step, timed_score  # type: ignore[method-assign]
    settings = {
        "prompt_tuning.prompt_length": PROMPT_LENGTH,
        "evaluation.max_new_tokens": _NEW_TOKENS,
        "output.output_dir": arguments.folder / "ours",
        "training.max_steps": arguments.steps,
        "training.compile": "true" if arguments.compile else "auto",
        **more,
    }
    _run_ours(prompt_training.command, arguments, "model.main_config", settings)
    found = measured(started[0], steps, arguments, min(validations), max_memory())
    if isinstance(counter, FlopCounterMode):
        return replace(found, sample_flops=counter.get_total_flops() / found.samples)
    return found


def train_on_lora(arguments: argparse.Namespace) -> Measured:
    """Trains a prompt for the model with the folder's adapter."""
    return train_our_prompt(
        arguments, more={"model.lora_weights_path": arguments.folder / "adapter"}
    )


def train_our_adapter(
    arguments: argparse.Namespace, *, more: Mapping[str, object] = NO_SETTINGS
) -> Measured:
    """Trains a LoRA adapter by the typed command's own function."""
    from lora_training import train_lora
    from lora_training.callbacks import RecordCallback
    from lora_training.trainer import AdapterTrainer

    steps: list[Clock] = []
    started: list[Clock] = []
    validations: list[Clock] = []
    on_step_end, evaluate = RecordCallback.on_step_end, AdapterTrainer.evaluate

    def timed_step(*words: Any, **options: Any) -> Any:
        steps.append(now())
        return on_step_end(*words, **options)

    def timed_evaluate(*words: Any, **options: Any) -> Any:
        before = now()
        result = evaluate(*words, **options)
        validations.append(since(before))
        if not started:  # The untuned model has warmed everything up.
            started.append(now())
        return result

    RecordCallback.on_step_end = timed_step  # type: ignore[method-assign]
    AdapterTrainer.evaluate = timed_evaluate  # type: ignore[method-assign]
    settings = {
        "training.max_new_tokens": _NEW_TOKENS,
        "training.output_dir": arguments.folder / "ours",
        **more,
    }
    _run_ours(train_lora.command, arguments, "--main_config", settings)
    return measured(started[0], steps, arguments, min(validations), max_memory())


def _run_ours(
    command: Callable[[list[str]], int],
    arguments: argparse.Namespace,
    main_config: str,
    settings: Mapping[str, object],
) -> None:
    """Runs a training of this project on the folder's model and examples.

    Args:
        command: What runs its command line.
        arguments: Those of the benchmark.
        main_config: Key or option of the captioning configuration.
        settings: Those of this training alone.
    """
    every = {
        "training.num_train_epochs": 1,
        "training.per_device_train_batch_size": arguments.batch_size,
        "training.gradient_accumulation_steps": arguments.accumulation,
        **settings,
    }
    if arguments.dtype == "float32":
        every["training.mixed_precision"] = "fp32"
    words = training_options(arguments.folder, every, main_config=main_config)
    words += ["--overwrite_output_dir", "--dtype", arguments.dtype, "--device", arguments.device]
    with printing_to_stderr():
        if command(["--train", *words]):
            raise RuntimeError("the training failed")


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
    tokenizer, model, data = _peft_parts(folder, arguments.method)
    steps: list[Clock] = []
    started: list[Clock] = []

    class Clocks(TrainerCallback):
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            started.append(now())

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
            learning_rate=0.3 if arguments.method == "prompt" else 1e-3,
            predict_with_generate=True,
            generation_max_length=_NEW_TOKENS + 1,  # the start token included
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
        # Without metrics the Trainer generates nothing, whatever predict_with_generate says.
        compute_metrics=lambda _: {},
        callbacks=[Clocks()],
    )
    with printing_to_stderr():
        _warm_up(trainer)
        trainer.train()
        # The Trainer takes the tokenizer's end token, with which captions end early after a step.
        model.generation_config.eos_token_id = NEVER_CHOSEN
        before = now()
        trainer.evaluate()
        validation = since(before)
    return measured(started[0], steps, arguments, validation, max_memory())


def _warm_up(trainer: Any) -> None:
    """Passes two examples forward and backward, as ours is warmed up by a first validation."""
    examples = [trainer.train_dataset[number] for number in range(2)]
    model = trainer.model.to(trainer.args.device)
    batch = trainer.data_collator(examples).to(trainer.args.device)
    model(**batch).loss.backward()
    model.zero_grad()


def _peft_parts(folder: Path, method: str) -> tuple[Any, Any, Any]:
    """Returns tokenizer, PEFT's model with what is trained, and the tokenized examples."""
    from datasets import load_dataset
    from peft import LoraConfig, PeftConfig, PromptTuningConfig, TaskType, get_peft_model
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model", trust_remote_code=False)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "model", trust_remote_code=False)
    config: PeftConfig = LoraConfig(task_type=TaskType.SEQ_2_SEQ_LM, **LORA)
    if method == "prompt":
        config = PromptTuningConfig(
            task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=PROMPT_LENGTH,
            num_transformer_submodules=1,
        )  # fmt: skip
    model = get_peft_model(model, config)

    def tokenize(row: dict[str, Any]) -> dict[str, Any]:
        return {**tokenizer(row["prompt"]), "labels": tokenizer(row["caption"])["input_ids"]}

    files = {name: str(folder / f"{name}.jsonl") for name in ("train", "val")}
    data = load_dataset("json", data_files=files, cache_dir=str(folder / "cache"))
    data = data.map(tokenize, remove_columns=["prompt", "caption"])
    return tokenizer, model, data


_DROPOUT = {"training.model_dropout": "true"}
_Train = Callable[[argparse.Namespace], Measured]
_PEFT: dict[str, _Train] = {"a": train_peft, "b": partial(train_peft, grouped=True)}
# What is trained -> who -> how.
CONTESTANTS: dict[str, dict[str, _Train]] = {
    "prompt": {
        "ours": train_our_prompt,
        DROPPING: partial(train_our_prompt, more=_DROPOUT),
        ON_LORA: train_on_lora,
        **_PEFT,
    },
    "lora": {
        "ours": train_our_adapter,
        DROPPING: partial(train_our_adapter, more=_DROPOUT),
        **_PEFT,
    },
}
