"""Features of several stages of a network, not of its last layer alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nevus.errors import NevusError


def stage_info(backbone: nn.Module) -> list[dict[str, Any]]:
    """What timm says of a network's stages, from the earliest on: `num_chs` channels each; empty where it says
    none.
    """
    info = getattr(backbone, "feature_info", None) or []
    return list(getattr(info, "info", info))


class MultiStageFeatures(nn.Module):
    """A trunk that gives the means of several stages' outputs beside its own features, concatenated.

    What a network finds early, color and texture, is gone from its last layer, and lesions are told by it: a
    linear head on all of it beats one on the last layer at no extra cost (Evci et al. 2022, *Head2Toe*). A mean
    does not say whether all of the picture is a little brown or a little of it very brown: with `spread`, standard
    deviations and maxima over the picture stand beside the means.

    Attributes:
        trunk: float (n, 3, h, w) to features (n, features).
        taps: how many of the last stages' outputs stand before the trunk's own features.
        spread: whether of each stage also the standard deviation and the maximum are given.
        width: of what it gives.

    """

    def __init__(self, backbone: nn.Module, taps: int, *, spread: bool = False) -> None:
        """Wrap a trunk.

        Raises:
            NevusError: the network does not show its stages, or has not so many; or a spread of none is asked for.

        """
        super().__init__()
        if spread and not taps:
            raise NevusError("--spread is of the stages that --taps names; give --taps 4, or leave --spread out.")
        stages = stage_info(backbone)
        if taps and not (hasattr(backbone, "forward_intermediates") and stages):
            raise NevusError(f"{type(backbone).__name__} does not show its stages; leave --taps out.")
        if not 0 <= taps <= len(stages):
            raise NevusError(f"the network has {len(stages)} stages and no {taps}; correct --taps.")
        self.backbone = backbone
        self.taps = taps
        self.spread = spread
        self._wanted = list(range(len(stages) - taps, len(stages)))
        # What follows the last stage may have another width than the network's features.
        own = int(getattr(backbone, "head_hidden_size", 0) or backbone.num_features)  # type: ignore[arg-type]
        self.width = sum(int(stages[k]["num_chs"]) for k in self._wanted) * (3 if spread else 1) + own

    def extra_repr(self) -> str:
        """What it computes, beside its weights: a kept graph is found by it."""
        return f"taps={self.taps}, spread={self.spread}"

    def forward(self, x: Tensor) -> Tensor:
        """Float (n, 3, h, w) to (n, width): the taps from the earliest on, each its means, then with `spread` its
        standard deviations and its maxima; then the trunk's own features.
        """
        if not self.taps:
            return torch.as_tensor(self.backbone(x))
        last, stages = self.backbone.forward_intermediates(x, indices=self._wanted)  # type: ignore[operator]
        own = self.backbone.forward_head(last, pre_logits=True)  # type: ignore[operator]
        shown = [part for stage in stages for part in self._pooled(stage)]
        return torch.cat([*shown, own.flatten(1)], 1)

    def _pooled(self, stage: Tensor) -> list[Tensor]:
        mean = stage.mean((2, 3))
        if not self.spread:
            return [mean]
        variance = (stage - mean[:, :, None, None]).square().mean((2, 3))
        # A root is infinitely steep at 0, which a stage of one pixel has: training would break there.
        return [mean, (variance + 1e-6).sqrt(), stage.amax((2, 3))]


class MultiStageClassifier(nn.Module):
    """A tapped trunk with a linear head, zero-initialized: float (n, 3, h, w) to logits (n, classes).

    Attributes:
        tapped: the trunk.
        head: linear, or nothing.

    """

    def __init__(self, backbone: nn.Module, taps: int, classes: int, *, spread: bool = False) -> None:
        """Wrap a trunk.

        Raises:
            NevusError: see `MultiStageFeatures`.

        """
        super().__init__()
        self.tapped = MultiStageFeatures(backbone, taps, spread=spread)
        self.head: nn.Module = nn.Identity()
        self.reset_classifier(classes)

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head

    def reset_classifier(self, classes: int) -> None:
        """Another head; 0 leaves the features."""
        if not classes:
            self.head = nn.Identity()
            return
        self.head = nn.Linear(self.tapped.width, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Features, then logits."""
        return torch.as_tensor(self.head(self.tapped(x)))
