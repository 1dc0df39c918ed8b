"""Loads models, prompts and adapters: from a path, the hub's local cache or the hub, in this order.

Code that comes with a model is never run. Prompts and adapters are also uploaded from here.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from igrag.errors import CheckpointError, IgragError, OutputError, UsageError
from igrag.files import exists, is_folder, may_be_hub_id
from igrag.inputs import check_regular, library_files
from igrag.inputs import reason_of as reason_of  # for those who load by this module

CARD_NAME = "README.md"  # The hub shows it as the model card.
_TIMEOUT = 10.0  # Seconds that the hub may take to answer whether it has a model.
_SHOWN_FILES = 5  # of a repository that lacks what is looked for
_LOG_IN = "log in with hf auth login or set HF_TOKEN"


def from_pretrained(factory: Any, path: str, **options: Any) -> Any:
    """Calls `factory.from_pretrained`, see `load_cached_first`."""
    if hasattr(factory, "_model_mapping"):  # AutoModelFor...
        # It looks for a LoRA adapter among the model's files, whatever local_files_only is.
        options = {"adapter_kwargs": {"local_files_only": True}, **options}
    return load_cached_first(factory.from_pretrained, path, **options)


def load_cached_first(load: Callable[..., Any], path: str, **options: Any) -> Any:
    """Calls a loader of transformers, without the network where the model is in the local cache.

    A model in the cache is used as it is: the hub is not asked for a newer one.

    Args:
        load: Takes a folder or hub id and the library's options.
        path: Folder or hub id.
        options: More of the library's options.

    Raises:
        Exception: Whatever the library raises; see `is_fetch_failure` and `reason_of`.
    """
    # Left open, the library asks on stdin whether to run a model's own code.
    options = {**options, "trust_remote_code": False}
    if is_folder(Path(path)):
        for file in library_files(Path(path)):
            check_regular(file)  # The library would wait for a pipe's other end.
        return load(path, **options)
    try:
        return load(path, local_files_only=True, **options)
    except Exception as error:  # Which files a model needs, only the library knows.
        try:
            _check_on_hub(path)
        except ConnectionError:
            if is_fetch_failure(error):
                raise
            raise error from error.__cause__  # In the cache, and damaged or incomplete there.
    return load(path, **options)


def fetch(path: Path, required: Sequence[str], *, optional: Sequence[str] = ()) -> Path:
    """Returns where the files of a prompt or an adapter are: a path, or the hub's local cache.

    What is in the cache is used as it is: the hub is not asked for newer files. Only the named
    files are downloaded, and nothing of them is run or unpickled here.

    Args:
        path: A file or folder, or the hub id "owner/name" or "owner/name@revision".
        required: Names of the files that the repository must have.
        optional: Names of those that are downloaded, too, if it has them.

    Returns:
        `path` where it exists or is no hub id; otherwise the folder that holds the files.

    Raises:
        CheckpointError: The hub has no such repository, revision or files, does not give them, or
            cannot be reached, and they are not in the cache.
    """
    if exists(path) or not may_be_hub_id(path):
        return path
    repo_id, _, revision = path.as_posix().partition("@")
    try:
        cached, is_complete = _find_cached(repo_id, revision or None, required, optional)
        if cached is not None and is_complete:
            return cached
        return _download(repo_id, revision or None, required, optional, cached=cached)
    except IgragError:
        raise
    except Exception as error:  # A full disk, too; the errors of the hub's client.
        raise CheckpointError(f"{path}: {_why_not_fetched(error, revision)}") from error


def _find_cached(
    repo_id: str, revision: str | None, required: Sequence[str], optional: Sequence[str]
) -> tuple[Path | None, bool]:
    """Returns the folder in the cache with the required files, and whether more is to be had."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(repo_id, name, revision=revision) for name in required]
    if not all(isinstance(file, str) for file in found):
        return None, False
    # Of a file that the hub does not have, the cache knows just that.
    known = [try_to_load_from_cache(repo_id, name, revision=revision) for name in optional]
    return Path(str(found[0])).parent, None not in known


def _download(
    repo_id: str,
    revision: str | None,
    required: Sequence[str],
    optional: Sequence[str],
    *,
    cached: Path | None,
) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        info = _check_on_hub(repo_id, revision=revision)
    except ConnectionError:
        if cached is not None:
            return cached
        raise
    available = [file.rfilename for file in info.siblings or ()]
    if missing := [name for name in required if name not in available]:
        found = ", ".join(available[:_SHOWN_FILES]) or "nothing"
        raise CheckpointError(
            f"{repo_id}: found {found} on the hub, expected {' and '.join(missing)}; name the "
            "repository of what is loaded here"
        )
    file = ""
    for name in required:
        file = hf_hub_download(repo_id, name, revision=revision)
    for name in optional:
        with suppress(EntryNotFoundError):
            hf_hub_download(repo_id, name, revision=revision)
    return Path(file).parent


def _why_not_fetched(error: Exception, revision: str) -> str:
    """Returns what the hub's client could not do, what was expected, and the fix."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    local = "no such file or folder"
    if isinstance(error, GatedRepoError):
        return f"is gated on the hub; ask for access on its page there, then {_LOG_IN}"
    if isinstance(error, RevisionNotFoundError):
        return f"the hub has no revision {revision} of it; name a branch, a tag or a commit"
    if isinstance(error, RepositoryNotFoundError):
        return f"{local}, and the hub has no such repository, or a private one; correct the " + (
            f"name, or {_LOG_IN}"
        )
    if isinstance(error, ConnectionError | LocalEntryNotFoundError):
        return (
            f"{local}, not in the hub's local cache, and the hub cannot be reached "
            f"({reason_of(error)}); load it once with a network, or name a local path"
        )
    return f"{local}, and it cannot be fetched from the hub ({reason_of(error)})"


def upload(
    files: Mapping[str, Path | bytes],
    repo_id: str,
    *,
    private: bool,
    message: str,
    replace_card: bool = False,
) -> tuple[str, bool]:
    """Commits files to a model repository on the hub, which is created where it is missing.

    Args:
        files: Their names there -> path or content.
        repo_id: "owner/name".
        private: Whether only its owner may see it.
        message: Of the commit.
        replace_card: Replace a model card that is already there: its owner may have edited it.

    Returns:
        The repository's address, and whether the model card was uploaded.

    Raises:
        UsageError: `repo_id` is none, or the repository is public and `private` was asked for.
        OutputError: The hub refuses it, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    if not may_be_hub_id(repo_id) or "@" in repo_id:
        raise UsageError(f"{repo_id}: found no hub id, expected owner/name")
    api = HfApi()
    try:
        url = api.create_repo(repo_id, private=private or None, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise UsageError(
                f"{repo_id}: exists and is public, expected a private one (--private); name "
                "another, or change its visibility on the hub"
            )
        files = dict(files)
        if not replace_card and api.file_exists(repo_id, CARD_NAME):
            files.pop(CARD_NAME, None)
        operations = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
            for name, content in files.items()
        ]
        api.create_commit(repo_id, operations, commit_message=message)
    except IgragError:
        raise
    except Exception as error:
        raise OutputError(f"{repo_id}: cannot be pushed: {_why_not_pushed(error)}") from error
    return str(url), CARD_NAME in files


def _why_not_pushed(error: Exception) -> str:
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, LocalTokenNotFoundError) or status == 401:
        return f"the hub does not know who you are; {_LOG_IN}"
    if status == 403:
        return f"your token may not write there ({reason_of(error)}); use another token or owner"
    if status is None and not isinstance(error, ValueError):
        return f"the hub cannot be reached ({reason_of(error)})"
    return reason_of(error)


def _check_on_hub(path: str, *, revision: str | None = None) -> Any:
    """Asks the hub once for a model; the library would try for minutes where there is no network.

    Returns:
        The hub's ModelInfo.

    Raises:
        ConnectionError: The hub cannot be reached.
        HfHubHTTPError: It has no such model, or does not give it.
        HFValidationError: The name cannot be one of a model.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return HfApi().model_info(path, revision=revision, timeout=_TIMEOUT)
    except (HfHubHTTPError, HFValidationError):
        raise
    except Exception as error:  # The errors of whichever HTTP library the hub's client uses.
        raise ConnectionError(f"the hub cannot be reached ({reason_of(error)})") from error


def is_fetch_failure(error: BaseException) -> bool:
    """Returns whether neither the hub nor its local cache has the model: offline, or no such id.

    Anything else (a full disk, a gated model, a missing library) has a reason of its own.
    """
    from huggingface_hub.errors import (  # imported where used: it takes a while to load
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    failures = (ConnectionError, HFValidationError, LocalEntryNotFoundError)
    cause: BaseException | None = error
    # transformers raises an OSError for nearly everything, from the error with the reason.
    while cause is not None:
        if isinstance(cause, failures):
            return True
        if isinstance(cause, RepositoryNotFoundError):
            return not isinstance(cause, GatedRepoError)
        cause = cause.__cause__
    return False
