"""Loads igrag serve with 1, 8 and 32 clients, in batches and one request at a time.

    python benchmarks/serving.py [--requests 96] [--clients 1 8 32]

Each client sends one demo image after another and waits for each caption. The server is a process
of its own, started once in batches (generation_config.batch_size) and once with --batch_size 1. The
clients run on the same machine, and take some of its time.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "demo" / "coco" / "val"
SERVERS = {
    "in batches": [],
    "one at a time": ["--batch_size", "1", "--batch_wait_ms", "0"],
}


@dataclass(frozen=True, slots=True)
class Load:
    """What a server took from some clients.

    Attributes:
        server: How it was started.
        clients: How many sent requests at once.
        seconds: From the first request to the last answer.
        latencies: Seconds of each request.
    """

    server: str
    clients: int
    seconds: float
    latencies: Sequence[float]


def main(words: Sequence[str] | None = None) -> int:
    """Measures every server with every number of clients, and prints a table."""
    arguments = parse_arguments(words)
    images = [path.read_bytes() for path in sorted(IMAGES.glob("*.jpg"))[: arguments.requests]]
    loads = []
    for server, options in SERVERS.items():
        with started([*options, *arguments.options]) as (_, address):
            asyncio.run(measure(address, images[:8], 8))  # Everything is warm after these.
            for clients in arguments.clients:
                seconds, latencies = asyncio.run(
                    measure(address, images, clients, requests=arguments.requests)
                )
                loads.append(Load(server, clients, seconds, latencies))
    print(table(loads))
    return 0


async def measure(
    address: str, images: Sequence[bytes], clients: int, *, requests: int | None = None
) -> tuple[float, list[float]]:
    """Sends requests from several clients at once; returns all seconds, and those of each.

    Raises:
        httpx.HTTPStatusError: A request is not answered with captions.
    """
    left = iter(
        [image for image, _ in zip(cycle(images), range(requests or len(images)), strict=False)]
    )
    latencies = []

    async def send(client: httpx.AsyncClient) -> None:
        for image in left:
            started = time.perf_counter()
            answer = await client.post("/captions", files={"images": ("a.jpg", image)})
            answer.raise_for_status()
            latencies.append(time.perf_counter() - started)

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=address, timeout=600, limits=limits) as client:
        started = time.perf_counter()
        await asyncio.gather(*(send(client) for _ in range(clients)))
        return time.perf_counter() - started, latencies


def table(loads: Sequence[Load]) -> str:
    """Returns requests a second, median and 99th percentile of each load, and ratios."""
    lines = [
        "| server | clients | requests/s | p50, ms | p99, ms | against one at a time |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    rates = {(load.server, load.clients): len(load.latencies) / load.seconds for load in loads}
    for load in loads:
        rate = rates[load.server, load.clients]
        ratio = rate / rates["one at a time", load.clients]
        p50, p99 = (1000 * percentile(load.latencies, percent) for percent in (50, 99))
        lines.append(
            f"| {load.server} | {load.clients} | {rate:.1f} | {p50:.0f} | {p99:.0f} "
            f"| {ratio:.2f}x |"
        )
    return "\n".join(lines)


def percentile(values: Sequence[float], percent: int) -> float:
    """Returns the smallest value that so many percent of the values do not exceed."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


@contextmanager
def started(options: Sequence[str]) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Runs igrag serve inside the block; yields the process and its address."""
    command = [sys.executable, "-m", "igrag.commands", "serve", "--port", "0", *options]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "IGRAG_TOKEN": ""}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"listening on (http://\S+)", line):
                yield process, found[1]
                return
        raise SystemExit("igrag serve has not started:\n" + "".join(lines))
    finally:
        process.kill()  # Nothing is left to be answered.
        process.wait()
        process.stderr.close()


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--requests", type=int, default=96, metavar="N", help="of each row (default: 96)")
    add("--clients", type=int, nargs="+", default=[1, 8, 32], metavar="N", help="default: 1 8 32")
    add("--options", nargs=argparse.REMAINDER, default=[], help="more options of igrag serve")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
