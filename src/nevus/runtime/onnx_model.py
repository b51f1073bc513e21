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
from nevus.runtime.engines import EVIDENCE, FEATURES, FINE_LOGITS, LOGITS, PIXELS, OnnxEngine
from nevus.runtime.feature_engine import NormalizedInput

OPSET = 17
TOLERANCE = 1e-4
"""Largest difference of a logit from PyTorch's, relative to the largest logit or 1."""
EVIDENCE_TOLERANCE = 1e-3
"""Largest difference between the sum of the evidence maps and a logit, relative to the largest logit or 1; a network
that pools in another way gets no such maps."""
LARGEST = 500_000_000
"""Bytes of weights above which a training writes no `model.onnx`."""


class AllOutputs(NormalizedInput):
    """A classifier that takes pixels and gives logits, pooled features, and the evidence maps."""

    def __init__(self, classifier: ImageClassifier, spec: ModelSpec) -> None:
        super().__init__(nn.Identity(), spec.preprocess)
        self.classifier = classifier
        self.with_evidence = True
        self.grouped = spec.label_groups is not None

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Map uint8 (n, image_size, image_size, 3) to all outputs of `ImageClassifier.outputs`."""
        logits, features, evidence = self.classifier.outputs(self.normalized(pixels))
        if not self.with_evidence:
            return logits, features
        fine = (self.classifier.head(features),) if self.grouped else ()
        return (logits, features, *fine, *evidence)


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
    pixels = np.random.default_rng(0).integers(0, 256, (3, spec.image_size, spec.image_size, 3), dtype=np.uint8)
    module.with_evidence = _adds_up(module, torch.from_numpy(pixels))
    with torch.inference_mode():
        outputs = module(torch.from_numpy(pixels))
    fine = [FINE_LOGITS] if module.with_evidence and module.grouped else []
    names = [LOGITS, FEATURES, *fine]
    names += [f"{EVIDENCE}_{k + 1}" for k in range(len(outputs) - len(names))]
    export_onnx(module, spec.image_size, path, names)
    expected = outputs[0].numpy()
    difference = float(np.abs(OnnxEngine(path)(pixels) - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise NevusError(f"Cannot write {path}: it differs from PyTorch by {difference:.2g}. Report this.")
    return difference


def _adds_up(module: AllOutputs, pixels: Tensor) -> bool:
    """Whether the evidence maps and the head's bias add up to the logits of the fine classes."""
    head = module.classifier.head
    with torch.inference_mode():
        _, features, evidence = module.classifier.outputs(module.normalized(pixels))
        if not evidence:
            return False
        total = torch.stack([one.sum((2, 3)) for one in evidence]).sum(0) + head.bias
        logits = head(features)
    return bool((total - logits).abs().max() <= EVIDENCE_TOLERANCE * max(1.0, float(logits.abs().max())))


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
