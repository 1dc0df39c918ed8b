"""What training runs show: curves, checkpoints, and the settings in which runs differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from igrag.app import markup
from igrag.app.folders import Folders
from igrag.app.texts import Texts
from igrag.errors import IgragError
from igrag.training.checkpoints import RECORD_NAME, RESULTS_NAME, checkpoint_folders
from igrag.training.curves import draw_curves
from igrag.training.html_page import data_uri
from igrag.training.record import TrainingRecord, flat_settings

MOST_RUNS = 4  # compared at once
_NO_VALUE = "–"


@dataclass(frozen=True, slots=True)
class ShownRun:
    """A training run; `curves` is the data URI of a chart."""

    name: str
    record: TrainingRecord
    curves: str


class TrainingRuns:
    """The training runs that the page offers.

    Args:
        roots: Where they are looked for, by the name that is shown.
    """

    def __init__(self, roots: Mapping[str, Path]) -> None:
        self._folders = Folders(roots, lambda folder: _record_file(folder) is not None)
        self._drawn: dict[str, tuple[int, ShownRun]] = {}

    def names(self) -> list[str]:
        """Returns the names of the runs that there are now."""
        return list(self._folders.find())

    def state(self, names: Sequence[str]) -> list[tuple[str, int]]:
        """Returns when the records of runs were last written; equal where nothing is new."""
        found = self._folders.find()
        return [(name, _written(found[name])) for name in names[:MOST_RUNS] if name in found]

    def show(self, names: Sequence[str], texts: Texts) -> str:
        """Returns runs as HTML."""
        found = self._folders.find()
        known = [name for name in names[:MOST_RUNS] if name in found]
        if not known:
            return markup.status(texts["no_runs"])
        runs, errors = [], []
        for name in known:
            try:
                runs.append(self._open(name, found[name]))
            except IgragError as error:
                errors.append(str(error))
        configs = {run.name: flat_settings(run.record.config) for run in runs}
        return markup.fill(
            "runs", texts, runs=runs, errors=errors, differences=differences(configs)
        )

    def _open(self, name: str, folder: Path) -> ShownRun:
        written = _written(folder)
        if name not in self._drawn or self._drawn[name][0] != written:
            file = _record_file(folder)
            assert file is not None  # The folder was found by it.
            record = TrainingRecord.read(file)
            self._drawn[name] = (written, ShownRun(name, record, _curves(record)))
        return self._drawn[name][1]


def differences(configs: Mapping[str, Mapping[str, object]]) -> list[list[str]]:
    """Returns the settings in which configurations differ: the key, and the value of each."""
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    rows = [
        [key, *(str(config.get(key, _NO_VALUE)) for config in configs.values())] for key in keys
    ]
    return [row for row in rows if len(set(row[1:])) > 1]


def _record_file(folder: Path) -> Path | None:
    """Returns a run's record: of all of it, or of its newest checkpoint."""
    results = folder / RESULTS_NAME
    if results.is_file():
        return results
    records = [checkpoint / RECORD_NAME for checkpoint in checkpoint_folders(folder)]
    return next((file for file in reversed(records) if file.is_file()), None)


def _written(folder: Path) -> int:
    file = _record_file(folder)
    return 0 if file is None else file.stat().st_mtime_ns


def _curves(record: TrainingRecord) -> str:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "curves.png"
        draw_curves(record, path)
        return data_uri(path.read_bytes(), "png")
