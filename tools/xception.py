"""Xception as Keras has it (Chollet 2017), with the head of the package sklesion, from its `model.weights.h5`.

Keras pads at the bottom and the right where the padding of a stride is odd; timm's Xception does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-3
CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
METADATA = 10
"""Inputs for sex, site and age; all 0 here."""


class Separable(nn.Sequential):
    """Depthwise 3x3, pointwise 1x1, batch normalization: float (n, c, h, w) to (n, width, h, w)."""

    def __init__(self, c: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False),
            nn.Conv2d(c, width, 1, bias=False),
            nn.BatchNorm2d(width, eps=EPS),
        )


class Halved(nn.Module):
    """Two separable convolutions and a max-pool beside a 1x1 shortcut, both with stride 2."""

    def __init__(self, c: int, widths: tuple[int, int], *, first_relu: bool = True) -> None:
        super().__init__()
        self.first_relu = first_relu
        self.separable = nn.ModuleList([Separable(c, widths[0]), Separable(widths[0], widths[1])])
        self.shortcut = nn.Conv2d(c, widths[1], 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(widths[1], eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Float (n, c, h, w) to (n, width, ceil(h / 2), ceil(w / 2))."""
        y = self.separable[0](x.relu() if self.first_relu else x)
        y = self.separable[1](y.relu())
        return torch.as_tensor(same_max_pool(y) + self.norm(self.shortcut(x)))


class Middle(nn.Module):
    """Three separable convolutions and an identity shortcut."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.separable = nn.ModuleList([Separable(c, c) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        """Float (n, c, h, w), the same shape."""
        y = x
        for layer in self.separable:
            y = layer(y.relu())
        return x + y


def same_max_pool(x: Tensor) -> Tensor:
    """Keras's 3x3 max-pool with stride 2 and padding "same"."""
    left, right = zip(*(_padding(int(n)) for n in x.shape[:1:-1]), strict=True)  # constants, when it is traced
    return F.max_pool2d(F.pad(x, (left[0], right[0], left[1], right[1]), value=float("-inf")), 3, 2)


def _padding(n: int) -> tuple[int, int]:
    total = max((-(-n // 2) - 1) * 2 + 3 - n, 0)
    return total // 2, total - total // 2


class Xception(nn.Module):
    """Normalized images to pooled features, then the probabilities of `CLASSES`: float (n, 2048 + 7)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ModuleList([nn.Conv2d(3, 32, 3, stride=2, bias=False), nn.Conv2d(32, 64, 3, bias=False)])
        self.stem_norm = nn.ModuleList([nn.BatchNorm2d(c, eps=EPS) for c in (32, 64)])
        self.entry = nn.ModuleList(
            [Halved(64, (128, 128), first_relu=False), Halved(128, (256, 256)), Halved(256, (728, 728))]
        )
        self.middle = nn.ModuleList([Middle(728) for _ in range(8)])
        self.exit = Halved(728, (728, 1024))
        self.last = nn.ModuleList([Separable(1024, 1536), Separable(1536, 2048)])
        self.metadata = nn.ModuleList([nn.Linear(METADATA, 224), nn.BatchNorm1d(224, eps=EPS), nn.Linear(224, 64)])
        self.hidden = nn.Linear(2048, 264)
        self.hidden_norm, self.metadata_norm = nn.BatchNorm1d(264, eps=EPS), nn.BatchNorm1d(64, eps=EPS)
        self.joined, self.joined_norm = nn.Linear(264 + 64, 32), nn.BatchNorm1d(32, eps=EPS)
        self.classifier = nn.Linear(32, len(CLASSES))

    def maps(self, x: Tensor) -> Tensor:
        """Float (n, 3, 254, 254) to the last feature maps, float (n, 2048, 8, 8)."""
        for conv, norm in zip(self.stem, self.stem_norm, strict=True):
            x = norm(conv(x)).relu()
        for block in (*self.entry, *self.middle, self.exit):
            x = block(x)
        for layer in self.last:
            x = layer(x).relu()
        return x

    def features(self, x: Tensor) -> Tensor:
        """Float (n, 3, 254, 254) to the mean over the last maps, float (n, 2048)."""
        return self.maps(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Float (n, 3, 254, 254) to float (n, 2048 + 7)."""
        features = self.features(x)
        known = features[:, :METADATA] * 0  # of any batch size when it is traced
        first, norm, second = self.metadata
        known = self.metadata_norm(second(norm(first(known).relu())).relu())
        joined = torch.cat([self.hidden_norm(self.hidden(features).relu()), known], 1)
        logits = self.classifier(self.joined_norm(self.joined(joined).relu()))
        return torch.cat([features, logits.softmax(1)], 1)


class XceptionBackbone(nn.Module):
    """The convolutions with the interface of timm's networks."""

    num_features = 2048

    def __init__(self, whole: Xception) -> None:
        super().__init__()
        self.whole = whole

    def forward_features(self, x: Tensor) -> Tensor:
        """Float (n, 3, h, w) to float (n, 2048, h / 32, w / 32)."""
        return self.whole.maps(x)

    def forward_head(self, x: Tensor, pre_logits: bool = True) -> Tensor:
        """Pool the maps: float (n, 2048)."""
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Float (n, 3, h, w) to float (n, 2048)."""
        return self.forward_head(self.forward_features(x))


def read_xception(path: Path) -> tuple[Xception, NDArray[np.float64], NDArray[np.float64]]:
    """Read `model.weights.h5`; returns the network, and mean and variance of its normalization (0 to 255)."""
    net = Xception().eval()
    with h5py.File(path) as file:
        layers = file["layers"]
        for (kind, number), module in _numbered(net):
            _assign(module, _arrays(layers["functional/layers"], kind, number))
        for number, module in enumerate((net.metadata[0], net.hidden, net.metadata[2], net.joined, net.classifier)):
            _assign(module, _arrays(layers, "dense", number))
        for number, module in enumerate((net.metadata[1], net.hidden_norm, net.metadata_norm, net.joined_norm)):
            _assign(module, _arrays(layers, "batch_normalization", number))
        mean, variance = (np.array(layers["normalization/vars"][k]).reshape(-1) for k in "01")
    return net, mean.astype(np.float64), variance.astype(np.float64)


def _arrays(layers: h5py.Group, kind: str, number: int) -> list[NDArray[np.float32]]:
    """Return the arrays of a layer; Keras numbers the layers of a kind from 0, without the 0."""
    arrays = layers[f"{kind}_{number}" if number else kind]["vars"]
    return [np.array(arrays[key]) for key in sorted(arrays)]


def _numbered(net: Xception) -> Iterator[tuple[tuple[str, int], nn.Module]]:
    """Yield the convolutional layers with the numbers that Keras gives them, by kind, in the order of the network."""
    counts = {"conv2d": 0, "separable_conv2d": 0, "batch_normalization": 0}

    def numbered(kind: str, module: nn.Module) -> tuple[tuple[str, int], nn.Module]:
        counts[kind] += 1
        return (kind, counts[kind] - 1), module

    def separable(layer: nn.Module) -> Iterator[tuple[tuple[str, int], nn.Module]]:
        assert isinstance(layer, Separable)
        yield numbered("separable_conv2d", layer)
        yield numbered("batch_normalization", layer[2])

    for conv, norm in zip(net.stem, net.stem_norm, strict=True):
        yield numbered("conv2d", conv)
        yield numbered("batch_normalization", norm)
    for block in (*net.entry, *net.middle, net.exit):
        for layer in block.separable:
            yield from separable(layer)
        if isinstance(block, Halved):
            yield numbered("conv2d", block.shortcut)
            yield numbered("batch_normalization", block.norm)
    for layer in net.last:
        yield from separable(layer)


def _assign(module: nn.Module, values: list[NDArray[np.float32]]) -> None:
    """Copy Keras's arrays into a layer: kernels are (h, w, in, out), a depthwise one (h, w, in, 1)."""
    tensors = [torch.from_numpy(value) for value in values]
    if isinstance(module, Separable):
        targets = [module[0].weight, module[1].weight]
        tensors = [tensors[0].permute(2, 3, 0, 1), tensors[1].permute(3, 2, 0, 1)]
    elif isinstance(module, nn.Conv2d):
        targets, tensors = [module.weight], [tensors[0].permute(3, 2, 0, 1)]
    elif isinstance(module, nn.Linear):
        targets, tensors = [module.weight, module.bias], [tensors[0].T, tensors[1]]
    else:
        assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        targets = [module.weight, module.bias, module.running_mean, module.running_var]
    for target, tensor in zip(targets, tensors, strict=True):
        assert target is not None
        assert target.shape == tensor.shape, (module, tensor.shape)
        target.data.copy_(tensor)
