"""Which model an adapter was trained on: base_model.json beside PEFT's files, which PEFT ignores.

An adapter of the same shapes loads on any model, and is only right on its own.
"""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from igrag.adapter_files import BASE_NAME
from igrag.errors import CheckpointError, DataError
from igrag.files import read_json, write_json

_SHOWN = 12  # characters of a hash in a message
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model below an adapter.

    Attributes:
        name: Folder or hub id; to be shown, never compared, because a folder may be moved.
        weights: `igrag.fingerprints.weights_hash` of it, None where it has none.
    """

    name: str
    weights: str | None

    def write(self, folder: Path) -> None:
        """Writes it beside an adapter."""
        write_json(folder / BASE_NAME, asdict(self))

    def check(self, folder: Path) -> None:
        """Makes sure that an adapter was trained on this model, where it says on which.

        Raises:
            CheckpointError: It was trained on another one, or the file is damaged.
        """
        path = folder / BASE_NAME
        if not path.is_file():  # An adapter from elsewhere.
            return
        trained_on = _read(path)
        if self.weights is None or trained_on.weights is None:
            logger.warning(
                "%s: cannot be compared with the weights of %s, for in float16 they have no hash",
                path, self.name,
            )  # fmt: skip
        elif self.weights != trained_on.weights:
            raise CheckpointError(
                f"{folder}: was trained on {trained_on.name} (weights "
                f"{trained_on.weights[:_SHOWN]}...), found {self.name} (weights "
                f"{self.weights[:_SHOWN]}...); use that model, or train an adapter for this one"
            )


def _read(path: Path) -> BaseModel:
    try:
        content = read_json(path)
    except DataError as error:
        raise CheckpointError(str(error)) from None
    name, weights = (
        (content.get("name"), content.get("weights")) if isinstance(content, dict) else (None, None)
    )
    if not isinstance(name, str) or not isinstance(weights, str | None):
        raise CheckpointError(f'{path}: expected {{"name", "weights"}} as texts; train it again')
    return BaseModel(name, weights)
