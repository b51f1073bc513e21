"""Another form of a network for the features of many images: equal up to rounding, and faster in OpenVINO."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nevus.models.reparameterize import fold_weight_standardization
from nevus.models.timm_library import GroupNormAct


class CenteredGroupNorm(nn.Module):
    """Group normalization and activation, from the means and the L2 norms of channels.

    OpenVINO normalizes groups in another order of the values in memory than it convolves in, so that each feature map
    is copied twice. Means and norms of channels are computed in any order. The values are centered before they are
    squared: E[x^2] - E[x]^2 would lose too much in bfloat16.
    """

    def __init__(self, norm: GroupNormAct) -> None:
        super().__init__()
        self.groups, self.eps, self.act = norm.num_groups, norm.eps, norm.act
        self.weight = nn.Parameter(norm.weight.detach().view(1, self.groups, -1), requires_grad=False)
        self.bias = nn.Parameter(norm.bias.detach().view(1, -1, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize float (n, channels, h, w) (Wu and He 2018, *Group Normalization*, equations 1 to 6)."""
        group, channel = (-1, *self.weight.shape[1:]), (-1, x.shape[1], 1, 1)
        mean = x.mean((2, 3)).view(group).mean(2, keepdim=True)
        centered = x - mean.expand(group).reshape(channel)
        norm = torch.linalg.vector_norm(centered, 2, (2, 3))
        variance = (norm * norm / (x.shape[2] * x.shape[3])).view(group).mean(2, keepdim=True)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return torch.as_tensor(self.act(centered * scale.view(channel) + self.bias))

    def extra_repr(self) -> str:
        """Describe what it computes: cached graphs are found by it."""
        return f"groups={self.groups}, eps={self.eps}"


class BulkFeatures(nn.Module):
    """A network whose group normalizations are `CenteredGroupNorm`, and whose output OpenVINO rounds to bfloat16.

    In bfloat16 OpenVINO computes everything after the last convolution in float32. With features of several stages
    that is nearly the whole network. A convolution with weights of 1 at the end prevents it.

    Attributes:
        network: for inference, float (n, 3, h, w) to features (n, width).

    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = fold_weight_standardization(network)
        for parent in list(self.network.modules()):
            for name, norm in list(parent.named_children()):
                if isinstance(norm, GroupNormAct):
                    setattr(parent, name, CenteredGroupNorm(norm))

    def forward(self, x: Tensor) -> Tensor:
        """Map float (n, 3, h, w) to features (n, width)."""
        features = self.network(x)
        width = features.shape[1]
        return F.conv2d(features[:, :, None, None], features.new_ones(width, 1, 1, 1), groups=width)[:, :, 0, 0]
