"""Weight standardization folded into plain convolutions, for inference."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from nevus.models.timm_library import ScaledStdConv2d, StdConv2d

Network = TypeVar("Network", bound=nn.Module)


def standardized(weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Weight standardization: per output channel over the other axes, biased variance, no gain.

    `(w - mean) / sqrt(var + eps)` (Qiao et al. 2019, equation 5), computed in float64: at inference it is
    done once, so its rounding is the only one that matters.

    Args:
        weight: (out, in, height, width).
        eps: added to the variance.

    Returns:
        Same shape and dtype.

    """
    wide = weight.detach().double()
    var, mean = torch.var_mean(wide, dim=(1, 2, 3), keepdim=True, correction=0)
    return ((wide - mean) / torch.sqrt(var + eps)).to(weight.dtype)


def fold_weight_standardization(network: Network) -> Network:
    """A copy of a network for inference in which every `StdConv2d` is a plain convolution.

    The standardized weights are constants once training is over. Equal to the original to float rounding;
    without the standardization at every call it is faster and can be exported. The copy is in eval mode and
    its weights want no gradient.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for parent in list(network.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, StdConv2d) and not isinstance(conv, ScaledStdConv2d):
                setattr(parent, name, _plain(conv))
    return network


def _plain(conv: StdConv2d) -> nn.Conv2d:
    weight = standardized(conv.weight, conv.eps)
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=conv.bias is not None,
        device=weight.device,
        dtype=weight.dtype,
    )
    plain.weight = nn.Parameter(weight, requires_grad=False)
    if conv.bias is not None:
        plain.bias = nn.Parameter(conv.bias.detach().clone(), requires_grad=False)
    return plain.eval()
