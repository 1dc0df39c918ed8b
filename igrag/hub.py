"""Loads models: from a folder, the local cache of the hub, or the hub, in this order.

Code that comes with a model is never run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from igrag.files import is_folder
from igrag.inputs import check_regular, library_files
from igrag.inputs import reason_of as reason_of  # for those who load by this module

_TIMEOUT = 10.0  # Seconds that the hub may take to answer whether it has a model.


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


def _check_on_hub(path: str) -> None:
    """Asks the hub once for a model; the library would try for minutes where there is no network.

    Raises:
        ConnectionError: The hub cannot be reached.
        HfHubHTTPError: It has no such model, or does not give it.
        HFValidationError: The name cannot be one of a model.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        HfApi().model_info(path, timeout=_TIMEOUT)
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
