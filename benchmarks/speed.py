"""Training step and inference of BiT: ours, timm's, timm's under torch.compile, and transformers', with the same
weights, threads and process.

    python -m benchmarks.speed [--precision auto|fp32|bf16] [--keep]

A training step is forward, loss, backward and SGD with momentum, in the same precision for all (default: the one that
a training chooses here). Inference is in float32, from uint8 images to logits. timm's network runs in both memory
formats, and is quoted in the faster one. All take turns, so that a disturbance meets all; medians are printed.

Our kernels make the C library keep freed memory, for the whole process: the peers run in it, and gain by it, too.
What they do where it gives memory back is measured first, in the column `timm alone`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.peers import Transformers, ours
from benchmarks.rows import keep
from nevus.data.preprocess import Preprocess
from nevus.data.transforms import normalize
from nevus.runtime.device import Device, Precision, device, machine, to_device
from nevus.runtime.feature_engine import TorchEngine

NETWORKS = {"bit-r26x0.5": (128, 32), "bit-m-r50x1": (224, 8)}
"""Side in pixels and batch of the training step."""
ROUNDS = 9
LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
Work = Callable[[], object]


def medians(works: dict[str, Work], images: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Images a second of each, measured in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
        work()
    for _ in range(rounds):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
    return {name: images / statistics.median(found) for name, found in seconds.items()}


def compiled(net: nn.Module) -> nn.Module:
    """Compile a network's forward and backward pass for its own shapes."""
    return torch.compile(net, dynamic=False)  # type: ignore[return-value]


def step_of(net: nn.Module, where: Device, image_size: int, batch: int, *, fused: bool) -> Work:
    """One training step of a network that is in its place."""
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4, fused=fused)
    x = torch.randn(batch, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    x = x.to(where.device).contiguous(memory_format=where.memory_format)
    y = (torch.arange(batch) % 2).to(where.device)

    def step() -> float:
        with where.autocast():
            logits = net(x)
        loss = F.cross_entropy(logits.float(), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def training(name: str, image_size: int, batch: int, where: Device, *, with_ours: bool) -> dict[str, Work]:
    """The training steps to compare."""
    works: dict[str, Work] = {}
    for layout, memory in LAYOUTS.items():
        net = ours(name).to(where.device, memory_format=memory)  # type: ignore[call-overload]
        works[f"timm {layout}"] = step_of(net, Device(where.device, where.bf16, memory), image_size, batch, fused=False)
        if with_ours:
            net = compiled(ours(name).to(where.device, memory_format=memory))  # type: ignore[call-overload]
            place = Device(where.device, where.bf16, memory)
            works[f"torch.compile {layout}"] = step_of(net, place, image_size, batch, fused=True)
    theirs = Transformers(name).to(where.device)
    plain = Device(where.device, where.bf16, torch.contiguous_format)
    works["transformers"] = step_of(theirs, plain, image_size, batch, fused=False)
    if with_ours:
        net = ours(name)
        works["nevus"] = step_of(net, to_device(net, where), image_size, batch, fused=True)
    return works


def inference(name: str, image_size: int, batch: int) -> dict[str, Work]:
    """From uint8 images to logits."""
    where, preprocess = device().device, Preprocess(image_size)
    pixels = np.random.default_rng(0).integers(0, 256, (batch, image_size, image_size, 3), dtype=np.uint8)
    engine = TorchEngine(ours(name), preprocess, where)
    works: dict[str, Work] = {"nevus": lambda: engine(pixels)}

    def peer(net: nn.Module, memory: torch.memory_format) -> Work:
        net = net.eval().to(where, memory_format=memory)  # type: ignore[call-overload]

        def run() -> object:
            with torch.inference_mode():
                return net(normalize(pixels, preprocess).to(where).contiguous(memory_format=memory)).cpu()

        return run

    for layout, memory in LAYOUTS.items():
        works[f"timm {layout}"] = peer(ours(name), memory)
        works[f"torch.compile {layout}"] = peer(compiled(ours(name)), memory)
    works["transformers"] = peer(Transformers(name), torch.contiguous_format)
    return works


def peak(dtype: torch.dtype, sizes: Sequence[int] = (512, 1024, 2048, 4096)) -> float:
    """GFLOP/s of a matrix product: the best of several sizes, repeated, for what convolutions are held against."""
    best = 0.0
    for size in sizes:
        a, b = (torch.randn(size, size, device=device().device).to(dtype) for _ in range(2))
        times = max(1, (4096 // size) ** 2)
        for _ in range(6):
            began = time.perf_counter()
            for _ in range(times):
                product = a @ b
            product[0, 0].item()
            best = max(best, times * 2 * size**3 / (time.perf_counter() - began) / 1e9)
    return best


def products(name: str, image_size: int) -> float:
    """GFLOP of an image's forward pass in convolutions and the head: two a multiplication and addition."""
    total = 0.0

    def count(module: nn.Module, _inputs: object, out: torch.Tensor) -> None:
        nonlocal total
        weight = module.weight
        total += 2 * out.numel() * weight.numel() / weight.shape[0] / 1e9  # type: ignore[union-attr, operator]

    net = ours(name).eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.inference_mode():
        net(torch.zeros(1, 3, image_size, image_size))
    return total


def row(kind: str, name: str, image_size: int, batch: int, found: dict[str, float], gflop: float, most: float) -> dict:
    """One line of the table."""
    layout = max(LAYOUTS, key=lambda layout: found[f"timm {layout}"])
    best = found[f"timm {layout}"]
    peer = max(found[f"torch.compile {layout}"] for layout in LAYOUTS)
    return {
        "work": kind,
        "network": name,
        "image_size": image_size,
        "batch": batch,
        "images_per_second": found,
        "timm_layout": layout,
        "over_timm": found["nevus"] / best,
        "over_compiled": found["nevus"] / peer,
        "over_transformers": found["nevus"] / found["transformers"],
        "of_peak": found["nevus"] * gflop / most,
    }


def measured(precision_name: Precision) -> dict:
    """Measure everything."""
    where = device(precision_name)
    torch._dynamo.config.recompile_limit = 64  # all networks here share the code of one class
    alone = {}
    for name, (image_size, batch) in NETWORKS.items():  # before anything of ours is in the process
        found = medians(training(name, image_size, batch, where, with_ours=False), batch, 5)
        alone[name] = max(found[f"timm {layout}"] for layout in LAYOUTS)
    precision = torch.bfloat16 if where.bf16 else torch.float32
    peaks = {str(dtype).removeprefix("torch."): peak(dtype) for dtype in {precision, torch.float32}}
    rows = []
    for name, (image_size, batch) in NETWORKS.items():
        gflop = products(name, image_size)
        found = medians(training(name, image_size, batch, where, with_ours=True), batch)
        most = peaks[str(precision).removeprefix("torch.")]
        rows.append(
            {
                **row("training step", name, image_size, batch, found, 3 * gflop, most),
                "timm_alone": alone[name],
                "precision": str(precision).removeprefix("torch."),
            }
        )
        for n in (1, 32):
            found = medians(inference(name, image_size, n), n, ROUNDS if n > 1 else 3 * ROUNDS)
            rows.append(
                {**row("inference", name, image_size, n, found, gflop, peaks["float32"]), "precision": "float32"}
            )
    return {"machine": machine(), "torch": torch.__version__, "peak_gflops": peaks, "rounds": ROUNDS, "rows": rows}


def main() -> None:
    """Print the table; with --keep also write it to results/speed.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    result = measured(options.precision)
    table = Table(title=f"images/s on {result['machine']}, medians")
    heads = ("work", "network", "px", "batch", "precision", "nevus", "timm", "format", "timm alone")
    for name in (*heads, "transformers", "nevus/timm", "nevus/compiled", "nevus/transf.", "of peak"):
        table.add_column(name, justify="right")
    for r in result["rows"]:
        found = r["images_per_second"]
        table.add_row(
            r["work"],
            r["network"],
            str(r["image_size"]),
            str(r["batch"]),
            r["precision"],
            f"{found['nevus']:.1f}",
            f"{found['timm ' + r['timm_layout']]:.1f}",
            r["timm_layout"],
            f"{r['timm_alone']:.1f}" if "timm_alone" in r else "",
            f"{found['transformers']:.1f}",
            f"{r['over_timm']:.2f}",
            f"{r['over_compiled']:.2f}",
            f"{r['over_transformers']:.2f}",
            f"{r['of_peak']:.0%}",
        )
    Console(width=170).print(table)
    Console().print({name: f"{value:.0f} GFLOP/s" for name, value in result["peak_gflops"].items()})
    if options.keep:
        keys = ["work", "network", "image_size", "batch", "precision"]
        ratios = ["over_timm", "over_compiled", "over_transformers"]
        rows = [
            {
                **{key: r[key] for key in keys},
                "nevus": r["images_per_second"]["nevus"],
                "timm": r["images_per_second"][f"timm {r['timm_layout']}"],
                "timm_layout": r["timm_layout"],
                "transformers": r["images_per_second"]["transformers"],
                **{ratio: r[ratio] for ratio in ratios},
                "torch": result["torch"],
            }
            for r in result["rows"]
        ]
        keep(rows, "speed", keys)


if __name__ == "__main__":
    main()
