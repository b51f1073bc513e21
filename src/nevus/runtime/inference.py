"""Running a network over many images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nevus.data.pixels import Squares
from nevus.data.preprocess import Preprocess
from nevus.models.folding import folded
from nevus.progress import progress
from nevus.runtime.device import Device, placed

BATCH = 32


class TorchEngine:
    """A network made ready for inference in PyTorch: folded, float32, channels_last.

    Float32 whatever the training used, so that a bundle gives the same figures on every machine.
    """

    def __init__(self, network: nn.Module, preprocess: Preprocess, device: torch.device | None = None) -> None:
        self.preprocess = preprocess
        self.device = device or torch.device("cpu")
        self.network = folded(network)
        placed(self.network, Device(self.device, bf16=False))

    def __call__(self, pixels: np.ndarray) -> NDArray[np.float32]:
        """uint8 (n, side, side, 3) to the network's output, float32 (n, outputs)."""
        with torch.inference_mode():
            images = self.preprocess.tensor(torch.from_numpy(pixels).to(self.device))
            out = self.network(images.contiguous(memory_format=torch.channels_last))
        return np.asarray(out.float().cpu().numpy(), np.float32)

    def many(self, pixels: np.ndarray | Squares, *, what: str, batch: int = BATCH) -> NDArray[np.float32]:
        """The same for any number of images, in batches, with a progress bar."""
        parts = []
        with progress() as bar:
            task = bar.add_task(what, total=len(pixels), note="")
            for start in range(0, len(pixels), batch):
                parts.append(self(pixels[start : start + batch]))
                bar.advance(task, len(parts[-1]))
        return np.concatenate(parts)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities in float64, rows summing to 1; shape kept."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    np.exp(wide, out=wide)
    return np.asarray(wide / wide.sum(axis=1, keepdims=True), np.float64)
