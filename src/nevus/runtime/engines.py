"""Engines: a saved model made ready for inference, without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from nevus._progress import progress
from nevus.errors import NevusError

INFERENCE_BATCH_SIZE = 32

EngineName = Literal["auto", "onnx", "openvino", "openvino-bf16", "torch"]
"""`auto` and `onnx` run `model.onnx` by ONNX Runtime, `openvino` by OpenVINO, `torch` the network by PyTorch; all
compute in float32. `openvino-bf16` is faster on a CPU with bfloat16 and differs in the third digit."""

PIXELS, LOGITS, FEATURES, FINE_LOGITS, EVIDENCE = "pixels", "logits", "features", "fine_logits", "evidence"
"""Input (uint8, normalized inside the graph) and outputs of `model.onnx`.

`fine_logits`, where there are label groups, are those of the fine classes. The evidence maps are `evidence_1`,
`evidence_2`, ... from the earliest used stage on; the last one is that of the last feature map. See
`nevus.models.model.ImageClassifier.outputs`."""


class Engine(Protocol):
    """A network made ready for inference."""

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 (n, image_size, image_size, 3) to logits, float32 (n, classes)."""
        ...


class Sliceable(Protocol):
    """Images that are read when they are asked for, uint8 (n, image_size, image_size, 3)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]: ...


def cpu_threads() -> int:
    """Return the number of threads to compute with: `OMP_NUM_THREADS`, else the CPUs of this process."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _share_arena() -> None:
    """Let all sessions of this process take their memory from one arena; networks of an ensemble run in turn."""
    import onnxruntime

    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(0, -1, -1, -1))  # its own defaults


@cache
def _callers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cpu_threads(), thread_name_prefix="onnx")


class OnnxEngine:
    """`model.onnx`, or another file, run by ONNX Runtime; on a GPU where its CUDA provider is installed.

    On a CPU each thread computes an image of its own. That takes two thirds of the time of a batch on all threads,
    which wait for each other in every layer, and the memory of few images.
    """

    def __init__(self, path: Path) -> None:
        """Load a model.

        Raises:
            NevusError: ONNX Runtime cannot load the file.

        """
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cpu_threads()
        # Threads that wait in a loop take the time of those that decode images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        preferred = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in preferred if name in onnxruntime.get_available_providers()]
        self._one_by_one = providers == ["CPUExecutionProvider"]
        try:
            self._session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
        except Exception as error:  # its errors have no common class but this one
            raise NevusError(f"Cannot load {path}: {str(error).splitlines()[0]}. Copy the bundle again.") from None

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of all outputs."""
        return tuple(output.name for output in self._session.get_outputs())

    def outputs(self, pixels: NDArray[np.uint8], names: Sequence[str]) -> list[NDArray[np.float32]]:
        """Compute the named outputs of uint8 (n, image_size, image_size, 3)."""

        def run(part: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
            return list(self._session.run(list(names), {PIXELS: np.ascontiguousarray(part)}))

        if len(pixels) < 2 or not self._one_by_one:
            return run(pixels)
        images = (pixels[row : row + 1] for row in range(len(pixels)))
        return [np.concatenate(values) for values in zip(*_callers().map(run, images), strict=True)]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 (n, image_size, image_size, 3) to the first output, float32 (n, classes)."""
        return np.asarray(self.outputs(pixels, self.output_names[:1])[0], np.float32)


def file_engine(path: Path, name: EngineName) -> Engine:
    """Load a model file into the engine of a name.

    Args:
        path: of `model.onnx`.
        name: `auto`, `onnx`, `openvino` or `openvino-bf16`.

    Raises:
        NevusError: the engine does not run here.

    """
    if name in ("auto", "onnx"):
        return OnnxEngine(path)
    try:
        from nevus.runtime.openvino_engine import Compiled, cpu_has_bf16, first_output

        if name == "openvino-bf16" and not cpu_has_bf16():
            raise NevusError("Cannot compute in bfloat16: this CPU does not support it. Use --engine openvino.")
        return Compiled(first_output(path), bf16=name == "openvino-bf16", batch=1)
    except ImportError:
        raise NevusError(
            'Cannot use OpenVINO: it is not installed. Install it with pip install "nevus[export]".'
        ) from None
    except RuntimeError as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise NevusError(f"Cannot run {path} by OpenVINO: {reason}. Use --engine onnx.") from None


def run_batched(
    engine: Callable[[Any], NDArray[np.float32]],
    pixels: Sliceable | NDArray[np.uint8],
    *,
    what: str,
    batch: int = INFERENCE_BATCH_SIZE,
) -> NDArray[np.float32]:
    """Run an engine over any number of images, uint8 (n, image_size, image_size, 3), with a progress bar."""
    parts = []
    with progress() as bar:
        task = bar.add_task(what, total=len(pixels), note="")
        for start in range(0, len(pixels), batch):
            parts.append(engine(pixels[start : start + batch]))
            bar.advance(task, len(parts[-1]))
    return np.concatenate(parts)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return probabilities in float64, rows summing to 1; shape kept."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    np.exp(wide, out=wide)
    return np.asarray(wide / wide.sum(axis=1, keepdims=True), np.float64)
