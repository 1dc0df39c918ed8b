"""Show what this machine has: versions, devices and the precision chosen, disk, optional parts.

igrag doctor
igrag doctor --json
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from igrag import __version__
from igrag.cli import CommandParser, add_common_options, run_command

PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "pillow", "numpy")
# What is used where it is installed -> its package, and what for.
OPTIONAL = {
    "optuna": "igrag sweep",
    "fastapi": "igrag serve, with the rest of the extra serve",
    "gradio": "igrag app",
    "ctranslate2": "igrag export --format ctranslate2, main.py --engine ctranslate2",
    "faiss_cpu": "igrag index --type faiss",
    "pymilvus": "igrag index --type milvus",
    "argcomplete": "completion in the shell",
    "tensorboard": "--report_to tensorboard",
    "pycocoevalcap": "METEOR and SPICE, with Java",
    "pillow_heif": "HEIC images",
}
_GIB = 2**30
Section = dict[str, str]


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Prints everything and returns the exit code."""
    found = examine()
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return 0
    for title, section in found.items():
        print(title)
        width = max(map(len, section))
        for name, value in section.items():
            print(f"  {name:<{width}}  {value}")
    return 0


def examine() -> dict[str, Section]:
    """Returns what there is, by title and name."""
    return {
        "versions": _versions(),
        "devices": _devices(),
        "precision": _precision(),
        "disk": _disk(),
        "optional": _optional(),
    }


def _versions() -> Section:
    found = {
        "igrag": f"{__version__} in {Path(__file__).resolve().parents[1]}",
        "python": f"{platform.python_version()} in {sys.executable}",
        "system": platform.platform(),
    }
    return found | {name: _version(name) or "missing" for name in PACKAGES}


def _devices() -> Section:
    import torch

    found = {
        "cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}",
        "memory": _memory(),
    }
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"{properties.name}, {properties.total_memory / _GIB:.0f} GiB"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple's GPU"
    return found


def _precision() -> Section:
    """Returns what `dtype: auto` chooses here, with the race of the CPU, and what can compile."""
    from igrag.devices import auto_dtype, race_on_cpu, resolve_device

    device = resolve_device("auto")
    race = race_on_cpu()
    if race is None:
        reason = "no race: the CPU has no instructions for bfloat16"
    else:
        reason = f"float32 {race.float32 * 1e6:.0f} us, bfloat16 {race.bfloat16 * 1e6:.0f} us"
    return {
        "device: auto": str(device),
        "dtype: auto": auto_dtype(device.type),
        "race on the CPU": reason,
        "training.compile": "possible" if shutil.which("g++") else "needs a C++ compiler (g++)",
    }


def _disk() -> Section:
    from huggingface_hub.constants import HF_HUB_CACHE

    return {
        "working folder": _free(Path.cwd()),
        "downloaded models": _free(Path(HF_HUB_CACHE)),
    }


def _optional() -> Section:
    found = {}
    for module, purpose in OPTIONAL.items():
        name = module.replace("_", "-")
        version = _version(name)
        found[name] = f"{version or f'missing: pip install {name}'} ({purpose})"
    found["java"] = f"{shutil.which('java') or 'missing'} (METEOR and SPICE)"
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _memory() -> str:
    try:
        size, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
        free = os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # Windows, and others without these names
        return "unknown"
    return f"{size * pages / _GIB:.1f} GiB, {size * free / _GIB:.1f} GiB free"


def _free(folder: Path) -> str:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    missing = "" if existing == folder else ", not there yet"
    return f"{folder}, {shutil.disk_usage(existing).free / _GIB:.1f} GiB free{missing}"


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(__doc__ or "")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_common_options(parser)
    return parser.parse_args(words)
