"""Engines for a network in memory: features of a frozen backbone, and predictions while it is trained."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nevus._openvino import openvino
from nevus._progress import console, ignored_warnings
from nevus.data.cache import Cache
from nevus.data.preprocess import Preprocess
from nevus.data.transforms import normalize
from nevus.errors import NevusError
from nevus.models.bulk_features import BulkFeatures
from nevus.models.reparameterize import fold_weight_standardization
from nevus.runtime.device import Device, device, has_bf16, to_device
from nevus.runtime.engines import Engine
from nevus.runtime.openvino_engine import Compiled
from nevus.runtime.precision import Precision

VERSION = 2
"""Changes whenever a graph would be made in another way."""


class NormalizedInput(nn.Module):
    """A network that takes pixels: uint8 (n, image_size, image_size, 3) to the network's output."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std))
        # (x / 255 - mean) / std
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def normalized(self, pixels: Tensor) -> Tensor:
        """Return the network's input, float32 (n, 3, image_size, image_size)."""
        return pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift

    def forward(self, pixels: Tensor) -> Any:
        """Normalize, then the network."""
        return self.network(self.normalized(pixels))


class TorchEngine:
    """A network made ready for inference in PyTorch: weight standardization folded, float32, channels_last.

    It computes in float32 whatever the training used, so that a bundle gives the same results on every machine.
    """

    def __init__(self, network: nn.Module, preprocess: Preprocess, device: torch.device | None = None) -> None:
        self.preprocess = preprocess
        self.device = device or torch.device("cpu")
        self.network = fold_weight_standardization(network)
        to_device(self.network, Device(self.device, bf16=False))

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 (n, image_size, image_size, 3) to the network's output, float32 (n, outputs)."""
        with torch.inference_mode():
            writable = np.require(pixels, requirements=["C", "W"])  # as PyTorch wants it
            images = normalize(torch.from_numpy(writable).to(self.device), self.preprocess)
            out = self.network(images.contiguous(memory_format=torch.channels_last))
        return np.asarray(out.float().cpu().numpy(), np.float32)


def network_engine(
    network: nn.Module, preprocess: Preprocess, where: torch.device | None = None, *, bf16: bool = False
) -> Engine:
    """Make a network ready for inference: by OpenVINO on a CPU, by PyTorch on a GPU or where OpenVINO fails.

    Args:
        network: float (n, 3, image_size, image_size) to one output (n, outputs).
        preprocess: of the network.
        where: the CPU by default.
        bf16: compute in bfloat16, on the CPU.

    Raises:
        NevusError: bfloat16 is asked for, and does not run here.

    """
    if where is not None and where.type != "cpu":
        return TorchEngine(network, preprocess, where)
    try:
        return Compiled(cached_graph(network, preprocess), bf16=bf16)
    except RuntimeError as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if bf16:
            raise NevusError(f"Cannot compute in bfloat16: {reason}. Leave precision=bf16 out.") from None
        console.print(f"OpenVINO does not run this network here ({reason}); PyTorch does.", style="yellow")
        return TorchEngine(network, preprocess, where)


def features_in_bf16(precision: Precision) -> bool:
    """Whether features of training images are computed in bfloat16: on a CPU, if it is asked for by name."""
    return precision == "bf16" and device(precision).device.type == "cpu"


def feature_engine(network: nn.Module, preprocess: Preprocess, exact: Engine, precision: Precision) -> Engine:
    """Make the engine for features of the images that a linear probe is trained on.

    They are computed in float32, as everything is that a bundle is evaluated by. With `bf16` on a CPU they are
    computed in bfloat16 and in the form of `BulkFeatures`, which takes a third of the time and hardly changes a linear
    probe.

    Args:
        network: the frozen backbone.
        preprocess: of the network.
        exact: its engine in float32.
        precision: of the training.

    Raises:
        NevusError: bfloat16 is asked for, and this CPU does not support it.

    """
    if not features_in_bf16(precision):
        return exact
    if not has_bf16(torch.device("cpu")):
        raise NevusError("Cannot compute in bfloat16: this CPU does not support it. Leave precision=bf16 out.")
    return network_engine(BulkFeatures(network), preprocess, bf16=True)


def openvino_model(network: nn.Module, preprocess: Preprocess) -> openvino.Model:
    """Convert a network to an OpenVINO graph: normalization inside, weight standardization folded, any batch size.

    Args:
        network: float (n, 3, image_size, image_size) to one output (n, ...).
        preprocess: of the network.

    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    module = NormalizedInput(fold_weight_standardization(network).cpu(), preprocess).eval()
    image_size = preprocess.image_size
    frontend = FrontEndManager().load_by_framework("pytorch")
    with ignored_warnings(), torch.no_grad():  # the tracer's, about shapes that are constants here
        example = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
        # Held by a name: the graph's weights are the module's until it is compiled. The tracer's own check would
        # run the network twice more, on an empty image; tests and exports compare graph and network on real ones.
        decoder = TorchScriptPythonDecoder(
            module, example_input=(example,), shared_memory=False, trace_kwargs={"check_trace": False}
        )
        loaded = frontend.load(decoder)
        model = frontend.convert(loaded)
    model.reshape([-1, image_size, image_size, 3])
    return model


def cached_graph(network: nn.Module, preprocess: Preprocess) -> openvino.Model:
    """Return the graph of a network from the cache, else make it and cache it.

    It is found by the digest of the weights, of the modules' settings and of the preprocessing, and by OpenVINO's
    version.
    """
    key = _key(network, preprocess)
    with contextlib.closing(Cache()) as cache:
        xml, weights = cache.get("graphs", f"{key}.xml"), cache.get("graphs", f"{key}.bin")
        if xml is not None and weights is not None:
            return openvino.Core().read_model(xml, weights)
        model = openvino_model(network, preprocess)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "graph.xml"
            openvino.save_model(model, path, compress_to_fp16=False)
            cache.put("graphs", f"{key}.bin", path.with_suffix(".bin").read_bytes())
            cache.put("graphs", f"{key}.xml", path.read_bytes())
    return model


def _key(network: nn.Module, preprocess: Preprocess) -> str:
    digest = hashlib.sha256(f"{openvino.__version__} {VERSION} {preprocess} {network}".encode())
    for key, value in network.state_dict().items():
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
