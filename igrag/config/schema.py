"""What configs/*.yaml may contain: every key of the captioning pipeline."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from igrag.config.choices import (
    AttentionImplementation,
    DType,
    Engine,
    IndexType,
    Initialization,
    LogLevel,
    ObjectSource,
)
from igrag.config.loader import Section, load_config, setting
from igrag.config.paths import CheckpointPath, ConfigPath, ModelReference, default_root
from igrag.config.placeholders import (
    check_caption_line,
    check_object_line,
    check_template,
    shows_objects,
)

DEFAULT_CONFIG = default_root() / "configs" / "config.yaml"
Positive = Annotated[int, Field(gt=0)]


def _check_device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise ValueError("auto, cpu, cuda, cuda:N or mps")
    return value


def _check_not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("text that is not empty")
    return value


Text = Annotated[str, AfterValidator(_check_not_blank)]
Device = Annotated[str, AfterValidator(_check_device)]


class ModelEntry(Section):
    """One named language model."""

    path: ModelReference = setting(
        ..., "Folder or hub id of a seq2seq model.", "seq2seq 模型的文件夹或 Hub id。"
    )
    notice: str | None = setting(
        None, "A line printed on stderr when it is used.", "使用该模型时在 stderr 输出的一行提示。"
    )


class ModelConfig(Section):
    """Which language model generates the captions, and how it is loaded."""

    models: dict[str, ModelEntry] = setting(
        ...,
        "Names for --model, which also takes a folder or a hub id.",
        "--model 可用的名称；--model 也接受文件夹或 Hub id。",
    )
    default: str = setting(
        "flan-t5", "Entry used without --model.", "不带 --model 时使用的模型条目。"
    )
    device: Device = setting(
        "auto", "auto, cpu, cuda, cuda:N or mps.", "auto、cpu、cuda、cuda:N 或 mps。"
    )
    dtype: DType = setting(
        "auto",
        "Precision; auto: bfloat16 where the device is faster with it, else float32.",
        "精度；auto：设备以 bfloat16 计算更快时使用 bfloat16，否则使用 float32。",
    )
    attn_implementation: AttentionImplementation = setting(
        "eager",
        "Attention implementation.",
        "注意力实现。",
    )
    engine: Engine = setting(
        "torch",
        "What runs the model; ctranslate2: one that igrag export has made.",
        "运行模型的引擎；ctranslate2：由 igrag export 导出的模型。",
    )
    max_source_length: Positive = setting(
        512,
        "Longest prompt in tokens; longer ones lose the farthest captions first.",
        "提示的最大 token 数；超出时先去掉最不相似的描述。",
    )

    @field_validator("default")
    @classmethod
    def _check_default(cls, default: str, info: ValidationInfo) -> str:
        """Checks the key and not the section: the error then names the line that sets the key."""
        models = info.data.get("models")  # None if they are wrong by themselves
        if models is not None and default not in models:
            raise ValueError(f"one of models ({', '.join(models) or 'none'})")
        return default


class RetrievalConfig(Section):
    """How similar images are found."""

    encoder: ModelReference = setting(
        ..., "Folder or hub id of a CLIP model.", "CLIP 模型的文件夹或 Hub id。"
    )
    top_k: Positive = setting(
        5,
        "Similar images whose captions fill the prompt.",
        "检索多少张相似图像，用其描述填充提示。",
    )
    batch_size: Positive = setting(32, "Images encoded at once.", "每批编码的图像数。")
    encoder_dtype: DType = setting(
        "float32",
        "Precision; other ones change the last digits of the vectors.",
        "精度；换用其他精度时，向量的末几位会不同。",
    )


class KnowledgeBaseConfig(Section):
    """Where the captioned images are."""

    path: ConfigPath = setting(
        ...,
        "Folder made by igrag build-knowledge-base.",
        "由 igrag build-knowledge-base 生成的文件夹。",
    )
    index: IndexType = setting(
        "exact",
        "What searches it; faiss and milvus: made by igrag index, for millions of images.",
        "检索方式；faiss 与 milvus 由 igrag index 建立，用于数百万张图像。",
    )
    milvus_uri: str | None = setting(
        None,
        "Address of a Milvus server, its token in MILVUS_TOKEN; null: a file in the folder.",
        "Milvus 服务地址，令牌取自环境变量 MILVUS_TOKEN；null：该文件夹中的一个文件。",
    )


class GenerationConfig(Section):
    """How captions are decoded: beam search, or sampling; keys as in transformers.

    Every key but batch_size and seed is passed on to the generator's `Decoding`.
    """

    batch_size: Positive = setting(8, "Prompts decoded at once.", "每批解码的提示数。")
    max_new_tokens: Annotated[int, Field(gt=0, le=1024)] = setting(
        40, "Longest caption in tokens, at most 1024.", "描述的最大 token 数，不超过 1024。"
    )
    num_beams: Positive = setting(4, "Beams; 1 is greedy search.", "束宽；1 为贪心搜索。")
    do_sample: bool = setting(
        False,
        "Sample with temperature, top_p and seed.",
        "使用 temperature、top_p 与 seed 进行采样。",
    )
    temperature: Annotated[float, Field(gt=0)] = setting(
        1.0,
        "Only for sampling: below 1 sharpens, above 1 flattens the distribution.",
        "仅用于采样：小于 1 使分布更尖锐，大于 1 使分布更平坦。",
    )
    top_p: Annotated[float, Field(gt=0, le=1)] = setting(
        1.0,
        "Only for sampling: probability mass of the tokens to sample from.",
        "仅用于采样：只在累计概率达到该值的最可能 token 中采样。",
    )
    length_penalty: float = setting(
        1.0,
        "Only for beam search: above 1 favors longer captions.",
        "仅用于束搜索：大于 1 时偏向更长的描述。",
    )
    no_repeat_ngram_size: Annotated[int, Field(ge=0)] = setting(
        0,
        "Length of n-grams that may occur only once; 0: off.",
        "只允许出现一次的 n-gram 的长度；0：关闭。",
    )
    repetition_penalty: Annotated[float, Field(gt=0)] = setting(
        1.0,
        "Above 1 makes tokens that were generated already less likely; 1: off.",
        "大于 1 时降低已生成 token 的概率；1：关闭。",
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = setting(
        42, "Seed of the sampling.", "采样的随机种子。"
    )


class ObjectsConfig(Section):
    """An optional block of objects with their positions."""

    source: ObjectSource = setting(
        "none",
        "Where objects come from; a COCO file or an object-detection model.",
        "物体的来源：COCO instances 文件或目标检测模型。",
    )
    instances_path: ConfigPath | None = setting(
        None,
        "For instances: the COCO file instances_*.json.",
        "用于 instances：COCO 的 instances_*.json 文件。",
    )
    detector: ModelReference | None = setting(
        None,
        "For detector: folder or hub id of a transformers model.",
        "用于 detector：transformers 模型的文件夹或 Hub id。",
    )
    threshold: Annotated[float, Field(ge=0, le=1)] = setting(
        0.5, "Lowest score of a detected object.", "检测到的物体的最低得分。"
    )
    heading: str = setting(
        "Objects in the picture:",
        'Line above the objects, where there are any; "": none.',
        '物体列表上方的一行，仅在有物体时出现；""：不输出。',
    )
    line: Annotated[str, AfterValidator(check_object_line)] = setting(
        "- {label}: {position}", "Line of one object.", "一个物体对应的一行。"
    )

    @model_validator(mode="after")
    def _check_source(self) -> "ObjectsConfig":
        if self.source == "instances" and self.instances_path is None:
            raise ValueError("instances_path to be set, since source is instances")
        if self.source == "detector" and self.detector is None:
            raise ValueError("detector to be set, since source is detector")
        return self


class PromptConfig(Section):
    """The prompt template of training data and captioning; other data are needed if it changes."""

    instruction: Text = setting(..., "What the model is asked to do.", "对模型的指令。")
    template: Annotated[str, AfterValidator(check_template)] = setting(
        ...,
        "With {instruction}, {captions} and, for objects, {objects}.",
        "须含 {instruction}、{captions}；使用物体时还须含 {objects}。",
    )
    caption_line: Annotated[str, AfterValidator(check_caption_line)] = setting(
        "- {caption}",
        "Line of one retrieved caption; perhaps with {rank} (1: nearest) and {similarity}.",
        "一条检索到的描述对应的一行；还可含 {rank}（1 为最近）与 {similarity}。",
    )
    captions_per_match: Positive = setting(
        1, "Captions shown of each similar image.", "每张相似图像展示的描述条数。"
    )
    objects: ObjectsConfig = setting(
        {}, "An optional block of objects with their positions.", "可选的物体及其位置。"
    )

    @field_validator("objects")
    @classmethod
    def _check_placeholder(cls, objects: ObjectsConfig, info: ValidationInfo) -> ObjectsConfig:
        """Of the field and not of the section: other keys' errors do not keep it from running."""
        template = info.data.get("template")  # None if it is wrong by itself
        if objects.source != "none" and template is not None and not shows_objects(template):
            raise ValueError(
                f"{{objects}} in prompt_config.template, as source is {objects.source}"
            )
        return objects


class LoraConfig(Section):
    """A LoRA adapter, with or without a soft prompt."""

    enabled: bool = setting(False, "Load the adapter.", "加载适配器。")
    weights_path: CheckpointPath = setting(
        Path("lora_training/checkpoints/best"),
        "Folder or hub id of the adapter in PEFT's format.",
        "PEFT 格式的适配器文件夹或 Hub id。",
    )
    merge_and_unload: bool = setting(
        True,
        "Merge it into the weights: the same up to rounding, without the adapter's extra products.",
        "将其合并进权重：结果在舍入误差内相同，省去适配器的额外乘法。",
    )


class PromptTuningConfig(Section):
    """A soft prompt, with or without LoRA."""

    enabled: bool = setting(False, "Use the soft prompt.", "使用软提示。")
    prompt_length: Positive = setting(
        20,
        "Soft tokens of weights_path; a warning reports where the file differs.",
        "weights_path 中虚拟 token（soft token）的数量；与文件不一致时给出警告。",
    )
    initialization: Initialization = setting(
        "random",
        "How the prompt of weights_path was initialized.",
        "weights_path 中软提示的初始化方式。",
    )
    weights_path: CheckpointPath = setting(
        Path("prompt_tuning/checkpoints/best_model/prompt_embeddings.pt"),
        "File or hub id of the trained prompt.",
        "训练好的软提示文件或 Hub id。",
    )
    weights_path_with_lora: CheckpointPath | None = setting(
        Path("prompt_tuning/checkpoints/with_lora/best_model/prompt_embeddings.pt"),
        "The one trained on the LoRA adapter, for both at once; null: weights_path.",
        "在 LoRA 适配器上训练的软提示，用于二者同时启用时；null：使用 weights_path。",
    )

    prompts: dict[str, CheckpointPath] = setting(
        {},
        "Files or hub ids of more prompts by name, for main.py --prompt and --requests.",
        "按名称列出的更多软提示文件或 Hub id，用于 main.py --prompt 与 --requests。",
    )

    @field_validator("prompts")
    @classmethod
    def _check_names(cls, prompts: dict[str, Path]) -> dict[str, Path]:
        if unusable := {"", "default"} & prompts.keys():
            raise ValueError(f"other names than {min(unusable)!r}; default is weights_path")
        return prompts

    def file_for(self, *, lora: bool) -> Path:
        """Returns the prompt's file with or without LoRA."""
        if lora and self.weights_path_with_lora is not None:
            return self.weights_path_with_lora
        return self.weights_path


class LogConfig(Section):
    """The log on stderr."""

    level: LogLevel = setting(
        "warning",
        "Lowest level shown; --verbose shows info.",
        "输出的最低级别；--verbose 会输出 info。",
    )
    file: ConfigPath | None = setting(
        None, "A file that the log is also appended to.", "同时将日志追加写入的文件。"
    )


class Config(Section):
    """The configuration of captioning."""

    # pydantic reserves `model_config`, hence the attribute `models`.
    models: ModelConfig = setting(..., "The language models.", "语言模型。", alias="model_config")
    retrieval_config: RetrievalConfig = setting(
        ..., "How similar images are found.", "如何检索相似图像。"
    )
    knowledge_base_config: KnowledgeBaseConfig = setting(
        ..., "The captioned images.", "带描述的图像（知识库）。"
    )
    generation_config: GenerationConfig = setting(
        {}, "How captions are decoded.", "如何解码生成描述。"
    )
    prompt_config: PromptConfig = setting(
        ...,
        "The prompt template; training data are built with the same one.",
        "提示模板，推理与训练数据共用，二者须一致。",
    )
    lora_config: LoraConfig = setting(
        {}, "A LoRA adapter, with or without a soft prompt.", "LoRA 适配器，可与软提示同时使用。"
    )
    prompt_tuning: PromptTuningConfig = setting(
        {}, "A soft prompt, with or without LoRA.", "软提示，可与 LoRA 同时使用。"
    )
    log_config: LogConfig = setting({}, "The log on stderr.", "stderr 上的日志。")

    @classmethod
    def load(cls, path: Path = DEFAULT_CONFIG, overrides: Sequence[str] = ()) -> "Config":
        """Reads and checks `path`; see `load_config`."""
        return load_config(cls, path, overrides)
