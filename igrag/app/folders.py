"""Finds the folders that the page offers: the server looks them up, a request only names one."""

from collections.abc import Callable, Mapping
from pathlib import Path

_DEEPEST = 3  # folders below a root
Holds = Callable[[Path], bool]


class Folders:
    """Folders below some roots.

    Args:
        roots: The roots by the name that they are shown under.
        holds: Returns whether a folder is one to offer.
    """

    def __init__(self, roots: Mapping[str, Path], holds: Holds) -> None:
        self._roots = roots
        self._holds = holds

    def find(self) -> dict[str, Path]:
        """Returns what there is now, by name; folders that cannot be read are left out."""
        found: dict[str, Path] = {}
        for name, root in self._roots.items():
            self._add(found, name, root, 0)
        return found

    def _add(self, found: dict[str, Path], name: str, folder: Path, depth: int) -> None:
        try:
            if not folder.is_dir():
                return
            if self._holds(folder):
                found[name] = folder
            inside = sorted(each for each in folder.iterdir() if not each.is_symlink())
        except OSError:
            return
        if depth < _DEEPEST:
            for each in inside:
                if not each.name.startswith("."):
                    self._add(found, f"{name}/{each.name}", each, depth + 1)
