"""The output folder of --build_data: train.jsonl, val.jsonl, their vectors, and data.json."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from igrag import from_config
from igrag.config import Config, ObjectsConfig
from igrag.errors import DataError, UsageError
from igrag.files import read_json, remove_leftovers, sha256_file, write_json
from igrag.output_lock import held_since
from igrag.retrieval.vector_files import vector_files
from lora_training.settings import DataSettings

DATA_NAMES = ("train.jsonl", "val.jsonl")
RECORD_NAME = "data.json"
FORMAT_VERSION = 1
UNFINISHED_NAME = ".unfinished"  # a build's folder until its data are complete
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
    def unfinished(self) -> Iterator[Path]:
        """Yields a folder inside this one to build in; it is removed once the data are complete.

        It has what an interrupted build of the same settings left, else it is empty.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        remove_leftovers(
            self.path, is_own={*DATA_NAMES, RECORD_NAME}.__contains__, before=held_since(self.path)
        )
        folder = self.path / UNFINISHED_NAME
        record = folder / RECORD_NAME
        if not record.is_file() or read_json(record) != self._settings:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            write_json(record, self._settings)
        try:
            yield folder
        except DataError:  # To be built again from its start, once it is fixed.
            shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)

    def replace_with(self, new: Path, splits: Mapping[str, Mapping[str, int]]) -> None:
        """Moves the finished files of `new` into the folder, and writes data.json last.

        Wherever this is interrupted, the folder never holds the train data of one build with the
        val data of another: the old train data are removed first and the new ones come last, and
        nothing trains without any.

        Args:
            new: What `unfinished` yielded, with both files and their vectors.
            splits: Split name -> counts, for the record.
        """
        first, *others = DATA_NAMES
        write_json(self.path / RECORD_NAME, {"settings": self._settings, _UNFINISHED: True})
        (self.path / first).unlink(missing_ok=True)
        for name in (*others, first):
            for path in (*vector_files(new / name), new / name):
                path.replace(self.path / path.name)
        write_json(self.path / RECORD_NAME, {"settings": self._settings, "splits": dict(splits)})


def describe_build(
    data: DataSettings, config: Config, *, template: str, tokenizer: str
) -> dict[str, Any]:
    """Returns everything that the data depend on, without any path of this machine.

    Args:
        data: Which images become examples.
        config: The configuration of captioning.
        template: Fingerprint of the prompt template.
        tokenizer: Fingerprint of the tokenizer, which counts a prompt's tokens.
    """
    captions = [data.captions_path, data.val_captions_path]
    knowledge_base = config.knowledge_base_config.path / "knowledge_base.json"
    description = {
        "format_version": FORMAT_VERSION,
        "captions_sha256": [_hash(path) for path in captions if path is not None],
        "knowledge_base_sha256": _hash(knowledge_base),
        "template_sha256": template,
        "top_k": config.retrieval_config.top_k,
        "max_source_length": config.models.max_source_length,
        "tokenizer": tokenizer,
        "sample_count": data.sample_count,
        "train_ratio": data.train_ratio if data.val_captions_path is None else None,
        "seed": data.seed,
    }
    # Without objects the key is left out: data of earlier versions stay "already built".
    objects = _describe_objects(config.prompt_config.objects)
    kept: dict[str, Any] = {"keep_rejected": True} if data.keep_rejected else {}
    if data.retrieved is not None:
        kept["retrieved"] = data.retrieved
    if config.knowledge_base_config.index != "exact":
        kept["index"] = config.knowledge_base_config.index
    return description | kept | ({"objects": objects} if objects else {})


def _describe_objects(objects: ObjectsConfig) -> dict[str, Any] | None:
    """Returns where objects come from; unlike for captioning, with the instances file's hash."""
    description = from_config.describe_objects(objects)
    if description is not None and objects.source == "instances" and objects.instances_path:
        description["instances_sha256"] = _hash(objects.instances_path)
    return description


def _hash(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
