"""What ships fits together: configuration files and their models, lists of requirements."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic.fields import FieldInfo

from igrag.commands.document import MODELS as MODEL_NAMES
from igrag.commands.document import load_model
from igrag.config import REPO_ROOT, Config, Section, load_config

MODELS = {folder: load_model(name) for folder, name in MODEL_NAMES.items()}
FILES = [
    (file.relative_to(REPO_ROOT), model)
    for folder, model in MODELS.items()
    for file in sorted((REPO_ROOT / folder).glob("*.yaml"))
]


def sections(model: type[Section]) -> Iterator[type[Section]]:
    """Yields a model and those of the sections inside it."""
    yield model
    for field in model.model_fields.values():
        for option in (field.annotation, *get_args(field.annotation)):
            if isinstance(option, type) and issubclass(option, Section):
                yield from sections(option)


def is_documented(field: FieldInfo) -> bool:
    """Returns whether a field has a description in English and in Chinese."""
    extra = field.json_schema_extra
    return bool(field.description and isinstance(extra, dict) and extra.get("zh"))


def unset(section: Section, name: str = "") -> Iterator[str]:
    """Yields the keys of a loaded configuration that its file leaves to their defaults."""
    for key, field in type(section).model_fields.items():
        path = f"{name}{field.alias or key}"
        if key not in section.model_fields_set:
            yield path
        value = getattr(section, key)
        if isinstance(value, Section):
            yield from unset(value, f"{path}.")


@pytest.mark.parametrize(("file", "model"), FILES)
def test_shipped_configuration_is_valid(file: Path, model: type[Section]) -> None:
    """Every YAML file that ships fits its model."""
    load_config(model, REPO_ROOT / file)


@pytest.mark.parametrize(("file", "model"), FILES)
def test_shipped_configuration_is_complete(file: Path, model: type[Section]) -> None:
    """Every key stands in the file, so that a reader finds it there."""
    assert list(unset(load_config(model, REPO_ROOT / file))) == []


def test_every_configuration_is_checked() -> None:
    """A new folder of configuration files must be entered above."""
    assert len(FILES) >= 3
    found = {file.parent for file in REPO_ROOT.glob("*/config/*.y*ml")}
    found |= {file.parent for file in REPO_ROOT.glob("configs/*.y*ml")}
    found |= {file.parent for file in REPO_ROOT.glob("*/sweep/*.y*ml")}
    assert found == {REPO_ROOT / folder for folder in MODELS}


@pytest.mark.parametrize("model", MODELS.values())
def test_every_key_is_documented(model: type[Section]) -> None:
    """Each key has a description in both languages, from which comments and tables are made."""
    undocumented = [
        f"{section.__name__}.{name}"
        for section in sections(model)
        for name, field in section.model_fields.items()
        if not is_documented(field)
    ]
    assert undocumented == []


def test_real_models_are_named() -> None:
    """The second configuration is the one for Flan-T5, CLIP ViT-B/32 and COCO."""
    config = Config.load(REPO_ROOT / "configs" / "coco_flan_t5.yaml")
    assert config.models.models["flan-t5"].path == "google/flan-t5-base"
    assert config.retrieval_config.encoder == "openai/clip-vit-base-patch32"


def test_development_lists_agree() -> None:
    """requirements-dev.txt and the extra "dev" ask for the same."""
    metadata = (REPO_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dev = \[(.*?)\]", metadata, flags=re.MULTILINE | re.DOTALL)
    assert listed is not None
    lines = (REPO_ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    wanted = {line for line in lines if line and not line.startswith(("#", "-r"))}
    assert set(re.findall(r'"([^"]+)"', listed[1])) == wanted
