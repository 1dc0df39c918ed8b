"""What prompt_tuning/config/prompt_tuning.yaml may say."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from igrag.config import DEFAULT_CONFIG, REPO_ROOT, ConfigPath, Section

DEFAULT_SETTINGS = REPO_ROOT / "prompt_tuning" / "config" / "prompt_tuning.yaml"
Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Above0 = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # What every library takes.


class ModelSettings(Section):
    """Which frozen model the prompt is for."""

    main_config: ConfigPath = Field(
        DEFAULT_CONFIG, description="The configuration that captioning uses: models and template."
    )
    name: str | None = Field(
        None, description="As main.py --model: an entry of it, a folder or a hub id; null: its own."
    )
    lora_weights_path: ConfigPath | None = Field(
        None, description="A LoRA adapter in PEFT's format, merged below the prompt; null: none."
    )


class DataSettings(Section):
    """The examples."""

    train_file: ConfigPath = Field(description="JSONL that trains.")
    val_file: ConfigPath = Field(description="JSONL that chooses the best checkpoint.")
    max_source_length: Positive = Field(512, description="Longest prompt in tokens.")
    max_target_length: Positive = Field(40, description="Longest target in tokens.")
    skip_bad_lines: bool = Field(False, description="Pass over lines that are wrong.")
    dataloader_num_workers: NotNegative = Field(
        0, description="Processes that prepare batches; 0: none of their own."
    )


class PromptSettings(Section):
    """The soft prompt."""

    prompt_length: Positive = Field(20, description="Soft tokens, P.")
    initialization: Literal["random", "text", "vocab", "file"] = Field(
        "random", description="random, text, vocab (frequent tokens) or file (another prompt)."
    )
    init_scale: Above0 | None = Field(
        None, description="For random: standard deviation; null: that of the model's embeddings."
    )
    init_text: str | None = Field(
        None, description="For text; null: the instruction of the prompt template."
    )
    init_file: ConfigPath | None = Field(None, description="For file: prompt_embeddings.pt.")
    reparameterization: Literal["none", "residual", "superpos"] = Field(
        "none", description="How the prompt is trained; what is saved is plain."
    )
    bottleneck: Positive = Field(64, description="For residual: width of its MLP.")
    sampled_embeddings: Positive = Field(128, description="For superpos: embeddings to mix.")

    @field_validator("init_text")
    @classmethod
    def _check_text(cls, text: str | None) -> str | None:
        if text is not None and not text.strip():
            raise ValueError("a text, or null for the instruction of the prompt template")
        return text

    @model_validator(mode="after")
    def _check_file(self) -> "PromptSettings":
        if self.initialization == "file" and self.init_file is None:
            raise ValueError("init_file to be set, since initialization is file")
        return self


class TrainingSettings(Section):
    """The loop."""

    num_train_epochs: Positive = Field(3, description="Passes through the training examples.")
    per_device_train_batch_size: Positive = Field(16, description="Examples in a forward pass.")
    gradient_accumulation_steps: Positive = Field(8, description="Forward passes in a step.")
    learning_rate: Above0 = Field(0.03, description="Peak rate.")
    optimizer: Literal["adamw", "adafactor"] = Field("adamw", description="adamw or adafactor.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="Towards zero.")
    max_grad_norm: Above0 | None = Field(1.0, description="Clip the gradient; null: never.")
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = Field(
        "linear", description="After the warmup: constant, linear or cosine."
    )
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Share of the steps in which the rate rises to its peak."
    )
    model_dropout: bool = Field(False, description="Let the frozen model drop out.")
    mixed_precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="auto: bf16 on a GPU that has it, else fp32."
    )
    seed: Seed = Field(42, description="Decides the first prompt and the order of the examples.")


class EvaluationSettings(Section):
    """Validation and what is kept of it."""

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


class OutputSettings(Section):
    """Where results go."""

    output_dir: ConfigPath = Field(description="Folder of checkpoints and all_results.json.")
    report_to: Literal["none", "tensorboard"] = Field(
        "none", description="tensorboard: event files in output_dir/runs."
    )


class PromptTrainingSettings(Section):
    """The whole file."""

    model: ModelSettings = Field(default_factory=ModelSettings, description="The frozen model.")
    data: DataSettings = Field(description="The examples.")
    prompt: PromptSettings = Field(default_factory=PromptSettings, description="The soft prompt.")
    training: TrainingSettings = Field(default_factory=TrainingSettings, description="The loop.")
    evaluation: EvaluationSettings = Field(
        default_factory=EvaluationSettings, description="Validation."
    )
    output: OutputSettings = Field(description="Where results go.")

    @classmethod
    def load(cls, path: Path, overrides: list[str]) -> "PromptTrainingSettings":
        """Reads and checks `path`; see `load_config`."""
        from igrag.config import load_config

        return load_config(cls, path, overrides)
