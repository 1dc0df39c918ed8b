"""What the tests of the demo share."""

import pytest

from demo.drawing.sprites import FontMissingError, find_font


def _font_problem() -> str:
    try:
        find_font()
    except FontMissingError as error:
        return str(error)
    return ""


_PROBLEM = _font_problem()


@pytest.fixture
def emoji_font() -> None:
    """Skips a test that draws where the font is not installed."""
    if _PROBLEM:
        pytest.skip(_PROBLEM)
