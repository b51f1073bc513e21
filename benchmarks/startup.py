"""Time and memory from the start of a process to its end: one photo to its printed row, beside `import torch`.

    python -m benchmarks.startup [--repeats 9] [--keep]

The processes take turns. The first turn is not counted: it fills the caches of the system.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Nothing heavy is imported before the processes have run: a child's peak memory begins with that of its parent.


PHOTO = """
import sys
import numpy as np
from PIL import Image
noise = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
Image.fromarray(noise).resize((600, 450), Image.Resampling.BICUBIC).save(sys.argv[1])
"""


def measure(command: list[str]) -> tuple[float, float]:
    """Return seconds and peak memory in MB of a process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} failed")
    return time.perf_counter() - began, usage.ru_maxrss / 1e3


def main() -> None:
    """Print the table; with --keep also write it to results/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder, "photo.jpg")
        subprocess.run([sys.executable, "-c", PHOTO, str(photo)], check=True)
        nevus = [sys.executable, "-m", "nevus"]
        commands = {
            "nevus predict photo.jpg": [*nevus, "predict", str(photo)],
            "nevus models": [*nevus, "models"],
            "nevus train --help": [*nevus, "train", "--help"],
            "import torch": [sys.executable, "-c", "import torch"],
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for turn in range(options.repeats + 1):
            for name, command in commands.items():
                figures = measure(command)
                if turn:
                    found[name].append(figures)
    from benchmarks.rows import keep, machine_name, show

    medians = {name: tuple(map(statistics.median, zip(*rows, strict=True))) for name, rows in found.items()}
    base = medians["import torch"]
    rows = [
        {"process": name, "seconds": s, "memory_mb": mb, "seconds_ratio": s / base[0], "memory_ratio": mb / base[1]}
        for name, (s, mb) in medians.items()
    ]
    show(rows, f"medians of {options.repeats} on {machine_name()}")
    if options.keep:
        keep(rows, "startup", ["process"])


if __name__ == "__main__":
    main()
