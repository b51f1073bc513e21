"""Predictions for very many images: images a second and peak memory, from files to a table.

    python -m benchmarks.bulk DATA BUNDLE [--images 100000] [--keep]

The images of DATA are repeated through links. `nevus predict` runs with its image check and one view of each image,
on all images and on a tenth of them, to show whether memory grows. The peers run on a tenth: decoding alone, in as many
threads, and the same network in timm, with the steps and defaults of its inference script (`bulk_timm.py`).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.startup import measure


def link(images: list[Path], count: int, folder: Path) -> Path:
    """Fill a folder with `count` links to images, in folders of 1,000, and return it."""
    for number in range(count):
        place = folder / f"{number // 1000:04}"
        place.mkdir(parents=True, exist_ok=True)
        source = images[number % len(images)]
        os.symlink(source, place / f"{number:06}{source.suffix}")
    return folder


def decoding(folder: Path, image_size: int) -> float:
    """Return the seconds that decoding and resizing take, in two threads."""
    from nevus.data.parallel import prefetch_map
    from nevus.data.preprocess import Preprocess
    from nevus.data.walker import LeftOut, walk_images

    pixels = Preprocess(image_size).pixels
    began = time.perf_counter()
    for _ in prefetch_map(pixels, walk_images(folder, LeftOut())):
        pass
    return time.perf_counter() - began


def main() -> None:
    """Print the table; with --keep also write it to results/bulk.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--engines", nargs="+", default=["onnx", "openvino"])
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    images = sorted(path.absolute() for path in options.data.rglob("*.jpg"))
    few = options.images // 10
    rows: list[dict[str, object]] = []

    def row(what: str, count: int, seconds: float, memory: float) -> None:
        rows.append({"what": what, "images": count, "images_per_second": count / seconds, "memory_mb": memory})

    with tempfile.TemporaryDirectory() as place:
        small, large = (link(images, count, Path(place, str(count))) for count in (few, options.images))
        out = str(Path(place, "predictions.csv"))
        nevus = [sys.executable, "-m", "nevus", "predict", "--bundle", str(options.bundle)]
        nevus += ["--tta", "none", "--format", "csv", "--out", out]
        for engine in options.engines:
            row(f"nevus predict --engine {engine}", few, *measure([*nevus, "--engine", engine, str(small)]))
        row("nevus predict --engine onnx", options.images, *measure([*nevus, str(large)]))

        from nevus.bundle.bundle import load_bundle

        spec = load_bundle(options.bundle).spec
        timm = [sys.executable, "-m", "benchmarks.bulk_timm", str(small), str(spec.image_size), out]
        row("timm's inference script", few, *measure(timm))
        row("decoding alone", few, decoding(small, spec.image_size), float("nan"))

    from benchmarks.rows import keep, machine_name, show

    show(rows, f"predictions for many images on {machine_name()}", digits=1)
    if options.keep:
        keep(rows, "bulk", ["what", "images"])


if __name__ == "__main__":
    main()
