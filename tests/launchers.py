"""Starts scripts as processes of their own, also as several by torchrun."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from igrag.config import REPO_ROOT

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


def start(script: str, words: Sequence[str], launcher: Sequence[str]) -> "subprocess.Popen[str]":
    """Starts a script with one thread a process: two compute then exactly what one does."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [*launcher, script, *words], cwd=REPO_ROOT, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def accelerate_launch(processes: int) -> tuple[str, ...]:
    """Returns `accelerate launch` as it starts several processes on GPUs; scripts stay on the CPU.

    Its own option for CPUs starts a single process, where there is no MPI.
    """
    return (
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines=1",
        f"--num_processes={processes}", "--mixed_precision=no", "--dynamo_backend=no",
        f"--main_process_port={_free_port()}",
    )  # fmt: skip


def two_nodes() -> list[tuple[str, ...]]:
    """Returns the launchers of two machines with a process each, both of them this machine."""
    port = _free_port()
    return [
        (
            sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1",
            f"--node_rank={rank}", "--master_addr=127.0.0.1", f"--master_port={port}",
        )
        for rank in range(2)
    ]  # fmt: skip


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
