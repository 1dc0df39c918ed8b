"""Which language model --model means."""

import re
from difflib import get_close_matches
from pathlib import Path

from igrag.config.schema import ModelConfig, ModelEntry
from igrag.errors import ConfigError


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
