"""The output folder of --build_data: train.jsonl, val.jsonl, and data.json, their record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from igrag.errors import UsageError
from igrag.files import read_json, write_json

DATA_NAMES = ("train.jsonl", "val.jsonl")
RECORD_NAME = "data.json"
_UNFINISHED = "unfinished"


class DatasetFolder:
    """Built training data with a record of the settings that they were built with.

    Args:
        path: The folder, which need not exist yet.
        settings: Everything that the data depend on, as plain JSON data.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._settings = dict(settings)

    def is_built(self) -> bool:
        """Returns whether the folder holds complete data of these settings.

        False, and not an error, if a build of these settings was interrupted.

        Raises:
            UsageError: It holds other data.
        """
        present = [name for name in (*DATA_NAMES, RECORD_NAME) if (self.path / name).exists()]
        if not present:
            return False
        found = f"holds {', '.join(present)} of other settings"
        if RECORD_NAME not in present:
            found = f"holds {', '.join(present)} without {RECORD_NAME}: not known to be built here"
        else:
            record = read_json(self.path / RECORD_NAME)
            if isinstance(record, dict) and record.get("settings") == self._settings:
                if record.get(_UNFINISHED):
                    return False
                if set(DATA_NAMES) <= set(present):
                    return True
                found = f"holds {', '.join(present)} alone, expected {' and '.join(DATA_NAMES)} too"
        raise UsageError(
            f"{self.path}: {found}; use --overwrite_output_dir to replace them, or another "
            "--output_data"
        )

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """Yields an empty folder inside this one to build in; it is removed at the end."""
        self.path.mkdir(parents=True, exist_ok=True)
        prefix = f".{DATA_NAMES[0]}."
        with TemporaryDirectory(dir=self.path, prefix=prefix, suffix=".tmp") as new:
            yield Path(new)

    def replace_with(self, new: Path, splits: Mapping[str, Mapping[str, int]]) -> None:
        """Moves the finished files of `new` into the folder, and writes data.json last.

        Wherever this is interrupted, the folder never holds the train data of one build with the
        val data of another: the old train data are removed first and the new ones come last, and
        nothing trains without any.

        Args:
            new: What `temporary` yielded, with both files.
            splits: Split name -> counts, for the record.
        """
        first, *others = DATA_NAMES
        write_json(self.path / RECORD_NAME, {"settings": self._settings, _UNFINISHED: True})
        (self.path / first).unlink(missing_ok=True)
        for name in (*others, first):
            (new / name).replace(self.path / name)
        write_json(self.path / RECORD_NAME, {"settings": self._settings, "splits": dict(splits)})
