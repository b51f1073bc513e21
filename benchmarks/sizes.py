"""What larger backbones of our own cost beside `bit-r26x0.5`: weights, training, inference, at 128 px.

    python -m benchmarks.sizes

A training step is forward, loss, backward and SGD, of 32 images; inference is of one, by the default engine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.peers import ours
from benchmarks.speed import medians, step_of
from nevus.bundle.classifier import make_engine
from nevus.data.preprocess import Preprocess
from nevus.runtime.device import device, to_device

NAMES = ("bit-r26x0.5", "bit-r26x1", "bit-r50x0.5")
SIDE, BATCH = 128, 32


def measured() -> list[dict[str, Any]]:
    """A row a backbone, measured in turns."""
    where, preprocess = device(), Preprocess(SIDE)
    nets = {name: ours(name) for name in NAMES}
    weights = {name: sum(p.numel() for p in net.parameters()) for name, net in nets.items()}
    pixels = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
    engines = {name: make_engine(net, preprocess, where.device) for name, net in nets.items()}
    seeing = medians({name: lambda ready=ready: ready(pixels) for name, ready in engines.items()}, 1, rounds=50)
    steps = {name: step_of(net, to_device(net, where), SIDE, BATCH, fused=True) for name, net in nets.items()}
    training = medians(steps, BATCH)
    return [
        {
            "backbone": name,
            "parameters": weights[name],
            "training": training[name],
            "milliseconds": 1000 / seeing[name],
        }
        for name in NAMES
    ]


def main() -> None:
    """Measure and print."""
    rows = measured()
    table = Table("backbone", "million weights", "MB in half precision", "training, images/s", "ms an image")
    for row in rows:
        million = row["parameters"] / 1e6
        shown = (million, 2 * million, row["training"], row["milliseconds"])
        table.add_row(row["backbone"], *(f"{value:.1f}" for value in shown))
    Console().print(table)


if __name__ == "__main__":
    main()
