"""The versions that a result rests on."""

import platform
from importlib import metadata

_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers")


def library_versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that training rests on.

    They are read from what the installer wrote: nothing is imported.
    """
    return {"python": platform.python_version()} | {name: _version(name) for name in _LIBRARIES}


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:  # built from its sources, say
        return "unknown"
