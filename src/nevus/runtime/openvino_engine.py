"""OpenVINO on the CPU."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nevus._openvino import openvino
from nevus.runtime.engines import INFERENCE_BATCH_SIZE, cpu_threads

BATCH, BATCH_PIXELS = 8, 8 * 224 * 224
"""Images, and pixels, that a thread computes at a time: larger batches gain nothing and need memory."""


class Compiled:
    """A graph compiled for this machine's CPU: each thread computes a batch of its own, of a fixed size.

    It takes two thirds of the time of all threads on one batch of any size: OpenVINO knows the shapes, and threads do
    not wait for each other in every layer. The last batch is filled up with empty images.

    It computes in float32 unless bfloat16 is asked for; OpenVINO's own default is bfloat16 on a CPU that has it.

    Attributes:
        batch: number of images in one.

    """

    def __init__(
        self, model: openvino.Model | Path, *, bf16: bool = False, threads: int = 0, batch: int = BATCH
    ) -> None:
        """Compile a graph whose first input is uint8 (any number, image_size, image_size, 3).

        Args:
            model: it, or its file.
            bf16: compute in bfloat16.
            threads: by default one for each CPU of this process.
            batch: largest number of images that a thread computes at a time; 1 where single images are usual.

        """
        core, threads = openvino.Core(), threads or cpu_threads()
        model = core.read_model(os.fspath(model)) if isinstance(model, Path) else model.clone()
        image_size = model.input(0).partial_shape[1].get_length()
        self.batch = max(1, min(batch, BATCH_PIXELS // image_size**2, INFERENCE_BATCH_SIZE // threads))
        model.reshape([self.batch, image_size, image_size, 3])
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # else several processes would share one core
        }
        self._compiled = core.compile_model(model, "CPU", settings)
        self._queue = openvino.AsyncInferQueue(self._compiled, threads)
        self._width = self._compiled.output(0).shape[1]

    def setting(self, name: str) -> str:
        """Return a property of the compiled model."""
        return str(self._compiled.get_property(name))

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 (n, image_size, image_size, 3) to the first output, float32 (n, outputs)."""
        out = np.empty((len(pixels), self._width), np.float32)

        def store(request: openvino.InferRequest, start: int) -> None:
            part = out[start : start + self.batch]
            part[:] = request.get_output_tensor(0).data[: len(part)]

        self._queue.set_callback(store)
        for start in range(0, len(pixels), self.batch):
            part = pixels[start : start + self.batch]
            if len(part) < self.batch:
                part = np.concatenate([part, np.zeros((self.batch - len(part), *part.shape[1:]), np.uint8)])
            self._queue.start_async([np.ascontiguousarray(part)], start)
        self._queue.wait_all()
        return out


def first_output(path: Path) -> openvino.Model:
    """Read a model file with its first output alone: every further one costs a copy."""
    model = openvino.Core().read_model(os.fspath(path))
    for result in model.get_results()[1:]:
        model.remove_result(result)
    return model


def cpu_has_bf16() -> bool:
    """Whether this CPU computes in bfloat16."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
