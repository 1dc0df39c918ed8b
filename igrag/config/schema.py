"""What configs/*.yaml may say: every key of the caption pipeline."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from igrag.config.loader import Section, load_config
from igrag.config.paths import ConfigPath, ModelReference, default_root
from igrag.config.placeholders import (
    check_caption_line,
    check_object_line,
    check_template,
    shows_objects,
)
from igrag.errors import ConfigError

DEFAULT_CONFIG = default_root() / "configs" / "config.yaml"
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]


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
DType = Literal["auto", "float32", "bfloat16", "float16"]


class ModelEntry(Section):
    """One named language model."""

    path: ModelReference = Field(description="Folder or hub id of a seq2seq model.")
    notice: str | None = Field(
        default=None, description="One line to show on stderr when it is used."
    )


class ModelConfig(Section):
    """Which language model writes the caption, and how it is loaded."""

    models: dict[str, ModelEntry] = Field(description="The models that --model knows by name.")
    default: str = Field(
        default="flan-t5",
        validate_default=True,
        description="Entry used when --model is not given.",
    )
    device: Device = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps.")
    dtype: DType = Field(
        default="auto", description="auto: bfloat16 where the GPU has it, else float32."
    )
    attn_implementation: Literal["eager", "sdpa"] = Field(
        default="eager", description="eager was the faster one for T5 on CPUs."
    )
    max_source_length: Positive = Field(default=512, description="Longest prompt in tokens.")

    @field_validator("default")
    @classmethod
    def _check_default(cls, default: str, info: ValidationInfo) -> str:
        """Of the key and not of the section: the error is told of where the key was set."""
        models = info.data.get("models")  # None if they are wrong by themselves
        if models is not None and default not in models:
            raise ValueError(f"one of models ({', '.join(models) or 'none'})")
        return default


class RetrievalConfig(Section):
    """How similar images are found."""

    encoder: ModelReference = Field(description="Folder or hub id of a CLIP model.")
    top_k: Positive = Field(default=5, description="Similar images whose captions fill the prompt.")
    batch_size: Positive = Field(default=32, description="Images encoded at once.")
    encoder_dtype: DType = Field(default="float32", description="Dtype of the image encoder.")


class KnowledgeBaseConfig(Section):
    """Where the captioned images are."""

    path: ConfigPath = Field(description="Folder made by scripts/build_knowledge_base.py.")


class GenerationConfig(Section):
    """How the caption is decoded: beam search, or sampling if asked for."""

    batch_size: Positive = Field(default=8, description="Prompts decoded at once.")
    max_new_tokens: Annotated[int, Field(gt=0, le=1024)] = Field(
        default=40, description="Longest caption in tokens."
    )
    num_beams: Positive = Field(default=4, description="Beams; 1 is greedy.")
    do_sample: bool = Field(default=False, description="Sample instead of taking the likeliest.")
    temperature: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="Only when sampling."
    )
    top_p: Share = Field(default=1.0, description="Only when sampling: nucleus size.")
    length_penalty: float = Field(default=1.0, description="Above 1 favors longer captions.")
    no_repeat_ngram_size: Annotated[int, Field(ge=0)] = Field(
        default=0, description="0 switches it off."
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=42, description="Seed of the sampling."
    )


class ObjectsConfig(Section):
    """The optional block of objects with their positions."""

    source: Literal["none", "instances", "detector"] = Field(
        default="none", description="none, a COCO instances file, or an object-detection model."
    )
    instances_path: ConfigPath | None = Field(default=None, description="COCO instances_*.json.")
    detector: ModelReference | None = Field(
        default=None, description="Folder or hub id of a detector."
    )
    threshold: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.5, description="Least score of a detected object."
    )
    heading: str = Field(
        default="Objects in the picture:",
        description="The line above the objects, only where there are any; empty: none.",
    )
    line: Annotated[str, AfterValidator(check_object_line)] = Field(
        default="- {label}: {position}", description="One object's line."
    )

    @model_validator(mode="after")
    def _check_source(self) -> "ObjectsConfig":
        if self.source == "instances" and self.instances_path is None:
            raise ValueError("instances_path to be set, since source is instances")
        if self.source == "detector" and self.detector is None:
            raise ValueError("detector to be set, since source is detector")
        return self


class PromptConfig(Section):
    """The prompt template, the same for training data and for captioning."""

    template: Annotated[str, AfterValidator(check_template)] = Field(
        description="With {instruction}, {captions} and {objects}."
    )
    instruction: Text = Field(description="What the model is asked to do.")
    caption_line: Annotated[str, AfterValidator(check_caption_line)] = Field(
        default="- {caption}", description="One retrieved caption's line."
    )
    captions_per_match: Positive = Field(default=1, description="Captions taken from each match.")
    objects: ObjectsConfig = Field(
        default_factory=ObjectsConfig, description="The optional block of objects."
    )

    @field_validator("objects")
    @classmethod
    def _check_place(cls, objects: ObjectsConfig, info: ValidationInfo) -> ObjectsConfig:
        """Of the field and not of the section: other keys' errors do not keep it from running."""
        template = info.data.get("template")  # None if it is wrong by itself
        if objects.source != "none" and template is not None and not shows_objects(template):
            raise ValueError(
                f"{{objects}} in prompt_config.template, as source is {objects.source}"
            )
        return objects


class LoraConfig(Section):
    """A trained LoRA adapter for the language model."""

    enabled: bool = Field(default=False, description="Load the adapter.")
    weights_path: ConfigPath = Field(description="Folder in PEFT's format.")
    merge_and_unload: bool = Field(
        default=True, description="Merge it into the weights: same numbers."
    )


class PromptTuningConfig(Section):
    """A trained soft prompt for the language model."""

    enabled: bool = Field(default=False, description="Use the soft prompt.")
    prompt_length: Positive = Field(default=20, description="Soft tokens, P.")
    initialization: Literal["random", "text", "vocab", "file"] = Field(
        default="random", description="How the prompt was begun."
    )
    weights_path: ConfigPath = Field(
        default=Path("prompt_tuning/checkpoints/best_model/prompt_embeddings.pt"),
        description="prompt_embeddings.pt of a trained prompt.",
    )
    weights_path_with_lora: ConfigPath | None = Field(
        default=Path("prompt_tuning/checkpoints/with_lora/best_model/prompt_embeddings.pt"),
        description="One trained on the LoRA adapter, for both at once; null: weights_path.",
    )

    def file_for(self, *, lora: bool) -> Path:
        """Returns the prompt's file with or without LoRA."""
        if lora and self.weights_path_with_lora is not None:
            return self.weights_path_with_lora
        return self.weights_path


class LogConfig(Section):
    """What is told on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="warning", description="--verbose makes it at least info."
    )
    file: ConfigPath | None = Field(default=None, description="Also append the log to this file.")


class Config(Section):
    """The whole file. pydantic reserves `model_config`, hence the attribute `models`."""

    models: ModelConfig = Field(alias="model_config", description="The language models.")
    retrieval_config: RetrievalConfig = Field(description="How similar images are found.")
    knowledge_base_config: KnowledgeBaseConfig = Field(description="Where they are.")
    generation_config: GenerationConfig = Field(
        default_factory=GenerationConfig, description="How the caption is decoded."
    )
    prompt_config: PromptConfig = Field(description="The prompt template.")
    lora_config: LoraConfig = Field(description="A LoRA adapter.")
    prompt_tuning: PromptTuningConfig = Field(description="A soft prompt.")
    log_config: LogConfig = Field(default_factory=LogConfig, description="What is told on stderr.")

    @classmethod
    def load(cls, path: Path = DEFAULT_CONFIG, overrides: Sequence[str] = ()) -> "Config":
        """Reads and checks `path`; see `load_config`."""
        return load_config(cls, path, overrides)


def find_model(models: ModelConfig, name: str | None, *, option: str = "--model") -> ModelEntry:
    """Finds the language model that --model means.

    Args:
        models: The section that names the known ones.
        name: An entry's name, an existing folder (from the cwd), or a hub id "owner/name"; None
            for the default entry.
        option: Where the name was given, for the error.

    Raises:
        ConfigError: It is none of these.
    """
    if name is None:
        return models.models[models.default]
    if name in models.models:
        return models.models[name]
    folder = _existing_folder(name)
    if folder is not None:
        return ModelEntry(path=str(folder))
    if re.fullmatch(r"[\w][\w.-]*/[\w.-]+", name):
        return ModelEntry(path=name)
    close = get_close_matches(name, models.models, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ConfigError(
        f"{option} {name}: {hint}expected one of {', '.join(models.models)}, "
        "an existing folder, or a hub id owner/name"
    )


def _existing_folder(name: str) -> Path | None:
    try:
        folder = Path(name).expanduser()
        return folder.resolve() if name and folder.is_dir() else None
    except (OSError, RuntimeError):  # A name too long; the home of a user who does not exist.
        return None
