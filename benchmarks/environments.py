"""Captions an image with clones in unusual places and under unusual conditions.

python benchmarks/environments.py

Each must print the caption that this clone prints: in a folder with spaces and Chinese characters,
behind a link, with LC_ALL=C, without HOME, without space for temporary files, in a clone that
cannot be written to, and as a user without rights (as root, where the user `nobody` may run this
Python). Exit code 1 if one differs.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_CAPTION = ("main.py", "--i", "input/802.jpg", "--model", "flan-t5")
_NOBODY = 65534
_NOT_RUN = "not run"


def run(
    folder: Path, environment: Mapping[str, str | None] | None = None, *, user: int | None = None
) -> str:
    """Captions the image in a clone.

    Args:
        folder: The clone.
        environment: Variables to change; None removes one.
        user: The user to run it as; None for this one.

    Returns:
        The last line on stdout, or the last line of the error.
    """
    changed = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    for name, value in (environment or {}).items():
        if value is None:
            changed.pop(name, None)
        else:
            changed[name] = value
    command = [sys.executable, *_CAPTION]
    rights: dict[str, Any] = {}
    if user is not None:
        rights = {"user": user, "group": user, "extra_groups": []}
    try:
        done = subprocess.run(
            command, cwd=folder, env=changed, capture_output=True, encoding="utf-8", **rights
        )
    except PermissionError as error:
        return f"{_NOT_RUN} ({error})"
    text: str = done.stderr if done.returncode else done.stdout
    return text.strip().rpartition("\n")[2].strip()


def clone(folder: Path) -> Path:
    """Clones this repository."""
    subprocess.run(["git", "clone", "--quiet", _ROOT, folder], check=True)
    return folder


def read_only(folder: Path) -> Path:
    """Returns a clone that nobody may write to."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)
    return folder


def main() -> int:
    """Prints a line for each environment, and returns the exit code."""
    expected = run(_ROOT)
    print(f"{'this clone':<40} {expected}")
    base = Path(tempfile.mkdtemp())
    base.chmod(0o755)
    odd = clone(base / "路径 with spaces" / "仓库 clone")
    link = base / "link"
    link.symlink_to(odd)
    closed = read_only(clone(base / "closed"))
    cases: dict[str, Callable[[], str]] = {
        "spaces and Chinese characters": lambda: run(odd),
        "behind a link": lambda: run(link),
        "LC_ALL=C": lambda: run(odd, {"LC_ALL": "C"}),
        "HOME unset": lambda: run(odd, {"HOME": None}),
        "no folder for temporary files": lambda: run(odd, {"TMPDIR": str(base / "missing")}),
        "read-only clone": lambda: run(closed, {"HOME": str(base / "missing")}),
    }
    if os.geteuid() == 0:
        cases["user without rights or home"] = lambda: run(
            closed, {"HOME": "/nonexistent"}, user=_NOBODY
        )
    wrong = 0
    try:
        for name, caption in cases.items():
            found = caption()
            wrong += found != expected and not found.startswith(_NOT_RUN)
            print(f"{name:<40} {found}", flush=True)
    finally:
        for path in (closed, *closed.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(base)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
