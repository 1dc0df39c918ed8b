"""Launches of several processes by torchrun."""

import socket
import sys


def two_nodes() -> list[tuple[str, ...]]:
    """Returns the launchers of two machines with a process each, both of them this machine."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return [
        (
            sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1",
            f"--node_rank={rank}", "--master_addr=127.0.0.1", f"--master_port={port}",
        )
        for rank in range(2)
    ]  # fmt: skip
