"""What an error of loading a model means."""

import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from igrag.hub import is_fetch_failure, reason_of


def answered(kind: type[Exception]) -> Exception:
    """Return an error of the hub's, without the answer that it usually carries."""
    return kind.__new__(kind)


def wrapped(cause: Exception) -> OSError:
    """Return what transformers makes of an error."""
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
def test_only_what_the_hub_does_not_give_is_a_fetch_failure(
    cause: Exception, expected: bool
) -> None:
    """Offline and unknown are told from reasons that another id or a network would not mend."""
    assert is_fetch_failure(cause) is expected
    assert is_fetch_failure(wrapped(cause)) is expected


def test_a_reason_is_one_short_line() -> None:
    """Lines are joined and cut; an error without a text has its name."""
    assert reason_of(OSError("a\n  b")) == "a b"
    assert len(reason_of(OSError("a" * 999))) == 200
    assert reason_of(KeyError()) == "KeyError"
