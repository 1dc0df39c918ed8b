"""What `import igrag` offers, and how little it loads."""

import subprocess
import sys

import pytest

import igrag
from igrag.config import REPO_ROOT


@pytest.mark.parametrize("name", igrag.__all__)
def test_public_names_are_there(name: str) -> None:
    """Each public name is imported from the module that it is defined in when it is used."""
    assert getattr(igrag, name) is not None
    if name != "__version__":
        assert getattr(igrag, name).__name__ == name


def test_unknown_names_are_attribute_errors() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="module 'igrag' has no attribute 'Captoner'"):
        _ = igrag.Captoner


def test_import_loads_nothing_heavy() -> None:
    """The package alone imports no library."""
    code = "import igrag, sys; print({'torch', 'pydantic', 'numpy', 'yaml'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
