"""`model.onnx`: written from a network, and checked against it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nevus._progress import ignored_warnings
from nevus.errors import NevusError
from nevus.models.model import ImageClassifier
from nevus.models.reparameterize import fold_weight_standardization
from nevus.models.spec import ModelSpec
from nevus.runtime.engines import FEATURES, LOGITS, MAPS, PIXELS, OnnxEngine
from nevus.runtime.feature_engine import NormalizedInput

OPSET = 17
TOLERANCE = 1e-4
"""Largest difference of a logit from PyTorch's, relative to the largest logit or 1."""
LARGEST = 500_000_000
"""Bytes of weights above which a training writes no `model.onnx`."""


class AllOutputs(NormalizedInput):
    """A classifier that takes pixels and gives logits, pooled features, and the feature maps of the used stages."""

    def __init__(self, classifier: ImageClassifier, spec: ModelSpec) -> None:
        super().__init__(nn.Identity(), spec.preprocess)
        self.classifier = classifier

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Map uint8 (n, image_size, image_size, 3) to all outputs of `ImageClassifier.outputs`."""
        logits, features, maps = self.classifier.outputs(self.normalized(pixels))
        return (logits, features, *maps)


def write_onnx(network: ImageClassifier, spec: ModelSpec, path: Path) -> float:
    """Write a classifier as ONNX and check it against PyTorch.

    Args:
        network: the classifier.
        spec: of it.
        path: of the file.

    Returns:
        The largest difference of a logit from PyTorch's.

    Raises:
        NevusError: the file differs from the network by more than `TOLERANCE`, or cannot be made.

    """
    module = AllOutputs(fold_weight_standardization(network).cpu(), spec).eval()
    names = [LOGITS, FEATURES, *(f"{MAPS}_{k + 1}" for k in range(spec.feature_stages))]
    export_onnx(module, spec.image_size, path, names)
    pixels = np.random.default_rng(0).integers(0, 256, (3, spec.image_size, spec.image_size, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = module(torch.from_numpy(pixels))[0].numpy()
    difference = float(np.abs(OnnxEngine(path)(pixels) - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise NevusError(f"Cannot write {path}: it differs from PyTorch by {difference:.2g}. Report this.")
    return difference


def export_onnx(module: nn.Module, image_size: int, path: Path, outputs: list[str]) -> None:
    """Write a module from pixels to named outputs as ONNX, for any batch size."""
    axes = {name: {0: "n"} for name in (PIXELS, *outputs)}
    with ignored_warnings():  # the exporter speaks of its own passes and of its successor
        torch.onnx.export(
            module,
            (torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8),),
            str(path),
            input_names=[PIXELS],
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,  # the newer one wants onnxscript as well, and gives the same graph
        )


def weight_bytes(network: nn.Module) -> int:
    """Return the size of a network's weights."""
    return sum(p.numel() * p.element_size() for p in network.parameters())
