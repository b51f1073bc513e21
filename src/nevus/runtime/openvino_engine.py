"""OpenVINO on the CPU."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nevus._openvino import openvino
from nevus.runtime.engines import cpu_threads


class Compiled:
    """A graph compiled for this machine's CPU.

    It computes in float32 unless bfloat16 is asked for; OpenVINO's own default is bfloat16 on a CPU that has it.
    """

    def __init__(self, model: openvino.Model | Path, *, bf16: bool = False, threads: int = 0) -> None:
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or cpu_threads(),
            "ENABLE_CPU_PINNING": False,  # else several processes would share one core
        }
        self._compiled = openvino.Core().compile_model(
            os.fspath(model) if isinstance(model, Path) else model, "CPU", settings
        )

    def setting(self, name: str) -> str:
        """Return a property of the compiled model."""
        return str(self._compiled.get_property(name))

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 (n, image_size, image_size, 3) to the output, float32 (n, outputs)."""
        return np.array(self._compiled(np.ascontiguousarray(pixels))[0], np.float32)


def first_output(path: Path) -> openvino.Model:
    """Read a model file with its first output alone: every further one costs a copy."""
    model = openvino.Core().read_model(os.fspath(path))
    for result in model.get_results()[1:]:
        model.remove_result(result)
    return model


def cpu_has_bf16() -> bool:
    """Whether this CPU computes in bfloat16."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
