"""The model hub: whether it can be reached, and what an error of loading a model means."""

import os
import sys
from functools import cache
from pathlib import Path
from socket import create_connection
from threading import Thread
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from igrag.files import is_folder

_HUB = "https://huggingface.co"
_PORTS = {"http": 80, "https": 443}
_PATIENCE = 3.0  # Seconds; a hub that takes longer to answer is as good as none.
# Whoever sets one of them has decided, and is not asked again.
_CHOICES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def prepare_for(model_path: str) -> None:
    """Makes the libraries use their local cache alone where the hub cannot be reached.

    They would otherwise try each of a model's files again and again: minutes, for a model that is
    in the cache. A folder needs no hub, and is left at that.

    Args:
        model_path: Folder or hub id of the model that is about to be loaded.
    """
    if is_folder(Path(model_path)) or any(os.environ.get(name) for name in _CHOICES):
        return
    if not _can_reach(os.environ.get("HF_ENDPOINT") or _HUB):
        os.environ["HF_HUB_OFFLINE"] = "1"
        constants = sys.modules.get("huggingface_hub.constants")
        if constants is not None:  # It has read the environment already.
            vars(constants)["HF_HUB_OFFLINE"] = True


def is_fetch_failure(error: BaseException) -> bool:
    """Tells whether neither the hub nor its local cache gives the model: offline, or no such id.

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
    # transformers raises an OSError for nearly everything, from the error that tells more.
    while cause is not None:
        if isinstance(cause, failures):
            return True
        if isinstance(cause, RepositoryNotFoundError):
            return not isinstance(cause, GatedRepoError)
        cause = cause.__cause__
    return False


@cache
def _can_reach(url: str) -> bool:
    """Tells whether something listens there, or at the proxy on the way, within `_PATIENCE`."""
    answers: list[bool] = []
    # In a thread: looking a name up knows no time limit of its own.
    thread = Thread(target=lambda: answers.append(_connects(url)), daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return answers == [True]


def _first_stop(url: SplitResult) -> SplitResult:
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(url.netloc):
        return url
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _connects(url: str) -> bool:
    try:
        target = _first_stop(urlsplit(url))
        port = target.port or _PORTS.get(target.scheme, _PORTS["https"])
        create_connection((target.hostname or "", port), timeout=_PATIENCE).close()
    except (OSError, ValueError):  # ValueError: what is no address
        return False
    return True


def reason_of(error: BaseException) -> str:
    """Puts an error's text on one line of bearable length."""
    return " ".join(str(error).split())[:200] or type(error).__name__
