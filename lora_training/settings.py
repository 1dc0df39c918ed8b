"""What lora_training/config/lora_config.yaml may contain."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from igrag.config import REPO_ROOT, ConfigPath, Section, load_config
from igrag.config.loader import setting
from igrag.config.paths import BUILT_DATA, default_examples
from igrag.config.training import (
    ExampleSettings,
    LearningRate,
    LengthSettings,
    OptimizationSettings,
    Positive,
    ReportSettings,
    Seed,
    ValidationSettings,
)

DEFAULT_SETTINGS = REPO_ROOT / "lora_training" / "config" / "lora_config.yaml"


class ModelSettings(Section):
    """The frozen model that the adapter is for."""

    name: str | None = setting(
        None,
        "As main.py --model; null: the default entry of --main_config.",
        "同 main.py --model；null：--main_config 的默认模型。",
    )


class DataSettings(ExampleSettings):
    """Which captioned images become training data, and which data are trained on."""

    captions_path: ConfigPath = setting(
        ...,
        "COCO captions file that training data are built from.",
        "用于构建训练数据的 COCO 描述文件。",
    )
    images_path: ConfigPath = setting(..., "Folder of its images.", "其图像所在文件夹。")
    val_captions_path: ConfigPath | None = setting(
        None,
        "COCO captions file of the validation images; null: train_ratio splits captions_path.",
        "验证图像的 COCO 描述文件；null：按 train_ratio 划分 captions_path。",
    )
    val_images_path: ConfigPath | None = setting(
        None, "Folder of the validation images.", "验证图像所在文件夹。"
    )
    keep_rejected: bool = setting(
        False,
        "Keep captions marked as rejected or as stock sentences (VizWiz).",
        "保留标记为被拒绝或套话的描述（VizWiz）。",
    )
    sample_count: Positive | None = setting(
        None,
        "Number of images sampled from captions_path; null: all.",
        "从 captions_path 中抽取的图像数；null：全部。",
    )
    train_ratio: Annotated[float, Field(gt=0, lt=1)] = setting(
        0.9,
        "Share of training images, where val_captions_path is null.",
        "训练图像占比，仅在 val_captions_path 为 null 时使用。",
    )
    seed: Seed = setting(
        42,
        "Seed of the sample, the split and the target captions.",
        "抽样、划分与目标描述的随机种子。",
    )
    retrieved: Positive | None = setting(
        None,
        "Similar images whose captions each line also lists, for data.sample_retrieved of prompt "
        "tuning; null: none.",
        "每行另外列出多少张相似图像的描述，用于软提示训练的 data.sample_retrieved；null：不列出。",
    )
    output_data: ConfigPath = setting(
        ...,
        "Output folder of --build_data: train.jsonl, val.jsonl and data.json.",
        "--build_data 的输出文件夹：train.jsonl、val.jsonl 和 data.json。",
    )

    def files(self, *, built: bool) -> tuple[Path, Path]:
        """Returns the files of training and validation examples.

        Args:
            built: Take what --build_data wrote, whatever train_file and val_file are.
        """
        train, val = (None, None) if built else (self.train_file, self.val_file)
        return train or self._default_file("train", built), val or self._default_file("val", built)

    def _default_file(self, split: str, built: bool) -> Path:
        # Only the default folder is replaced by the demo data: another one was chosen on purpose.
        if built or self.output_data != BUILT_DATA:
            return self.output_data / f"{split}.jsonl"
        return default_examples(split, BUILT_DATA)


class AdapterSettings(Section):
    """The adapter, under the names of `peft.LoraConfig`."""

    r: Positive = setting(16, "Rank of the adapter's matrices.", "适配器矩阵的秩。")
    lora_alpha: Positive = setting(
        32,
        "Scaling: the adapter's output is multiplied by lora_alpha / r.",
        "缩放：适配器输出乘以 lora_alpha / r。",
    )
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = setting(
        0.1,
        "Dropout probability of the adapter's inputs during training.",
        "训练时适配器输入的 dropout 概率。",
    )
    target_modules: Annotated[list[str], Field(min_length=1)] = setting(
        ["q", "v"],
        "Layers that get an adapter; T5's attention has q, k, v and o.",
        "添加适配器的层；T5 的注意力层有 q、k、v、o。",
    )


class TrainingSettings(OptimizationSettings, LengthSettings, ValidationSettings, ReportSettings):
    """The training, under the names of `transformers.Seq2SeqTrainingArguments`."""

    learning_rate: LearningRate = setting(1e-3, "Peak learning rate.", "学习率峰值。")
    model_dropout: bool = setting(
        False,
        "Enable dropout in the frozen model, too; the adapter's own is lora.lora_dropout.",
        "训练时同时启用冻结模型的 dropout；适配器自身的 dropout 见 lora.lora_dropout。",
    )
    seed: Seed = setting(
        42,
        "Seed of the adapter's initialization, the order of examples and dropout.",
        "适配器初始化、样本顺序与 dropout 的随机种子。",
    )
    output_dir: ConfigPath = setting(
        ...,
        "Output folder: checkpoint-N, best (the adapter), all_results.json, training_curves.png.",
        "输出文件夹：checkpoint-N、best（最佳适配器）、all_results.json、training_curves.png。",
    )


class LoraSettings(Section):
    """The whole file."""

    model: ModelSettings = setting(
        {}, "The frozen model that the adapter is for.", "适配器所属的冻结模型。"
    )
    data: DataSettings = setting(..., "The training data.", "训练数据。")
    lora: AdapterSettings = setting({}, "The adapter.", "适配器。")
    training: TrainingSettings = setting(..., "The training.", "训练。")

    @classmethod
    def load(
        cls, path: Path, overrides: list[str], *, options: Mapping[str, str] | None = None
    ) -> "LoraSettings":
        """Reads and checks `path`; see `load_config`."""
        return load_config(cls, path, overrides, options=options)
