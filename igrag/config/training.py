"""Settings that both trainings have: declared once, with one description for both."""

from typing import Annotated, TypeVar

from pydantic import Field

from igrag.config.choices import AUTO, Auto, MixedPrecision, ReportTo, Schedule
from igrag.config.loader import Section, setting
from igrag.config.paths import ConfigPath

Positive = Annotated[int, Field(gt=0)]
Above0 = Annotated[float, Field(gt=0)]
# AdamW's first step is ten times as much, which float32 must hold.
LearningRate = Annotated[float, Field(gt=0, le=1e30)]
_Settings = TypeVar("_Settings", bound="OptimizationSettings")
FIRST_BATCH_SIZE = 16  # The default, and what `auto` tries first.
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # What every library takes.


class ExampleSettings(Section):
    """The examples that a training reads."""

    train_file: ConfigPath | None = setting(
        None,
        "Training examples (JSONL); null: those that --build_data wrote, else demo/data.",
        "训练样本（JSONL）；null：--build_data 生成的数据，没有则用 demo/data。",
    )
    val_file: ConfigPath | None = setting(
        None,
        "Validation examples (JSONL); they select the best checkpoint; null: as train_file.",
        "验证样本（JSONL），用于选出最佳检查点；null：同 train_file。",
    )
    skip_bad_lines: bool = setting(
        False, "Skip malformed lines and report how many.", "跳过格式错误的行，并报告数量。"
    )


class LengthSettings(Section):
    """How long prompts and target captions may be."""

    max_source_length: Positive = setting(
        512,
        "Longest prompt in tokens; longer ones are cut, with a warning.",
        "提示的最大 token 数；超出部分截断并给出警告。",
    )
    max_target_length: Positive = setting(
        40, "Longest target caption in tokens.", "目标描述的最大 token 数。"
    )


class OptimizationSettings(Section):
    """The optimizer steps; names as in `transformers.TrainingArguments`."""

    num_train_epochs: Positive = setting(
        3, "Passes through the training examples.", "训练样本的遍历次数。"
    )
    per_device_train_batch_size: Positive | Auto = setting(
        FIRST_BATCH_SIZE,
        "Examples in a forward pass (micro-batch); auto: 16, or fewer and more passes if memory "
        "runs out.",
        "每次前向计算的样本数（micro-batch）；auto：16，内存不足时减少样本数并增加前向次数。",
    )
    gradient_accumulation_steps: Positive = setting(
        1, "Forward passes in an optimizer step.", "每个优化步的前向次数（梯度累积）。"
    )
    weight_decay: Annotated[float, Field(ge=0)] = setting(
        0.0, "Decoupled weight decay of AdamW.", "AdamW 的解耦权重衰减。"
    )
    max_grad_norm: Above0 | None = setting(
        1.0, "Gradient clipping norm; null: no clipping.", "梯度裁剪范数；null：不裁剪。"
    )
    lr_scheduler_type: Schedule = setting(
        "linear",
        "Learning rate schedule after the warmup.",
        "预热之后的学习率调度。",
    )
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = setting(
        0.0, "Share of the steps with rising learning rate.", "预热步数占比。"
    )
    mixed_precision: MixedPrecision = setting(
        "auto",
        "auto is bf16 where the device is faster with it, else fp32.",
        "auto：设备以 bf16 计算更快时用 bf16，否则 fp32。",
    )

    @property
    def micro_batch_size(self) -> int:
        """Examples in a forward pass; of `auto`, those that are tried first."""
        size = self.per_device_train_batch_size
        return FIRST_BATCH_SIZE if size == AUTO else int(size)

    def with_batch_size(self: _Settings, size: int, micro_batches: int) -> _Settings:
        """Returns these settings with numbers instead of `auto`."""
        changed = {
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": micro_batches,
        }
        return self.model_copy(update=changed)


class ValidationSettings(Section):
    """Validation and the checkpoints that are kept."""

    eval_steps: Positive | None = setting(
        None,
        "Optimizer steps between validations; null: after every epoch.",
        "两次验证之间的优化步数；null：每个 epoch 之后。",
    )
    save_total_limit: Positive | None = setting(
        None,
        "Checkpoints to keep in addition to the best one; null: all.",
        "除最佳检查点外保留的数量；null：全部。",
    )
    early_stopping_patience: Positive | None = setting(
        None,
        "Validations without a new best checkpoint until training stops; null: never.",
        "连续多少次验证没有更好的检查点则停止；null：不提前停止。",
    )
    per_device_eval_batch_size: Positive = setting(
        32, "Captions generated at once.", "同时生成的描述数。"
    )
    max_new_tokens: Positive = setting(
        40, "Longest generated caption in tokens.", "生成描述的最大 token 数。"
    )
    num_beams: Positive = setting(1, "Beams; 1 is greedy.", "束宽；1 为贪心解码。")


class ReportSettings(Section):
    """Where the course of a training is reported to."""

    report_to: ReportTo = setting(
        "none",
        "tensorboard writes event files to output_dir/runs; the others are services and programs "
        "with settings of their own. Each needs its package.",
        "tensorboard 将事件文件写入 output_dir/runs；其余为各有自身设置的服务或程序；"
        "均需安装对应的包。",
    )
    report_images: ConfigPath | None = setting(
        None,
        "Folder with the validation examples' images, found by their ids: some are reported with "
        "their captions, where the tracker takes images; null: captions alone (LoRA: the images "
        "that the data were built from).",
        "验证样本的图像所在文件夹（按 id 查找）：跟踪工具支持图像时，部分图像会与其描述一起上报；"
        "null：只上报描述（LoRA：构建数据所用的图像）。",
    )
