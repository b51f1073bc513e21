"""Checks and measurements on an NVIDIA GPU: what nevus claims of the CPU, held against timm on the same card.

    make gpu
    python -m benchmarks.gpu [--tiny] [--keep]

Checks: probabilities as on the CPU; a training that is interrupted and resumed ends with the same bits, where the card
is deterministic; ONNX Runtime's CUDA provider, where it is installed. Measurements: training steps of nevus and timm in
float32 and bfloat16, in both memory formats, compiled or not, with the card's peak memory. `--tiny` runs everything
with small networks and images on any machine, for a test. `--keep` writes results/gpu.csv, on a GPU only.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.rows import keep
from nevus._progress import console
from nevus.data.preprocess import Preprocess
from nevus.models.model import build_backbone, build_model
from nevus.models.spec import ModelSpec
from nevus.runtime.device import Device, to_device
from nevus.runtime.engines import OnnxEngine, softmax
from nevus.runtime.feature_engine import TorchEngine
from nevus.runtime.onnx_model import write_onnx
from nevus.training.config import DatasetStats
from nevus.training.loop import ValidationResult, train
from nevus.training.losses import CrossEntropy
from nevus.training.overrides import make_config
from nevus.training.run_dir import RunDir

TOLERANCE = 1e-3
"""Largest difference of a probability from the CPU's in float32."""
LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}


@dataclass(frozen=True)
class Work:
    """A training step to measure: network, image size and batch."""

    network: str
    image_size: int
    batch: int


FULL = (Work("bit-r26x0.5", 128, 256), Work("bit-r50x1", 224, 64), Work("bit-r50x1", 448, 32))
TINY = (Work("bit-r26x0.5", 32, 4),)


@contextmanager
def exact_products() -> Iterator[None]:
    """Compute float32 products in float32, not in TF32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def small_classifier(image_size: int) -> tuple[nn.Module, ModelSpec]:
    """Make a small BiT with random weights and a head that is not zero."""
    spec = ModelSpec("bit-r26x0.5", ("benign", "malignant"), 4, image_size=image_size)
    network = build_model(spec)
    nn.init.normal_(network.head.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    return network.eval(), spec


def agreement(where: torch.device, image_size: int) -> dict[str, Any]:
    """Compare probabilities on the device with those on the CPU, in float32."""
    network, _ = small_classifier(image_size)
    pixels = np.random.default_rng(0).integers(0, 256, (32, image_size, image_size, 3), dtype=np.uint8)
    with exact_products():
        found = [
            softmax(TorchEngine(network, Preprocess(image_size), one)(pixels)) for one in (torch.device("cpu"), where)
        ]
    difference = float(np.abs(found[0] - found[1]).max())
    return {
        "what": "largest difference of a probability from the CPU's",
        "value": difference,
        "ok": difference < TOLERANCE,
    }


def cuda_provider(image_size: int) -> dict[str, Any]:
    """Compare ONNX Runtime on the device, if its CUDA provider is there, with PyTorch on the CPU."""
    import onnxruntime

    what = "largest difference of a logit, ONNX Runtime's CUDA provider"
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return {"what": what, "note": "the provider is not installed"}
    network, spec = small_classifier(image_size)
    pixels = np.random.default_rng(0).integers(0, 256, (8, image_size, image_size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(network, spec, Path(folder, "model.onnx"))  # type: ignore[arg-type]
        difference = np.abs(
            OnnxEngine(Path(folder, "model.onnx"))(pixels) - TorchEngine(network, spec.preprocess)(pixels)
        )
    return {"what": what, "value": float(difference.max()), "ok": bool(difference.max() < 10 * TOLERANCE)}


def resumed(where: Device, image_size: int) -> dict[str, Any]:
    """Train once as a whole and once with an interruption; are the weights the same bits?"""
    x = torch.randn(48, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    y = (torch.arange(48) % 2).long()
    changes = {"tuning": "full", "batch_size": 8, "steps": 12, "warmup_steps": 2, "eval_interval": 4, "lr": 0.01}
    config = make_config("best", DatasetStats(48, 1e5, image_size), changes)

    def batches(step: int, part: slice = slice(None), stop: int | None = None) -> tuple[Tensor, Tensor]:
        if step == stop:
            raise KeyboardInterrupt
        rows = torch.from_numpy(np.random.default_rng(step).permutation(len(x))[:8])
        return x[rows][part], F.one_hot(y[rows], 2).float()[part]

    def validate(network: nn.Module) -> ValidationResult:
        return ValidationResult(1.0, 0.5)

    def fit(folder: Path, stop: int | None = None, *, resume: bool = False) -> nn.Module:
        network, _ = small_classifier(image_size)
        with RunDir.open(folder, {"config": str(config)}, resume=resume) as run:
            shown = lambda step, part=slice(None): batches(step, part, stop)  # noqa: E731
            return train(network, shown, validate, config, run, where, images=48, objective=CrossEntropy())

    with tempfile.TemporaryDirectory() as place:
        whole = fit(Path(place, "whole"))
        try:
            fit(Path(place, "broken"), stop=6)
        except KeyboardInterrupt:
            again = fit(Path(place, "broken"), resume=True)
    pairs = zip(whole.state_dict().values(), again.state_dict().values(), strict=True)
    difference = max(float((a.float() - b.float()).abs().max()) for a, b in pairs)
    return {"what": "largest difference of a weight after an interruption", "value": difference, "ok": difference == 0}


def step_of(network: nn.Module, where: Device, work: Work) -> Callable[[], None]:
    """Return a training step: forward, loss, backward, SGD with momentum."""
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    x = torch.randn(work.batch, 3, work.image_size, work.image_size, generator=torch.Generator().manual_seed(0))
    x = x.to(where.device).contiguous(memory_format=where.memory_format)
    y = (torch.arange(work.batch) % 2).to(where.device)

    def step() -> None:
        with where.autocast():
            logits = network(x)
        F.cross_entropy(logits.float(), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def images_per_second(step: Callable[[], None], where: Device, work: Work, seconds: float) -> tuple[float, float]:
    """Return images a second and peak memory in MB (not a number on a CPU), after a warm-up."""
    gpu = where.device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        step()
    wait(where)
    began, n = time.perf_counter(), 0
    while n < 3 or time.perf_counter() - began < seconds:
        step()
        n += 1
        wait(where)
    rate = n * work.batch / (time.perf_counter() - began)
    return rate, torch.cuda.max_memory_allocated() / 1e6 if gpu else float("nan")


def wait(where: Device) -> None:
    """Wait until the card is done."""
    if where.device.type == "cuda":
        torch.cuda.synchronize()


def training(work: Work, where: torch.device, *, bf16: bool, compiled: bool, seconds: float) -> list[dict[str, Any]]:
    """Measure nevus and timm in both memory formats, one after the other; compiled ones where it is asked for."""
    makers: dict[str, Callable[[], tuple[nn.Module, Device]]] = {}

    def nevus() -> tuple[nn.Module, Device]:
        network = build_backbone(work.network, classes=2, seed=0)
        return network, to_device(network, Device(where, bf16))

    makers["nevus"] = nevus
    for layout, memory in LAYOUTS.items():

        def timm(memory: torch.memory_format = memory) -> tuple[nn.Module, Device]:
            network = build_backbone(work.network, classes=2, seed=0).to(where, memory_format=memory)  # type: ignore[call-overload]
            return network, Device(where, bf16, memory)

        makers[f"timm {layout}"] = timm
    if compiled:

        def both() -> tuple[nn.Module, Device]:
            network, place = nevus()
            return torch.compile(network, dynamic=False), place  # type: ignore[return-value]

        makers["nevus, torch.compile"] = both
    rows = []
    for name, make in makers.items():
        network, place = make()
        rate, memory = images_per_second(step_of(network, place, work), place, work, seconds)
        del network
        if where.type == "cuda":
            torch.cuda.empty_cache()
        rows.append(
            {
                "what": "training step, images/s",
                "system": name,
                "network": work.network,
                "image_size": work.image_size,
                "batch": work.batch,
                "precision": "bf16" if bf16 else "fp32",
                "value": rate,
                "memory_mb": memory,
            }
        )
    best = max(row["value"] for row in rows if row["system"].startswith("timm"))
    return [{**row, "over_timm": row["value"] / best} for row in rows]


def main() -> None:
    """Check and measure; exit status 1 if a check fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="small networks and images, on any machine")
    parser.add_argument("--keep", action="store_true", help="write results/gpu.csv")
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        raise SystemExit("Cannot measure: PyTorch finds no NVIDIA GPU. Use --tiny to try the script.")
    if options.keep and (options.tiny or not torch.cuda.is_available()):
        raise SystemExit("Cannot keep: results/gpu.csv holds real runs on a GPU only. Leave --keep or --tiny out.")
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.deterministic = True  # for the check of a resumed training
    image_size = 32 if options.tiny else 128
    rows = [agreement(where, image_size), cuda_provider(image_size), resumed(Device(where, bf16=False), image_size)]
    torch.backends.cudnn.deterministic = False
    for work in TINY if options.tiny else FULL:
        for bf16 in (True, False):
            console.print(f"{work}, {'bf16' if bf16 else 'fp32'}", highlight=False)
            compiled = not options.tiny and work.image_size < 448
            seconds = 0.0 if options.tiny else 4.0
            rows += training(work, where, bf16=bf16, compiled=compiled, seconds=seconds)
    _show(rows)
    if options.keep:
        keep(rows, "gpu", ["what", "system", "network", "image_size", "batch", "precision"])
    if any(row.get("ok") is False for row in rows):
        raise SystemExit(1)


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="checks and images/s")
    heads = (
        "what",
        "system",
        "network",
        "image_size",
        "batch",
        "precision",
        "value",
        "over_timm",
        "memory_mb",
        "ok",
        "note",
    )
    for head in heads:
        table.add_column(head)
    for row in rows:
        table.add_row(*(_cell(row.get(head, "")) for head in heads))
    Console(width=180).print(table)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
