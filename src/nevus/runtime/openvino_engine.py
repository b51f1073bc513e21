"""Networks as OpenVINO graphs that take pixels."""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nevus._io import cache_folder, sha256_bytes
from nevus._openvino import openvino
from nevus.data.preprocess import Preprocess
from nevus.models.reparameterize import fold_weight_standardization

VERSION = 1
"""Changes whenever a graph would be made in another way."""


class NormalizedInput(nn.Module):
    """A network that takes pixels: uint8 (n, side, side, 3) to the network's output."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std))
        # (x / 255 - mean) / std
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, pixels: Tensor) -> Any:
        """Normalize, then the network."""
        return self.network(pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift)


def openvino_model(network: nn.Module, preprocess: Preprocess) -> openvino.Model:
    """An OpenVINO graph of a network, its preprocessing inside, weight standardization folded, for any batch.

    Args:
        network: float (n, 3, side, side) to one output (n, ...).
        preprocess: of the network.

    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    module = NormalizedInput(fold_weight_standardization(network).cpu(), preprocess).eval()
    side = preprocess.side
    frontend = FrontEndManager().load_by_framework("pytorch")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's, about shapes that are constants here
        example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
        # Held by a name: the graph's weights are the module's until it is compiled. The tracer's own check would
        # run the network twice more, on an empty picture; tests and exports compare graph and network on real ones.
        decoder = TorchScriptPythonDecoder(
            module, example_input=(example,), shared_memory=False, trace_kwargs={"check_trace": False}
        )
        loaded = frontend.load(decoder)
        model = frontend.convert(loaded)
    model.reshape([-1, side, side, 3])
    return model


def cached_graph(network: nn.Module, preprocess: Preprocess) -> openvino.Model | Path:
    """The graph of a network from the cache, else made and kept there.

    It is found by the digest of the weights, of the modules' settings and of the preprocessing, and by OpenVINO's
    version. Where the cache cannot be written it is made anew each time.
    """
    name = sha256_bytes(_described(network, preprocess)).removeprefix("sha256:")[:32]
    path = cache_folder("graphs") / name / "graph.xml"
    if path.is_file():
        return path
    model = openvino_model(network, preprocess)
    aside = path.parent.with_name(f".{name}.{os.getpid()}.part")
    try:
        aside.mkdir(parents=True)
        openvino.save_model(model, aside / path.name, compress_to_fp16=False)
        aside.rename(path.parent)  # both files at once, or none
    except (OSError, RuntimeError):  # another process was faster, or there is no room
        shutil.rmtree(aside, ignore_errors=True)
    return model


def _described(network: nn.Module, preprocess: Preprocess) -> bytes:
    digest = hashlib.sha256(f"{openvino.__version__} {VERSION} {preprocess} {network}".encode())
    for key, value in network.state_dict().items():
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()


class Compiled:
    """A graph made ready for this machine's CPU.

    Numbers are float32 unless bfloat16 is asked for: left to itself OpenVINO computes in it on a CPU that has it.
    """

    def __init__(self, model: openvino.Model | Path, *, bf16: bool = False, threads: int = 0) -> None:
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # else several processes would share one core
        }
        self._compiled = openvino.Core().compile_model(
            os.fspath(model) if isinstance(model, Path) else model, "CPU", settings
        )

    def setting(self, name: str) -> str:
        """A property of OpenVINO's, as it was taken."""
        return str(self._compiled.get_property(name))

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Uint8 (n, side, side, 3) to the output, float32 (n, outputs)."""
        return np.array(self._compiled(np.ascontiguousarray(pixels))[0], np.float32)
