"""What lora_training/config/lora_config.yaml may say."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from igrag.config import REPO_ROOT, ConfigPath, Section

DEFAULT_SETTINGS = REPO_ROOT / "lora_training" / "config" / "lora_config.yaml"


class DataSettings(Section):
    """Which captioned pictures become training data, and where it goes."""

    captions_path: ConfigPath = Field(description="COCO captions file.")
    images_path: ConfigPath = Field(description="Folder of its pictures.")
    val_captions_path: ConfigPath | None = Field(
        None, description="Captions of val pictures; null: a share of the pictures above."
    )
    val_images_path: ConfigPath | None = Field(None, description="Folder of the val pictures.")
    sample_count: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Pictures to take from captions_path; null: all."
    )
    train_ratio: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.9, description="Share of the pictures that train; unused with val_captions_path."
    )
    seed: int = Field(42, description="Decides the sample, the split and the targets.")
    output_data: ConfigPath = Field(description="Folder for train.jsonl and val.jsonl.")


class LoraSettings(Section):
    """The whole file."""

    data: DataSettings

    @classmethod
    def load(cls, path: Path, overrides: list[str]) -> "LoraSettings":
        """Reads and checks `path`; see `load_config`."""
        from igrag.config import load_config

        return load_config(cls, path, overrides)
