"""What lora_training/config/lora_config.yaml may say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from igrag.config import REPO_ROOT, ConfigPath, Section

DEFAULT_SETTINGS = REPO_ROOT / "lora_training" / "config" / "lora_config.yaml"
Positive = Annotated[int, Field(gt=0)]
Above0 = Annotated[float, Field(gt=0)]


class ModelSettings(Section):
    """Which frozen model the adapter is for."""

    name: str | None = Field(
        None,
        description="As main.py --model: an entry of the main config, a folder or a hub id; "
        "null: its default entry.",
    )


class DataSettings(Section):
    """Which captioned images become training data, and where it goes."""

    captions_path: ConfigPath = Field(description="COCO captions file.")
    images_path: ConfigPath = Field(description="Folder of its images.")
    val_captions_path: ConfigPath | None = Field(
        None, description="Captions of val images; null: a share of the images above."
    )
    val_images_path: ConfigPath | None = Field(None, description="Folder of the val images.")
    sample_count: Positive | None = Field(
        None, description="Images to take from captions_path; null: all."
    )
    train_ratio: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.9, description="Share of the images that train; unused with val_captions_path."
    )
    seed: int = Field(42, description="Decides the sample, the split and the targets.")
    output_data: ConfigPath = Field(description="Folder for train.jsonl and val.jsonl.")
    skip_bad_lines: bool = Field(
        False, description="Pass over lines of these two that are wrong when training."
    )


class AdapterSettings(Section):
    """The adapter, as peft.LoraConfig names it."""

    r: Positive = Field(16, description="Rank of the two matrices.")
    lora_alpha: Positive = Field(32, description="What they add is scaled by lora_alpha / r.")
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="Share of the adapter's inputs that is dropped while training."
    )
    target_modules: Annotated[list[str], Field(min_length=1)] = Field(
        ["q", "v"], description="Layers of the model that get an adapter; T5's attention: q k v o."
    )


class TrainingSettings(Section):
    """The training, as transformers.Seq2SeqTrainingArguments names it."""

    num_train_epochs: Positive = Field(3, description="Passes through the training examples.")
    per_device_train_batch_size: Positive = Field(16, description="Examples in a forward pass.")
    gradient_accumulation_steps: Positive = Field(1, description="Forward passes in a step.")
    learning_rate: Above0 = Field(1e-3, description="Peak rate.")
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = Field(
        "linear", description="After the warmup: constant, linear or cosine."
    )
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Share of the steps in which the rate rises to its peak."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="Towards zero.")
    max_grad_norm: Above0 | None = Field(1.0, description="Clip the gradient; null: never.")
    mixed_precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="auto: bf16 on a GPU that has it, else fp32."
    )
    max_source_length: Positive = Field(512, description="Longest prompt in tokens.")
    max_target_length: Positive = Field(40, description="Longest target in tokens.")
    eval_steps: Positive | None = Field(
        None, description="Validate and save after so many steps; null: after every epoch."
    )
    save_total_limit: Positive | None = Field(
        None, description="Checkpoints to keep beside the best; null: all."
    )
    early_stopping_patience: Positive | None = Field(
        None, description="Stop after so many validations without a better BLEU-4; null: never."
    )
    per_device_eval_batch_size: Positive = Field(32, description="Captions written at once.")
    max_new_tokens: Positive = Field(40, description="Longest caption in tokens.")
    num_beams: Positive = Field(1, description="Beams; 1 is greedy.")
    seed: int = Field(42, description="Decides the first adapter, the order and the dropout.")
    output_dir: ConfigPath = Field(
        description="Folder of checkpoints, the best adapter and all_results.json."
    )
    report_to: Literal["none", "tensorboard"] = Field(
        "none", description="tensorboard: event files in output_dir/runs."
    )


class LoraSettings(Section):
    """The whole file."""

    model: ModelSettings = Field(default_factory=ModelSettings, description="The frozen model.")
    data: DataSettings = Field(description="The captioned images.")
    lora: AdapterSettings = Field(default_factory=AdapterSettings, description="The adapter.")
    training: TrainingSettings = Field(description="The training.")

    @classmethod
    def load(
        cls, path: Path, overrides: list[str], *, options: Mapping[str, str] | None = None
    ) -> "LoraSettings":
        """Reads and checks `path`; see `load_config`."""
        from igrag.config import load_config

        return load_config(cls, path, overrides, options=options)
