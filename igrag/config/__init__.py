"""YAML configuration: read strictly, checked as a whole, before anything heavy is imported."""

from igrag.config.loader import Section, load_config, setting
from igrag.config.named_models import find_model
from igrag.config.paths import (
    REPO_ROOT,
    CheckpointPath,
    ConfigPath,
    ModelReference,
    portable,
    resolve_path,
)
from igrag.config.schema import (
    DEFAULT_CONFIG,
    Config,
    ModelEntry,
    ObjectsConfig,
    PromptConfig,
    PromptTuningConfig,
)
from igrag.config.yaml_file import load_yaml, quote

__all__ = [
    "DEFAULT_CONFIG",
    "REPO_ROOT",
    "CheckpointPath",
    "Config",
    "ConfigPath",
    "ModelEntry",
    "ModelReference",
    "ObjectsConfig",
    "PromptConfig",
    "PromptTuningConfig",
    "Section",
    "find_model",
    "load_config",
    "load_yaml",
    "portable",
    "quote",
    "resolve_path",
    "setting",
]
