"""What prompt_tuning/config/*.yaml may contain: every key of the prompt training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from igrag.config import (
    DEFAULT_CONFIG,
    REPO_ROOT,
    CheckpointPath,
    ConfigPath,
    Section,
    load_config,
)
from igrag.config.choices import (
    AUTO,
    MOST_SOFT_TOKENS,
    Auto,
    Initialization,
    Optimizer,
    Reparameterization,
)
from igrag.config.loader import setting
from igrag.config.paths import BUILT_DATA, default_examples, default_root
from igrag.config.training import (
    Above0,
    ExampleSettings,
    LearningRate,
    LengthSettings,
    OptimizationSettings,
    Positive,
    ReportSettings,
    Seed,
    ValidationSettings,
)

DEFAULT_SETTINGS = REPO_ROOT / "prompt_tuning" / "config" / "prompt_tuning.yaml"
_DEFAULT_PROMPT = Path("prompt_tuning", "checkpoints", "best_model", "prompt_embeddings.pt")
NotNegative = Annotated[int, Field(ge=0)]


class ModelSettings(Section):
    """The frozen model that the prompt is for."""

    main_config: ConfigPath = setting(
        DEFAULT_CONFIG,
        "The captioning configuration: its models and its prompt template.",
        "推理所用的配置：模型与提示模板。",
    )
    name: str | None = setting(
        None,
        "As main.py --model; null: the default entry of main_config.",
        "同 main.py --model；null：main_config 的默认模型。",
    )
    lora_weights_path: CheckpointPath | None = setting(
        None,
        "Folder or hub id of a LoRA adapter that the prompt is trained on top of; null: none.",
        "软提示在其之上训练的 LoRA 适配器（PEFT 格式）的文件夹或 Hub id；null：无。",
    )


def _as_list(value: Any) -> Any:
    """Takes one path as a list of one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


class DataSettings(ExampleSettings, LengthSettings):
    """The examples."""

    image_vectors: Annotated[list[ConfigPath], BeforeValidator(_as_list)] = setting(
        [],
        "For image_tokens: knowledge bases and folders of images, for vectors that are not next to "
        "the examples.",
        "供 image_tokens 使用：样本文件旁没有向量时，从这些知识库与图像文件夹获取。",
    )

    dataloader_num_workers: NotNegative = setting(0, "Data-loading processes.", "数据加载进程数。")
    sample_retrieved: Positive | None = setting(
        None,
        "Draw the similar images of a training prompt, in every epoch, from so many nearest; "
        "null: off.",
        "每个 epoch 从最近的若干张相似图像中随机抽取提示所展示的图像；null：关闭。",
    )


class PromptSettings(Section):
    """The soft prompt."""

    enabled: bool = setting(
        True, "false: --train stops with a message.", "false：--train 给出提示并退出。"
    )
    prompt_length: Positive = setting(
        20,
        "Number of soft tokens.",
        "虚拟 token（soft token）的数量。",
        le=MOST_SOFT_TOKENS,
    )
    initialization: Initialization = setting(
        "random",
        "Initial prompt: noise, a text, frequent tokens, or another prompt (transfer).",
        "初始软提示：随机噪声、文本、高频 token，或另一个软提示（迁移）。",
    )
    weights_path: ConfigPath | None = setting(
        None,
        "File of the best prompt; null: best_model/prompt_embeddings.pt in output_dir.",
        "最佳软提示的文件；null：output_dir 下的 best_model/prompt_embeddings.pt。",
    )
    init_scale: Above0 | None = setting(
        None,
        "random: standard deviation; null: that of the model's embeddings; classic: 0.02.",
        "random：标准差；null：模型嵌入矩阵的标准差；经典取值 0.02。",
    )
    init_text: str | None = setting(
        None,
        "text: the text; null: the instruction of the prompt template.",
        "text：所用文本；null：提示模板中的指令。",
    )
    init_file: CheckpointPath | None = setting(
        None,
        "file: its prompt_embeddings.pt, or its hub id.",
        "file：其 prompt_embeddings.pt，或其 Hub id。",
    )
    reparameterization: Reparameterization = setting(
        "none",
        "While training: a small MLP with skip connection, or a mix of sampled embeddings.",
        "仅训练时使用：带残差的小型 MLP，或采样嵌入的加权和。",
    )
    bottleneck: Positive = setting(64, "residual: width of the MLP.", "residual：MLP 的宽度。")
    sampled_embeddings: Positive = setting(
        128, "superpos: number of embeddings that are mixed.", "superpos：参与混合的嵌入数量。"
    )
    image_tokens: NotNegative = setting(
        0,
        "Further soft tokens, made from each image's vector; 0: none.",
        "另加的虚拟 token 数，由每张图像的向量生成；0：无。",
        le=MOST_SOFT_TOKENS,
    )
    image_hidden: NotNegative = setting(
        64,
        "image_tokens: width of the MLP that makes them; 0: one linear map.",
        "image_tokens：生成它们的 MLP 的宽度；0：单个线性映射。",
        le=MOST_SOFT_TOKENS,
    )
    image_learning_rate: LearningRate = setting(
        0.003,
        "image_tokens: peak learning rate of that MLP.",
        "image_tokens：该 MLP 的学习率峰值。",
    )

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


class TrainingSettings(OptimizationSettings):
    """The training loop."""

    gradient_accumulation_steps: Positive = setting(
        8, "Forward passes in an optimizer step.", "每个优化步的前向次数（梯度累积）。"
    )
    max_steps: Positive | None = setting(
        None,
        "Optimizer steps after which training ends; null: those of all epochs.",
        "训练在多少个优化步后结束；null：所有 epoch 的步数。",
    )
    learning_rate: LearningRate = setting(0.03, "Peak learning rate.", "学习率峰值。")
    optimizer: Optimizer = setting("adamw", "Optimizer of the prompt.", "软提示的优化器。")
    model_dropout: bool = setting(
        False, "Enable dropout in the frozen model.", "训练时启用冻结模型的 dropout。"
    )
    compile: bool | Auto = setting(
        AUTO,
        "Compile the encoder (torch.compile): true, false or auto, which does it in long trainings "
        "on a GPU or on a CPU with fast bfloat16.",
        "编译编码器（torch.compile）：true、false 或 auto；auto 仅用于 GPU 或 bf16 较快的 CPU 上的"
        "长时间训练。",
    )
    shard_model: bool = setting(
        False,
        "Shard the frozen model over the processes (torch's FSDP2), where one GPU cannot hold it.",
        "将冻结模型切分到各进程（torch 的 FSDP2），用于单块 GPU 放不下模型的情况。",
    )
    seed: Seed = setting(
        42,
        "Seed of the initial prompt and of the order of examples.",
        "初始软提示与样本顺序的随机种子。",
    )

    def total_steps(self, steps_per_epoch: int) -> int:
        """Returns the optimizer steps of the whole training."""
        steps = steps_per_epoch * self.num_train_epochs
        return steps if self.max_steps is None else min(steps, self.max_steps)


class OutputSettings(ReportSettings):
    """Where results go."""

    output_dir: ConfigPath | None = setting(
        None,
        "Folder of checkpoints and all_results.json; null: that of weights_path.",
        "检查点与 all_results.json 的文件夹；null：由 weights_path 决定。",
    )


class PromptTrainingSettings(Section):
    """The whole file."""

    renamed = {"prompt": "prompt_tuning"}  # noqa: RUF012 (pydantic: a ClassVar of Section)

    model: ModelSettings = setting(
        {}, "The frozen model that the prompt is for.", "软提示所属的冻结模型。"
    )
    data: DataSettings = setting({}, "The examples.", "训练与验证样本。")
    prompt_tuning: PromptSettings = setting({}, "The soft prompt.", "软提示。")
    training: TrainingSettings = setting({}, "The training loop.", "训练循环。")
    evaluation: ValidationSettings = setting(
        {}, "Validation and the checkpoints that are kept.", "验证与保留的检查点。"
    )
    output: OutputSettings = setting({}, "Where results go.", "结果的存放位置。")

    @property
    def train_file(self) -> Path:
        """The training examples, also where null chooses them."""
        return self.data.train_file or default_examples("train", BUILT_DATA)

    @property
    def val_file(self) -> Path:
        """The validation examples, also where null chooses them."""
        return self.data.val_file or default_examples("val", BUILT_DATA)

    @property
    def output_dir(self) -> Path:
        """The folder of checkpoints, also where it follows from weights_path."""
        if self.output.output_dir is not None:
            return self.output.output_dir
        folder = (self.prompt_tuning.weights_path or default_root() / _DEFAULT_PROMPT).parent
        return folder.parent if folder.name == _DEFAULT_PROMPT.parent.name else folder

    @property
    def best_prompt(self) -> Path:
        """The file of the best prompt, also where it follows from output_dir."""
        path = self.prompt_tuning.weights_path
        # A file based on the shipped one that only names another output_dir keeps its prompt there.
        if path is None or path == default_root() / _DEFAULT_PROMPT:
            return self.output_dir / Path(*_DEFAULT_PROMPT.parts[-2:])
        return path

    @classmethod
    def load(
        cls, path: Path = DEFAULT_SETTINGS, overrides: Sequence[str] = ()
    ) -> "PromptTrainingSettings":
        """Reads and checks `path`; see `load_config`."""
        return load_config(cls, path, overrides)
