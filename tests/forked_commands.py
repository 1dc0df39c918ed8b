"""Runs commands in processes that are forked from one that has imported the libraries.

Half of the tests' time would be importing torch and transformers again for every command.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess

# Of other projects only: each command imports IGRAG's own modules itself, from its folder.
_LIBRARIES = [
    "accelerate", "datasets", "matplotlib.pyplot", "peft", "sacrebleu", "torch",
    "transformers.models.clip.modeling_clip", "transformers.models.t5.modeling_t5",
    "transformers.generation",
]  # fmt: skip


def run_forked(
    words: Sequence[str], *, folder: Path, environment: dict[str, str]
) -> CompletedProcess[str]:
    """Runs `python ...` in a folder; what a fork cannot do is started as usual.

    Args:
        words: What follows `python`: a script, or -m and a module, and their arguments.
        folder: The working folder.
        environment: Replaces the environment.

    Returns:
        Exit code, stdout and stderr.
    """
    if words[0] == "-m" and words[1] == "torch.distributed.run":
        return subprocess.run(
            [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
        )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LIBRARIES)
    with tempfile.TemporaryDirectory() as name:
        outputs = [Path(name) / stream for stream in ("stdout", "stderr")]
        process = context.Process(target=_run, args=(list(words), folder, environment, outputs))
        process.start()
        process.join()
        code = process.exitcode
        stdout, stderr = (path.read_text(encoding="utf-8") for path in outputs)
    return CompletedProcess(list(words), 1 if code is None else code, stdout, stderr)


def _run(
    words: list[str], folder: Path, environment: dict[str, str], outputs: Sequence[Path]
) -> None:
    """Becomes the command: its streams, folder, environment, import path and arguments."""
    for path, descriptor in zip(outputs, (1, 2), strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module = words[1] if words[0] == "-m" else None
    own = str(folder if module else (folder / words[0]).parent)
    sys.path[:] = [own, *(entry for entry in sys.path if "-packages" in entry or "/lib" in entry)]
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "igrag")]:
        del sys.modules[name]
    if module:
        sys.argv = [module, *words[2:]]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="__main__")
