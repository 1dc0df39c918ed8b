"""What an error of loading a model means: not to be had from the hub, or something else."""


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


def reason_of(error: BaseException) -> str:
    """Puts an error's text on one line of bearable length."""
    return " ".join(str(error).split())[:200] or type(error).__name__
