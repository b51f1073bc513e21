"""Inference of bit-r26x0.5 at 128 px: our engine beside timm's network, same weights, same threads.

    python -m benchmarks.inference

timm's network is run as it is (weight standardisation at every call) in the faster of its two memory formats.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from nevus.data.preprocess import Preprocess
from nevus.models.registry import network
from nevus.runtime.device import machine
from nevus.runtime.inference import TorchEngine

SIDE, ROUNDS = 128, 7


def rate(work: Callable[[], object], images: int, seconds: float = 0.6) -> float:
    """Images a second, of as many calls as take `seconds`."""
    work()
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        work()
        calls += 1
    return calls * images / (time.perf_counter() - began)


def main() -> None:
    """Measure in turns, so that a disturbance meets both, and print medians."""
    net = network("bit-r26x0.5", classes=2, seed=0).eval()
    preprocess = Preprocess(SIDE)
    engine = TorchEngine(net, preprocess)
    table = Table(title=f"bit-r26x0.5 at {SIDE} px, images/s on {machine()}")
    for name in ("batch", "nevus", "timm", "timm's format", "nevus / timm"):
        table.add_column(name, justify="right")
    for batch in (1, 32):
        pixels = np.random.default_rng(0).integers(0, 256, (batch, SIDE, SIDE, 3), dtype=np.uint8)
        works: dict[str, Callable[[], object]] = {"nevus": lambda pixels=pixels: engine(pixels)}
        for name, layout in (("NCHW", torch.contiguous_format), ("NHWC", torch.channels_last)):
            peer = network("bit-r26x0.5", classes=2, seed=0).eval().to(memory_format=layout)

            def run(peer=peer, layout=layout, pixels=pixels) -> object:  # type: ignore[no-untyped-def]
                with torch.inference_mode():
                    return peer(preprocess.tensor(pixels).contiguous(memory_format=layout))

            works[name] = run
        rates: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(ROUNDS):
            for name, work in works.items():
                rates[name].append(rate(work, batch))
        median = {name: statistics.median(found) for name, found in rates.items()}
        best = max(("NCHW", "NHWC"), key=median.__getitem__)
        ours = median["nevus"]
        table.add_row(str(batch), f"{ours:.1f}", f"{median[best]:.1f}", best, f"{ours / median[best]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
