"""Inference by every engine, beside timm's network in PyTorch in its faster format: same weights and pixels, in turns.

    python -m benchmarks.engines [--keep]

From uint8 pixels to probabilities, in float32 unless the engine's name says otherwise; on one core and on all.
int8 is calibrated on noise: that is good enough for its speed, and says nothing of its accuracy, for which
`nevus export --precision int8` prints what it costs.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers import classifier, ours
from benchmarks.rows import keep
from nevus._openvino import openvino
from nevus.data.preprocess import Preprocess
from nevus.data.transforms import normalize
from nevus.exporting.formats import Probabilities, write_onnx
from nevus.exporting.int8_onnx import quantize
from nevus.runtime import engines
from nevus.runtime.device import machine
from nevus.runtime.engines import file_engine, softmax
from nevus.runtime.feature_engine import TorchEngine
from nevus.runtime.openvino_engine import cpu_has_bf16

NETWORKS = {"bit-r26x0.5": 128, "bit-m-r50x1": 224}
ROUNDS = 21
Work = Callable[[np.ndarray], object]
TIMM, CHANNELS_LAST = "timm in PyTorch", "channels_last"
BATCHES = (1, 16, 32)


def works(name: str, image_size: int, folder: Path) -> dict[str, Work]:
    """Each engine, made for the threads that are set."""
    net, preprocess = ours(name).eval(), Preprocess(image_size)
    plain = folder / f"{name}.onnx"
    small = folder / f"{name}-int8.onnx"
    if not plain.exists():
        write_onnx(Probabilities(classifier(name, image_size), preprocess).eval(), image_size, plain)
        noise = np.random.default_rng(0).integers(0, 256, (16, image_size, image_size, 3), dtype=np.uint8)
        quantize(plain, small, noise)  # type: ignore[arg-type]
    bf16 = cpu_has_bf16()
    torch_engine = TorchEngine(net, preprocess)

    pixels_first = ours(name).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def timm(pixels: np.ndarray) -> object:
        with torch.inference_mode():
            return net(normalize(pixels, preprocess)).softmax(1)

    def timm_channels_last(pixels: np.ndarray) -> object:
        with torch.inference_mode():
            images = normalize(pixels, preprocess).contiguous(memory_format=torch.channels_last)
            return pixels_first(images).softmax(1)

    made: dict[str, Work] = {
        TIMM: timm,
        CHANNELS_LAST: timm_channels_last,
        "nevus, PyTorch": lambda pixels: softmax(torch_engine(pixels)),
        "nevus, ONNX Runtime": file_engine(plain, "onnx"),
        "nevus, OpenVINO": file_engine(plain, "openvino"),
        "nevus, ONNX Runtime, int8": file_engine(small, "onnx"),
        "nevus, OpenVINO, int8": file_engine(small, "openvino"),
    }
    return {**made, "nevus, OpenVINO, bf16": file_engine(plain, "openvino-bf16")} if bf16 else made


def use_threads(count: int) -> None:
    """Let all engines that are made from now on compute in so many threads."""
    torch.set_num_threads(count)
    os.environ["OMP_NUM_THREADS"] = str(count)
    engines._callers.cache_clear()


def milliseconds(made: dict[str, Work], pixels: np.ndarray, rounds: int) -> dict[str, float]:
    """Of an image, medians; all take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for work in made.values():
        work(pixels)
        work(pixels)
    for _ in range(rounds):
        for name, work in made.items():
            began = time.perf_counter()
            work(pixels)
            seconds[name].append(time.perf_counter() - began)
    found = {name: 1000 * statistics.median(taken) / len(pixels) for name, taken in seconds.items()}
    other = found.pop(CHANNELS_LAST)
    return {**found, TIMM: min(found[TIMM], other)}


def gigaflop(name: str, image_size: int) -> float:
    """Floating-point operations of one image through a network, in 10^9; multiplying and adding are two."""
    net = ours(name).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net(torch.zeros(1, 3, image_size, image_size))
    return float(counter.get_total_flops()) / 1e9


def gigaflops() -> float:
    """What the set threads reach here in a product of two large matrices, in 10^9 operations a second, at best."""
    a = torch.ones(1024, 1024)
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - began)
    return float(2 * 1024**3 / min(seconds) / 1e9)


def measured() -> dict[str, Any]:
    """All rows."""
    threads = torch.get_num_threads()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for name, image_size in NETWORKS.items():
            for n in sorted({1, threads}):
                use_threads(n)
                made = works(name, image_size, Path(place))
                bound = {"gigaflop": gigaflop(name, image_size), "gigaflops": gigaflops()}
                for batch in BATCHES:
                    pixels = np.random.default_rng(0).integers(
                        0, 256, (batch, image_size, image_size, 3), dtype=np.uint8
                    )
                    found = milliseconds(made, pixels, ROUNDS if batch == 1 else ROUNDS // 3)
                    rows.append(
                        {
                            "network": name,
                            "image_size": image_size,
                            "threads": n,
                            "batch": batch,
                            "ms": found,
                            **bound,
                        }
                    )
                    print(rows[-1], flush=True)
            use_threads(threads)
    return {"machine": machine(), "torch": torch.__version__, "openvino": openvino.__version__, "rows": rows}


def main() -> None:
    """Print the table; with --keep also write it to results/engines.csv."""
    result = measured()
    names = list(dict.fromkeys(name for row in result["rows"] for name in row["ms"]))
    table = Table(title=f"milliseconds an image, and times timm's speed, on {result['machine']['device']}")
    for name in ("network", "px", "cores", "batch", *names):
        table.add_column(name, justify="right")
    for row in result["rows"]:
        base = row["ms"][TIMM]
        cells = [f"{row['ms'][name]:.1f} ({base / row['ms'][name]:.2f})" for name in names]
        table.add_row(row["network"], str(row["image_size"]), str(row["threads"]), str(row["batch"]), *cells)
    Console(width=170).print(table)
    if "--keep" in sys.argv:
        keys = ["threads", "network", "image_size", "batch"]
        about = {key: result[key] for key in ("openvino", "torch")} | {"machine": result["machine"]["device"]}
        rows = [
            {**{key: row[key] for key in keys}, "engine": name, "ms": row["ms"][name], **about}
            for row in result["rows"]
            for name in names
            if name in row["ms"]
        ]
        keep(rows, "engines", [*keys, "engine"])


if __name__ == "__main__":
    main()
