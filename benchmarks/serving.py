"""Throughput and latency of the service on loopback, and of the same model in a plain FastAPI handler and in LitServe.

    python -m benchmarks.serving [--seconds 12] [--rounds 2] [--keep]

1, 8 and 32 clients send one JPEG after the other, with the built-in classifier. The servers take turns; each runs
alone. `bare` is the prediction of the same file in one process, without a server. The service also records every
prediction on the disk, which the peers do not.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

CLIENTS = (1, 8, 32)
SERVERS = ("nevus serve", "plain FastAPI", "LitServe")


def photo() -> bytes:
    """Return a JPEG of 600 x 450 pixels with structure."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).resize((600, 450), Image.Resampling.BICUBIC).save(out, format="JPEG", quality=92)
    return out.getvalue()


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start(name: str, folder: Path) -> tuple[subprocess.Popen, str, float]:
    """Start a server and wait until it answers; return process, address and seconds."""
    port = free_port()
    if name == "nevus serve":
        database = f"sqlite:///{folder / 'register.sqlite'}"
        command = [sys.executable, "-m", "nevus", "serve", "--port", str(port), "--database", database]
        ready = "/readyz"
    else:
        peer = "fastapi" if name == "plain FastAPI" else "litserve"
        command = [sys.executable, "-m", f"benchmarks.serving_{peer}", str(port)]
        ready = "/healthz" if peer == "fastapi" else "/health"
    log = (folder / "log").open("ab")
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if httpx.get(url + ready, timeout=2).status_code == 200:
                return process, url, time.perf_counter() - began
        except httpx.TransportError:
            time.sleep(0.02)
    raise RuntimeError(f"{name} did not start: {(folder / 'log').read_text()[-2000:]}")


async def load(url: str, clients: int, seconds: float, content: bytes) -> list[float]:
    """Send from several clients for some seconds; return the latency of each request in seconds."""
    latencies: list[float] = []
    until = 0.0

    async def one(client: httpx.AsyncClient) -> None:
        while (now := time.perf_counter()) < until:
            answer = await client.post(url + "/v1/predictions", files={"files": ("a.jpg", content, "image/jpeg")})
            answer.raise_for_status()
            latencies.append(time.perf_counter() - now)

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        until = time.perf_counter() + 1.0
        await asyncio.gather(*(one(client) for _ in range(clients)))  # warms up
        latencies.clear()
        until = time.perf_counter() + seconds
        await asyncio.gather(*(one(client) for _ in range(clients)))
    return latencies


def bare(content: bytes, seconds: float) -> list[float]:
    """Predict the file again and again in this process."""
    from nevus.bundle.classifier import load as load_classifier

    classifier, latencies = load_classifier("malignant-benign"), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jpg")
        path.write_bytes(content)
        next(classifier.stream([path]))
        until = time.perf_counter() + seconds
        while (now := time.perf_counter()) < until:
            next(classifier.stream([path]))
            latencies.append(time.perf_counter() - now)
    return latencies


def memory(pid: int) -> float:
    """Return the memory of a process and its children in MB; what they share counts once (PSS)."""
    parent = psutil.Process(pid)
    return sum(one.memory_full_info().pss for one in (parent, *parent.children(recursive=True))) / 1e6


def row(
    name: str, clients: int, latencies: list[float], seconds: float, used: list[tuple[float, float]]
) -> dict[str, object]:
    """Return one row of the table.

    Images a second, percentiles in milliseconds, seconds from the start of the process to the first answer (median),
    and the largest memory of the process and its children after the load.
    """
    p50, p95, p99 = (1e3 * float(np.percentile(latencies, q)) for q in (50, 95, 99))
    return {
        "server": name,
        "clients": clients,
        "images_per_second": len(latencies) / seconds,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "n": len(latencies),
        "ready_seconds": float(np.median([one for one, _ in used])) if used else float("nan"),
        "memory_mb": max((one for _, one in used), default=float("nan")),
    }


def main() -> None:
    """Print the table; with --keep also write it to results/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    content = photo()
    found: dict[tuple[str, int], list[float]] = {}
    used: dict[str, list[tuple[float, float]]] = {}
    for _ in range(options.rounds):
        found.setdefault(("bare prediction", 1), []).extend(bare(content, options.seconds))
        for name in SERVERS:
            for clients in CLIENTS:
                with tempfile.TemporaryDirectory() as folder:
                    process, url, seconds = start(name, Path(folder))
                    try:
                        some = asyncio.run(load(url, clients, options.seconds, content))
                        used.setdefault(name, []).append((seconds, memory(process.pid)))
                    finally:
                        os.killpg(process.pid, signal.SIGKILL)
                        process.wait()
                found.setdefault((name, clients), []).extend(some)
    from rich.console import Console
    from rich.table import Table

    from benchmarks.rows import keep, machine_name

    total = options.seconds * options.rounds
    rows = [row(name, clients, latencies, total, used.get(name, [])) for (name, clients), latencies in found.items()]
    table = Table(title=machine_name())
    for head in rows[0]:
        table.add_column(head)
    for one in rows:
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in one.values()))
    Console().print(table)
    by = {(one["server"], one["clients"]): one for one in rows}
    alone = by["nevus serve", 1]["p50_ms"] / by["bare prediction", 1]["p50_ms"]
    many = by["nevus serve", 32]["images_per_second"] / by["plain FastAPI", 32]["images_per_second"]
    print(f"1 client, median, to the bare prediction: {alone:.3f}")
    print(f"32 clients, images a second, to the plain handler: {many:.2f}")
    if options.keep:
        keep(rows, "serving", ["server", "clients"])


if __name__ == "__main__":
    main()
