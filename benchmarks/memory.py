"""Private memory of a training's data, by the number of images: the cache holds them, not the process.

    python -m benchmarks.memory

Each number of images runs in a process of its own: it draws small pictures, has them decoded to squares of 128
pixels, reads 200 training batches, and says how much memory was its own (pages of no file) before and after.
Beside it stands what the squares would take if they were held in memory.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

COUNTS, SIDE, BATCHES = (1_000, 20_000), 128, 200


def private() -> float:
    """Megabytes of this process' own."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the system does not say how much memory a process has")


def one(count: int) -> dict[str, float]:
    """Megabytes and seconds of one number of images."""
    import pandas as pd
    from PIL import Image

    from nevus.data.cache import Cache, CacheConfig
    from nevus.data.decoded import decode_dataset
    from nevus.data.manifest import Manifest
    from nevus.data.preprocess import Preprocess
    from nevus.training.batches import ImageBatches, soft_labels
    from nevus.training.config import DatasetStats
    from nevus.training.overrides import make_config

    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        names = [f"{i}.png" for i in range(count)]
        for name in names:
            Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(Path(folder, name))
        labels = np.array(["benign", "malignant"])[np.arange(count) % 2]
        columns = {"image": names, "label": labels, "group": names, "split": "train", "source": "drawn"}
        data = Manifest(pd.DataFrame(columns, dtype=str), Path(folder), ("benign", "malignant"), "drawn")
        recipe = make_config(
            "best", DatasetStats(count, 576.0, SIDE), {"image_size": SIDE, "resize_size": SIDE, "tuning": "full"}
        )
        with contextlib.closing(Cache(CacheConfig(Path(folder, "cache")))) as cache:
            before, began = private(), time.perf_counter()
            decoded = decode_dataset(data, SIDE, cache)
            first = time.perf_counter() - began
            batches = ImageBatches(decoded.pixels, soft_labels(data.targets, 2, 0), recipe, Preprocess(SIDE), 0)
            for step in range(BATCHES):
                batches(step)
            after, began = private(), time.perf_counter()
            decode_dataset(data, SIDE, cache)
            again = time.perf_counter() - began
    return {"images": count, "before": before, "after": after, "first": first, "again": again}


def main() -> None:
    """One process a number of images, and a table."""
    table = Table(title=f"private memory of the data, squares of {SIDE} px, {BATCHES} batches read")
    for name in ("images", "MB before", "MB after", "growth", "MB if held", "s to decode", "s again"):
        table.add_column(name, justify="right")
    for count in COUNTS:
        words = [sys.executable, "-m", "benchmarks.memory", str(count)]
        found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        growth, held = found["after"] - found["before"], count * SIDE * SIDE * 3 / 2**20
        cells = (found["before"], found["after"], growth, held, found["first"], found["again"])
        table.add_row(f"{count:,}", *(f"{cell:.1f}" for cell in cells))
    Console().print(table)


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].isdigit():
        print(json.dumps(one(int(sys.argv[1]))))
    else:
        main()
