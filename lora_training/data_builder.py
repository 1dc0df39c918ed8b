"""Builds training data from captioned images: python lora_training/data_builder.py.

Each image becomes a line of train.jsonl or val.jsonl: a prompt made of the captions of similar
images in the knowledge base, and one of its own captions as the target.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

# Python puts this script's folder on the path, not the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from igrag.cli import run, setup_logging
from igrag.config import DEFAULT_CONFIG, Config, find_model, quote
from igrag.errors import ConfigError, DataError, UsageError
from lora_training.settings import DEFAULT_SETTINGS, DataSettings, LoraSettings

if TYPE_CHECKING:
    from igrag.captioning.prompt_template import PromptTemplate
    from igrag.data.coco import CaptionedImage
    from lora_training.examples import ExampleBuilder, ImageObjects, ImageVectors

FORMAT_VERSION = 1
EXIT_LEAKS = 1
_CHUNK = 512  # Images in memory at a time, however many examples are built.
_VAL_KEYS = ("data.val_captions_path", "data.val_images_path")
_NULLS = ("null", "~", "")  # as YAML writes it
logger = logging.getLogger(__name__)


def main(arguments: argparse.Namespace) -> int:
    """Builds or audits data and returns the exit code."""
    check_audit(arguments, without=("overwrite_output_dir", "sample_count", "train_ratio"))
    if arguments.audit:
        return audit(arguments.audit)
    settings, config, model_path = load_settings(arguments)
    build_data(settings.data, config, model_path, overwrite=overwrites_data(arguments))
    return 0


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="data_builder.py", description="Build training data.", allow_abbrev=False
    )
    add_arguments(parser)
    parser.add_argument(
        "--overwrite_output_dir", "--overwrite-output-dir", action="store_true",
        help="replace data that were built with other settings",
    )  # fmt: skip
    return parser.parse_args(words)
