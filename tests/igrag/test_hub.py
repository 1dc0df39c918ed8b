"""Loading from a folder, the local cache or the hub, and what an error of loading means."""

import ast
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from igrag.captioning.language_model import load_language_model, load_tokenizer
from igrag.captioning.objects import ModelDetector
from igrag.config import REPO_ROOT
from igrag.errors import ModelError
from igrag.hub import is_fetch_failure, load_cached_first, reason_of


def answered(kind: type[Exception]) -> Exception:
    """Returns an error of the hub's, without the answer that it usually carries."""
    return kind.__new__(kind)


def wrapped(cause: Exception) -> OSError:
    """Returns what transformers makes of an error."""
    error = OSError("cannot load")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (LocalEntryNotFoundError("not in the cache"), True),
        (OfflineModeIsEnabled("offline"), True),
        (answered(RepositoryNotFoundError), True),
        (answered(GatedRepoError), False),
        (OSError(28, "No space left on device"), False),
        (ValueError("no such attention"), False),
    ],
)
def test_fetch_failure_is_offline_or_unknown_model(cause: Exception, expected: bool) -> None:
    """Other reasons are none that another id or a network would fix."""
    assert is_fetch_failure(cause) is expected
    assert is_fetch_failure(wrapped(cause)) is expected


def test_reason_is_one_short_line() -> None:
    """Lines are joined and cut; an error without a text has its name."""
    assert reason_of(OSError("a\n  b")) == "a b"
    assert len(reason_of(OSError("a" * 999))) == 200
    assert reason_of(KeyError()) == "KeyError"


class Cache:
    """A loader of a library whose local cache and hub are pretended."""

    def __init__(self, *, in_cache: Exception | None, on_hub: Exception | None = None) -> None:
        self._errors = {True: in_cache, False: on_hub}
        self.calls: list[dict[str, Any]] = []

    def load(self, path: str, **options: Any) -> str:
        """Loads from the cache with `local_files_only`, else from the hub."""
        self.calls.append(options)
        error = self._errors[bool(options.get("local_files_only"))]
        if error is not None:
            raise error
        return "loaded"


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the hub answers: nothing, or the error under "error"; the ids asked for under "ids"."""
    hub: dict[str, Any] = {"error": None, "ids": []}

    def model_info(self: HfApi, path: str, *, revision: str | None, timeout: float) -> None:
        hub["ids"].append(path)
        if hub["error"] is not None:
            raise hub["error"]

    monkeypatch.setattr(HfApi, "model_info", model_info)
    yield hub


NOT_CACHED = wrapped(LocalEntryNotFoundError("not in the cache"))


def test_cached_model_is_loaded_without_the_hub(lookups: dict[str, Any]) -> None:
    """The hub is not asked for a model that is in the local cache."""
    cache = Cache(in_cache=None)
    assert load_cached_first(cache.load, "some/model", dtype="x") == "loaded"
    assert cache.calls == [{"local_files_only": True, "trust_remote_code": False, "dtype": "x"}]
    assert lookups["ids"] == []


def test_folder_is_loaded_without_cache_and_hub(lookups: dict[str, Any], tmp_path: Path) -> None:
    """A folder is read once; what is wrong with it is raised as it is."""
    cache = Cache(in_cache=None, on_hub=ValueError("damaged"))
    with pytest.raises(ValueError, match="damaged"):
        load_cached_first(cache.load, str(tmp_path))
    assert cache.calls == [{"trust_remote_code": False}] and lookups["ids"] == []


def test_model_is_fetched_from_the_hub_when_not_cached(lookups: dict[str, Any]) -> None:
    """A cache miss, or a part that is not cached, leads to the hub."""
    for error in (NOT_CACHED, OSError("no file named model.safetensors")):
        cache = Cache(in_cache=error)
        assert load_cached_first(cache.load, "some/model") == "loaded"
        assert cache.calls[-1] == {"trust_remote_code": False}
    assert lookups["ids"] == ["some/model"] * 2


def test_unreachable_hub_is_asked_once(lookups: dict[str, Any]) -> None:
    """The library would try again and again; an unknown id and a gated model differ."""
    for answer, is_failure in (
        (OSError("name not known"), True),
        (OfflineModeIsEnabled("offline"), True),
        (answered(RepositoryNotFoundError), True),
        (answered(GatedRepoError), False),
    ):
        lookups["error"] = answer
        cache = Cache(in_cache=NOT_CACHED)
        with pytest.raises((OSError, RepositoryNotFoundError)) as caught:
            load_cached_first(cache.load, "some/model")
        assert is_fetch_failure(caught.value) is is_failure
        assert len(cache.calls) == 1
    assert len(lookups["ids"]) == 4


def test_damaged_cache_is_the_reason_while_offline(lookups: dict[str, Any]) -> None:
    """What is wrong with a cached model is not hidden behind the missing network."""
    lookups["error"] = OSError("name not known")
    cache = Cache(in_cache=wrapped(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="cannot load") as caught:
        load_cached_first(cache.load, "some/model")
    assert not is_fetch_failure(caught.value)


# Their `from_pretrained` is not transformers' own: it cannot run code of a model.
_OTHER_LOADERS = {"PeftModel", "PromptTuner", "cls"}


def calls_without_refusal(file: Path) -> list[int]:
    """Lists the lines of a file that load with transformers and may run a model's own code."""
    lines = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        refuses = any(
            keyword.arg == "trust_remote_code" and ast.unparse(keyword.value) == "False"
            for keyword in node.keywords
        )
        if node.func.attr == "from_pretrained" and owner not in _OTHER_LOADERS and not refuses:
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "package", ["igrag", "prompt_tuning", "lora_training", "evaluation", "demo", "benchmarks"]
)
def test_every_loading_refuses_the_models_own_code(package: str) -> None:
    """Models are loaded by igrag.hub, or `trust_remote_code=False` stands in the call."""
    found = {str(file): calls_without_refusal(file) for file in (REPO_ROOT / package).rglob("*.py")}
    assert {file: lines for file, lines in found.items() if lines} == {}


def test_check_of_loading_finds_open_calls(tmp_path: Path) -> None:
    """The check above is not void: it sees a call that leaves the question to the library."""
    file = tmp_path / "a.py"
    file.write_text("AutoModel.from_pretrained(x)\nA.from_pretrained(x, trust_remote_code=False)\n")
    assert calls_without_refusal(file) == [1]


def test_code_of_a_model_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A folder with code of its own is an error, and its code does not run, whatever is typed."""
    folder = tmp_path / "model"
    folder.mkdir()
    classes = '"AutoConfig": "own.Config", "AutoModelForSeq2SeqLM": "own.Model"'
    (folder / "config.json").write_text(f'{{"model_type": "own", "auto_map": {{{classes}}}}}')
    (folder / "own.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\n"
        "from transformers import PretrainedConfig as Config, PreTrainedModel as Model\n"
    )
    typed = io.StringIO("y\n" * 9)
    monkeypatch.setattr(sys, "stdin", typed)
    for load in (load_language_model, load_tokenizer):
        with pytest.raises(ModelError, match=f"{folder}: not a complete language model folder"):
            load(str(folder))
    with pytest.raises(ModelError, match="cannot be loaded as an object-detection model"):
        ModelDetector(str(folder), device="cpu", threshold=0.5)
    assert typed.tell() == 0 and "[y/N]" not in "".join(capfd.readouterr())
    assert not (tmp_path / "ran").exists()
