"""Running a network over many images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nevus._progress import console, progress
from nevus.data.decoded import DecodedImages
from nevus.data.preprocess import Preprocess
from nevus.data.transforms import AugmentedImages
from nevus.errors import NevusError
from nevus.models.handcrafted.classifier import Handcrafted
from nevus.models.reparameterize import fold_weight_standardization
from nevus.runtime.device import Device, Precision, device, has_bf16, to_device

INFERENCE_BATCH_SIZE = 32

EngineName = Literal["auto", "openvino", "openvino-bf16", "torch"]


class Engine(Protocol):
    """A network made ready for inference; all that compute in float32 give the same numbers to float rounding."""

    @property
    def preprocess(self) -> Preprocess:
        """Of the network."""
        ...

    def __call__(self, pixels: np.ndarray) -> NDArray[np.float32]:
        """uint8 (n, side, side, 3) to the network's output, float32 (n, outputs)."""
        ...


def make_engine(
    network: nn.Module | Handcrafted,
    preprocess: Preprocess,
    where: torch.device | None = None,
    name: EngineName = "auto",
) -> Engine:
    """The engine for the machine at hand: OpenVINO on a CPU, PyTorch on a GPU or where OpenVINO does not run.

    Args:
        network: images, float (n, 3, side, side), to one output; or handcrafted features with an estimator.
        preprocess: of the network.
        where: by default the CPU.
        name: one to insist on; handcrafted features are computed as they are whatever it says. `openvino-bf16`
            trades digits for speed, on a CPU that computes in bfloat16; nothing chooses it by itself.

    Raises:
        NevusError: the one to insist on does not run here.

    """
    if isinstance(network, Handcrafted):
        return HandcraftedEngine(network, preprocess)
    cpu = where is None or where.type == "cpu"
    if name == "torch" or (name == "auto" and not cpu):
        return TorchEngine(network, preprocess, where)
    if not cpu:
        raise NevusError("OpenVINO computes on the CPU here; choose --engine torch for the GPU.")
    bf16 = name == "openvino-bf16"
    if bf16 and not has_bf16(torch.device("cpu")):
        raise NevusError("this CPU does not compute in bfloat16; use --engine openvino.")
    try:
        return OpenVinoEngine(network, preprocess, bf16=bf16)
    except (ImportError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if name != "auto":
            raise NevusError(f"OpenVINO does not run this network here ({reason}); use --engine torch.") from None
        console.print(f"OpenVINO does not run this network here ({reason}); PyTorch does.", style="yellow")
        return TorchEngine(network, preprocess, where)


def features_in_bf16(precision: Precision) -> bool:
    """Whether features of training images are computed in bfloat16: on a CPU, where it is asked for by name."""
    return precision == "bf16" and device(precision).device.type == "cpu"


def feature_engine(network: nn.Module, exact: Engine, precision: Precision) -> Engine:
    """The engine for features of images that a head is trained on.

    In float32, as everything is that a bundle is judged by; where `bf16` is insisted on and a CPU computes,
    in bfloat16: a head hardly sees the digits, and its features take half of the time or less.

    Args:
        network: the frozen trunk.
        exact: its engine in float32.
        precision: of the recipe.

    Raises:
        NevusError: bfloat16 is insisted on, and this CPU does not compute in it, or OpenVINO does not run.

    """
    if not features_in_bf16(precision):
        return exact
    try:
        return make_engine(network, exact.preprocess, name="openvino-bf16")
    except NevusError as error:
        raise NevusError(f"{str(error).partition(';')[0]}; leave --precision bf16 out.") from None


@dataclass(frozen=True)
class HandcraftedEngine:
    """Handcrafted features and what an estimator says of them."""

    model: Handcrafted
    preprocess: Preprocess

    def __call__(self, pixels: np.ndarray) -> NDArray[np.float32]:
        """uint8 (n, side, side, 3) to the logarithms of the probabilities, float32 (n, classes)."""
        return self.model(pixels)


class OpenVinoEngine:
    """A network as an OpenVINO graph: folded, its preprocessing inside, float32 unless bfloat16 is asked for.

    Made for one network once; what it was made of is kept in the cache, for the next start.
    """

    def __init__(self, network: nn.Module, preprocess: Preprocess, *, bf16: bool = False) -> None:
        from nevus.runtime.openvino_engine import Compiled, cached_graph

        self.preprocess = preprocess
        self._graph = Compiled(cached_graph(network, preprocess), bf16=bf16)

    def __call__(self, pixels: np.ndarray) -> NDArray[np.float32]:
        """uint8 (n, side, side, 3) to the network's output, float32 (n, outputs)."""
        return self._graph(pixels)


class TorchEngine:
    """A network made ready for inference in PyTorch: folded, float32, channels_last.

    Float32 whatever the training used, so that a bundle gives the same figures on every machine.
    """

    def __init__(self, network: nn.Module, preprocess: Preprocess, device: torch.device | None = None) -> None:
        self.preprocess = preprocess
        self.device = device or torch.device("cpu")
        self.network = fold_weight_standardization(network)
        to_device(self.network, Device(self.device, bf16=False))

    def __call__(self, pixels: np.ndarray) -> NDArray[np.float32]:
        """uint8 (n, side, side, 3) to the network's output, float32 (n, outputs)."""
        with torch.inference_mode():
            images = self.preprocess.tensor(torch.from_numpy(pixels).to(self.device))
            out = self.network(images.contiguous(memory_format=torch.channels_last))
        return np.asarray(out.float().cpu().numpy(), np.float32)


def run_batched(
    engine: Callable[[np.ndarray], NDArray[np.float32]],
    pixels: np.ndarray | DecodedImages | AugmentedImages,
    *,
    what: str,
    batch: int = INFERENCE_BATCH_SIZE,
) -> NDArray[np.float32]:
    """An engine over any number of images, uint8 (n, side, side, 3), in batches, with a progress bar."""
    parts = []
    with progress() as bar:
        task = bar.add_task(what, total=len(pixels), note="")
        for start in range(0, len(pixels), batch):
            parts.append(engine(pixels[start : start + batch]))
            bar.advance(task, len(parts[-1]))
    return np.concatenate(parts)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities in float64, rows summing to 1; shape kept."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    np.exp(wide, out=wide)
    return np.asarray(wide / wide.sum(axis=1, keepdims=True), np.float64)
