"""A bundle run by PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nevus.bundle.bundle import Bundle
from nevus.models.model import ImageClassifier
from nevus.runtime.feature_engine import TorchEngine


class GroupedClassifier(nn.Module):
    """A classifier whose output is the logits of its classes: float (n, 3, h, w) to (n, classes)."""

    def __init__(self, network: ImageClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits, with the label groups."""
        return torch.as_tensor(self.network.groups(self.network(x)))


def bundle_engine(bundle: Bundle) -> TorchEngine:
    """Make the PyTorch engine of a bundle, on a GPU where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return TorchEngine(GroupedClassifier(bundle.load_network()), bundle.spec.preprocess, device)
