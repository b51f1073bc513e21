"""Features of several stages of a network, pooled and concatenated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nevus.errors import NevusError
from nevus.models.label_groups import LabelGroups
from nevus.models.spec import Pooling


def stage_info(backbone: nn.Module) -> list[dict[str, Any]]:
    """Return timm's description of a network's stages, earliest first, with `num_chs` channels each; or nothing."""
    info = getattr(backbone, "feature_info", None) or []
    return list(getattr(info, "info", info))


class MultiStageFeatures(nn.Module):
    """Pooled features of several stages before the backbone's own features.

    Early layers represent color and texture, which the last layer has lost; a linear probe on all of them beats one
    on the last layer at no extra cost (Evci et al. 2022, *Head2Toe*). Average pooling discards the spatial
    distribution of a feature; standard deviation and maximum keep part of it.

    Attributes:
        backbone: float (n, 3, h, w) to features (n, features).
        feature_stages: number of final stages.
        pooling: of their feature maps.
        width: of the output.

    """

    def __init__(self, backbone: nn.Module, feature_stages: int, pooling: Pooling = "avg") -> None:
        """Wrap a backbone.

        Raises:
            NevusError: the network does not expose that many stages.

        """
        super().__init__()
        stages = stage_info(backbone)
        if feature_stages and not (hasattr(backbone, "forward_intermediates") and stages):
            raise NevusError(
                f"Cannot use feature stages: {type(backbone).__name__} exposes none. Set feature_stages to 0."
            )
        if not 0 <= feature_stages <= len(stages):
            raise NevusError(
                f"Cannot use {feature_stages} feature stages: the network has {len(stages)}. Set feature_stages to 0 "
                f"to {len(stages)}."
            )
        self.backbone = backbone
        self.feature_stages = feature_stages
        self.pooling = pooling
        self._wanted = list(range(len(stages) - feature_stages, len(stages)))
        # What follows the last stage may have another width than the network's features.
        own = int(getattr(backbone, "head_hidden_size", 0) or backbone.num_features)  # type: ignore[arg-type]
        channels = sum(int(stages[k]["num_chs"]) for k in self._wanted)
        self.width = channels * (3 if pooling == "stats" else 1) + own

    def extra_repr(self) -> str:
        """Describe what it computes besides its weights: cached graphs are found by it."""
        return f"feature_stages={self.feature_stages}, pooling={self.pooling}"

    def forward(self, x: Tensor) -> Tensor:
        """Map float (n, 3, h, w) to (n, width): the stages' features, earliest first, then the backbone's own."""
        return self.forward_with_maps(x)[0] if self.feature_stages else torch.as_tensor(self.backbone(x))

    def forward_with_maps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return also the maps that the features are pooled from, each (n, channels, h, w).

        One for each used stage, and the last one, of which the backbone's own features are the mean; none where the
        backbone pools in another way.
        """
        stages: list[Tensor] = []
        if self.feature_stages:
            last, stages = self.backbone.forward_intermediates(x, indices=self._wanted)  # type: ignore[operator]
        elif hasattr(self.backbone, "forward_features") and hasattr(self.backbone, "forward_head"):
            last = self.backbone.forward_features(x)  # type: ignore[operator]
        else:
            return torch.as_tensor(self.backbone(x)), []
        own = self.backbone.forward_head(last, pre_logits=True)  # type: ignore[operator]
        pooled = [part for stage in stages for part in self._pooled(stage)]
        return torch.cat([*pooled, own.flatten(1)], 1), [*stages, last]

    def shares(self, maps: list[Tensor]) -> list[Tensor]:
        """Return what each position of the maps adds to each feature, (n, features, h, w); sums are the features.

        A mean is the sum of x / N over the N positions. A standard deviation s is the sum of (x - mean)^2 / (N s), up
        to the constant inside its root. A maximum is that of the positions that reach it, in equal parts.
        """
        found = []
        for stage in maps[:-1]:
            count = stage.shape[2] * stage.shape[3]
            parts = [stage / count]
            if self.pooling == "stats":
                deviation = (stage - stage.mean((2, 3), keepdim=True)).square()
                parts.append(deviation / (count * (deviation.mean((2, 3), keepdim=True) + 1e-6).sqrt()))
                top = stage.amax((2, 3), keepdim=True)
                reached = (stage == top).to(stage.dtype)
                parts.append(top * reached / reached.sum((2, 3), keepdim=True))
            found.append(torch.cat(parts, 1))
        return [*found, maps[-1] / (maps[-1].shape[2] * maps[-1].shape[3])]

    def _pooled(self, stage: Tensor) -> list[Tensor]:
        mean = stage.mean((2, 3))
        if self.pooling == "avg":
            return [mean]
        variance = (stage - mean[:, :, None, None]).square().mean((2, 3))
        # The root is infinitely steep at 0, which a stage of one pixel has: training would break there.
        return [mean, (variance + 1e-6).sqrt(), stage.amax((2, 3))]


class GroupedLogits(nn.Module):
    """Logits of `LabelGroups` from those of the fine classes, (n, fine) to (n, groups).

    The log of a sum of exponentials: the softmax of the output is the sum of the softmax of the input.
    """

    def __init__(self, groups: LabelGroups) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, logits: Tensor) -> Tensor:
        """Add up probabilities in log space."""
        if self.groups.class_prior:
            logits = logits + logits.new_tensor(self.groups.class_prior).log()
        parts = []
        for places in self.groups.indices:
            part = logits[:, list(places)]
            # Spelled out, because ONNX's ReduceLogSumExp is read differently by different programs.
            top = part.amax(1, keepdim=True)
            parts.append((part - top).exp().sum(1, keepdim=True).log() + top)
        return torch.cat(parts, 1)

    def extra_repr(self) -> str:
        """Describe the sums."""
        return f"indices={self.groups.indices}, class_prior={self.groups.class_prior}"
