"""8 bits within PyTorch: integers kept, float32 computed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.layers import Conv2dSame
from timm.layers.conv2d_same import conv2d_same
from torch import Tensor, nn

from nevus.errors import NevusError

LEVELS = 255
"""Steps between the lowest and the highest 8-bit value."""


@dataclass
class Range:
    """Lowest and highest value that went into a layer; 0 is always within, so that padding stays exact."""

    low: float = 0.0
    high: float = 0.0

    def see(self, x: Tensor) -> None:
        """Widen it."""
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))


class Rounded(nn.Module):
    """A convolution or a product whose inputs and weights take 256 values each.

    Weights are kept as int8, with a scale an output channel; inputs are rounded to steps of one size. Both are then
    multiplied in float32: PyTorch's exported programs know no integer convolution of their own, so that this is a
    quarter of the size, and no faster.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Conv2d | nn.Linear, seen: Range) -> None:
        super().__init__()
        whole = layer.weight.detach()
        flat = whole.flatten(1).abs().amax(1).clamp_min(1e-12) / 127
        scale = flat.view(-1, *([1] * (whole.dim() - 1)))
        self.register_buffer("weight", (whole / scale).round().clamp(-127, 127).to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())
        self.step = max(seen.high - seen.low, 1e-12) / LEVELS
        self.zero = round(-seen.low / self.step)
        self._same = isinstance(layer, Conv2dSame)
        self._how: dict[str, Any] = (
            {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
            if isinstance(layer, nn.Conv2d)
            else {}
        )

    def forward(self, x: Tensor) -> Tensor:
        """As the layer, to rounding."""
        levels = torch.clamp(torch.round(x / self.step) + self.zero, 0, LEVELS)
        x = (levels - self.zero) * self.step
        weight = self.weight.float() * self.scale
        if not self._how:
            return F.linear(x, weight, self.bias)
        convolve = conv2d_same if self._same else F.conv2d
        return torch.as_tensor(convolve(x, weight, self.bias, **self._how))


def round_to_8_bits(module: nn.Module, batches: Iterable[NDArray[np.uint8]]) -> None:
    """Replace a network's convolutions and products, in place; norms and the rest stay as they are.

    Args:
        module: takes pixels, uint8 (n, image_size, image_size, 3); weight standardization must be folded already.
        batches: of pixels, by which the ranges of what goes into the layers are found (static calibration, the
            extremes); none of validation or test.

    Raises:
        NevusError: most of its weights are in layers of other kinds, which change their weights at each call.

    """
    seen: dict[nn.Module, Range] = {}  # what is never called has its weights used by another: it stays

    def see(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.setdefault(layer, Range()).see(given[0])

    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    plain = [layer for layer in layers if type(layer) in (nn.Conv2d, nn.Linear, Conv2dSame)]
    hooks = [layer.register_forward_pre_hook(see) for layer in plain]
    try:
        with torch.inference_mode():
            for pixels in batches:
                module(torch.from_numpy(np.ascontiguousarray(pixels)))
    finally:
        for hook in hooks:
            hook.remove()
    called = [layer for layer in plain if layer in seen]
    every, rounded = (sum(layer.weight.numel() for layer in some) for some in (layers, called))
    if 2 * rounded < every:
        raise NevusError(
            f"Cannot use int8 as torch: only {rounded:,} of this network's {every:,} weights are in plain layers. "
            "Choose --format onnx or openvino."
        )
    for parent in list(module.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer in seen:
                setattr(parent, name, Rounded(layer, seen[layer]))
