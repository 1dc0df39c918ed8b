"""The keys of lora_training/config/lora_config.yaml."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from igrag.config import REPO_ROOT, ConfigPath, Section
from igrag.config.choices import MixedPrecision, ReportTo, Schedule
from igrag.data.examples import default_examples

DEFAULT_SETTINGS = REPO_ROOT / "lora_training" / "config" / "lora_config.yaml"
BUILT_DATA = REPO_ROOT / "lora_training" / "data"
Positive = Annotated[int, Field(gt=0)]
Above0 = Annotated[float, Field(gt=0)]


class ModelSettings(Section):
    """The frozen model."""

    name: str | None = Field(
        None,
        description="Model of the adapter, as in main.py --model: an entry of the main config, a "
        "folder or a hub id; null: the main config's default.",
    )


class DataSettings(Section):
    """Which captioned images become training data, and which data are trained on."""

    captions_path: ConfigPath = Field(
        description="COCO captions file that training data are built from."
    )
    images_path: ConfigPath = Field(description="Folder of its images.")
    val_captions_path: ConfigPath | None = Field(
        None,
        description="COCO captions file of the validation images; null: train_ratio splits the "
        "images of captions_path.",
    )
    val_images_path: ConfigPath | None = Field(
        None, description="Folder of the validation images; set if val_captions_path is set."
    )
    sample_count: Positive | None = Field(
        None, description="Number of images to sample from captions_path; null: all."
    )
    train_ratio: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.9, description="Share of training images; used if val_captions_path is null."
    )
    seed: int = Field(42, description="Seed of the sample, the split and the target captions.")
    output_data: ConfigPath = Field(
        description="Output folder of --build_data: train.jsonl, val.jsonl and data.json."
    )
    train_file: ConfigPath | None = Field(
        None,
        description="Training examples (JSONL) of --train; null: train.jsonl of output_data, or "
        "demo/data/train.jsonl as long as nothing was built into the default output_data. --all "
        "always trains on output_data.",
    )
    val_file: ConfigPath | None = Field(
        None,
        description="Validation examples (JSONL) of --train, which select the best checkpoint; "
        "null: as for train_file.",
    )
    skip_bad_lines: bool = Field(
        False, description="Skip invalid lines of the two files with a warning when training."
    )

    def files(self, *, built: bool) -> tuple[Path, Path]:
        """Returns the files of training and validation examples.

        Args:
            built: Take what --build_data wrote, whatever train_file and val_file are.
        """
        train, val = (None, None) if built else (self.train_file, self.val_file)
        return train or self._default_file("train", built), val or self._default_file("val", built)

    def _default_file(self, split: str, built: bool) -> Path:
        # The demo data stand in for the default folder only: whoever names another one means it.
        if built or self.output_data != BUILT_DATA:
            return self.output_data / f"{split}.jsonl"
        return default_examples(split, BUILT_DATA)


class AdapterSettings(Section):
    """The adapter, under the names of `peft.LoraConfig`."""

    r: Positive = Field(16, description="Rank of the adapter's matrices.")
    lora_alpha: Positive = Field(
        32, description="Scaling: the adapter's output is multiplied by lora_alpha / r."
    )
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="Dropout probability of the adapter's inputs during training."
    )
    target_modules: Annotated[list[str], Field(min_length=1)] = Field(
        ["q", "v"],
        description="Names of the layers that get an adapter; T5's attention has q, k, v and o.",
    )


class TrainingSettings(Section):
    """The training, under the names of `transformers.Seq2SeqTrainingArguments`."""

    num_train_epochs: Positive = Field(3, description="Number of training epochs.")
    per_device_train_batch_size: Positive = Field(
        16, description="Examples in a training micro-batch."
    )
    gradient_accumulation_steps: Positive = Field(
        1, description="Micro-batches accumulated for one optimizer step."
    )
    learning_rate: Above0 = Field(1e-3, description="Peak learning rate.")
    lr_scheduler_type: Schedule = Field(
        "linear", description="Learning rate schedule after warmup: constant, linear or cosine."
    )
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Share of the optimizer steps used for linear warmup."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Decoupled weight decay of AdamW."
    )
    max_grad_norm: Above0 | None = Field(
        1.0, description="Maximum norm for gradient clipping; null: no clipping."
    )
    mixed_precision: MixedPrecision = Field(
        "auto", description="auto (bf16 on a GPU that supports it, else fp32), bf16 or fp32."
    )
    max_source_length: Positive = Field(
        512,
        description="Maximum prompt length in tokens; longer ones are truncated with a warning.",
    )
    max_target_length: Positive = Field(
        40, description="Maximum caption length in tokens during training; likewise truncated."
    )
    eval_steps: Positive | None = Field(
        None, description="Validate and save every N optimizer steps; null: after every epoch."
    )
    save_total_limit: Positive | None = Field(
        None, description="Checkpoints to keep in addition to the best one; null: all."
    )
    early_stopping_patience: Positive | None = Field(
        None, description="Stop after N validations without a new best checkpoint; null: never."
    )
    per_device_eval_batch_size: Positive = Field(32, description="Examples in a validation batch.")
    max_new_tokens: Positive = Field(
        40, description="Maximum length of generated captions in tokens during validation."
    )
    num_beams: Positive = Field(1, description="Beams of beam search; 1: greedy decoding.")
    seed: int = Field(
        42, description="Seed of the adapter's initialization, the order of examples and dropout."
    )
    output_dir: ConfigPath = Field(
        description="Output folder: checkpoint-N, best (the best adapter), all_results.json and "
        "training_curves.png."
    )
    report_to: ReportTo = Field(
        "none",
        description="tensorboard: write event files to output_dir/runs (pip install tensorboard).",
    )


class LoraSettings(Section):
    """The whole file."""

    model: ModelSettings = Field(default_factory=ModelSettings, description="The frozen model.")
    data: DataSettings = Field(description="The training data.")
    lora: AdapterSettings = Field(default_factory=AdapterSettings, description="The adapter.")
    training: TrainingSettings = Field(description="The training.")

    @classmethod
    def load(
        cls, path: Path, overrides: list[str], *, options: Mapping[str, str] | None = None
    ) -> "LoraSettings":
        """Reads and checks `path`; see `load_config`."""
        from igrag.config import load_config

        return load_config(cls, path, overrides, options=options)
