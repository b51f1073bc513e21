"""The networks of the built-in classifier, one by one: milliseconds a view and an image, on one core and on all.

    python -m benchmarks.members [--keep]

From uint8 pixels of one image to logits, in ONNX Runtime, as `nevus predict` computes them; medians.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import numpy as np

from benchmarks.engines import use_threads
from benchmarks.rows import keep, machine_name, show
from nevus.bundle.bundle import load_bundle
from nevus.bundle.ensemble import Ensemble
from nevus.runtime.engines import cpu_threads
from nevus.runtime.tta import view_count

ROUNDS = 21
CLASSIFIER = "malignant-benign"


def measured() -> list[dict[str, Any]]:
    """Return a row for each network and number of threads, and one for all networks in turn."""
    bundle, rows, threads = load_bundle(CLASSIFIER), [], cpu_threads()
    assert bundle.folder is not None
    members, size = Ensemble.load(bundle.folder).members, bundle.spec.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    for count in sorted({1, threads}):
        use_threads(count)
        engines = [member.load("onnx") for member in members]
        seconds: list[list[float]] = [[] for _ in members]
        for number in range(ROUNDS + 2):  # the networks take turns; two rounds to warm up
            for member, engine, taken in zip(members, engines, seconds, strict=True):
                began = time.perf_counter()
                engine(member.squares(pixels))
                if number > 1:
                    taken.append(time.perf_counter() - began)
        for member, taken in zip(members, seconds, strict=True):
            rows.append(_row(member.spec.backbone, count, view_count(member.tta), 1000 * statistics.median(taken)))
        whole = [sum(times) for times in zip(*seconds, strict=True)]
        views = sum(view_count(member.tta) for member in members)
        rows.append(_row(CLASSIFIER, count, views, 1000 * statistics.median(whole)))
    use_threads(threads)
    return rows


def _row(network: str, threads: int, views: int, milliseconds: float) -> dict[str, Any]:
    return {
        "network": network,
        "threads": threads,
        "views": views,
        "ms_a_view": milliseconds / views,
        "ms_an_image": milliseconds,
    }


def main() -> None:
    """Print the table; with --keep also write it to results/members.csv."""
    rows = measured()
    show(rows, f"one image, on {machine_name()}", digits=1)
    if "--keep" in sys.argv:
        keep(rows, "members", ["network", "threads"])


if __name__ == "__main__":
    main()
