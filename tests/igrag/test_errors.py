"""The exit codes that scripts around the program rely on."""

import pytest

from igrag import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError, 2),
        (errors.UsageError, 2),
        (errors.DataError, 1),
        (errors.ImageError, 1),
        (errors.KnowledgeBaseError, 1),
        (errors.ModelError, 1),
        (errors.CheckpointError, 1),
    ],
)
def test_exit_code(error: type[errors.IgragError], code: int) -> None:
    """What is wrong with the request exits with 2, what is wrong with the data with 1."""
    assert issubclass(error, errors.IgragError)
    assert error.exit_code == code


def test_data_errors_are_caught_together() -> None:
    """One except clause for DataError also covers images and knowledge bases."""
    assert issubclass(errors.ImageError, errors.DataError)
    assert issubclass(errors.KnowledgeBaseError, errors.DataError)
