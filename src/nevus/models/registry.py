"""Names of networks."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import nn

from nevus.errors import NevusError
from nevus.models.bit import bit


@dataclass(frozen=True)
class TrunkSpec:
    """What is known of a named trunk.

    Attributes:
        name: as given to `--trunk`.
        features: width of its feature vector.
        side: training side in pixels that it is used at by default.
        weights: where its weights come from.
        licence: of the weights.

    """

    name: str
    features: int
    side: int
    weights: str
    licence: str


TRUNKS = {
    spec.name: spec
    for spec in (
        TrunkSpec("bit-r26x0.5", 1024, 128, "random", "none: random weights"),
        TrunkSpec("bit-r26x1", 2048, 128, "random", "none: random weights"),
        TrunkSpec("bit-r50x0.5", 1024, 128, "random", "none: random weights"),
        TrunkSpec("bit-r50x1", 2048, 128, "random", "none: random weights"),
    )
}


def trunk_spec(name: str) -> TrunkSpec:
    """Look a trunk up.

    Raises:
        NevusError: there is none of that name.

    """
    if name not in TRUNKS:
        raise NevusError(f"there is no trunk '{name}'; choose one of {', '.join(TRUNKS)}.")
    return TRUNKS[name]


def network(name: str, *, classes: int, seed: int = 0) -> nn.Module:
    """A trunk with a zero-initialised linear head, float (n, 3, h, w) -> logits (n, classes).

    With `classes` 0 the trunk alone, to features (n, features).

    Raises:
        NevusError: there is no trunk of that name.

    """
    trunk_spec(name)
    made: nn.Module = bit(name, classes=classes, seed=seed)
    return made


def trunk_of(whole: nn.Module) -> nn.Module:
    """A copy of a network without its head: float (n, 3, h, w) -> features (n, features)."""
    trunk = copy.deepcopy(whole)
    trunk.reset_classifier(0)  # type: ignore[operator]
    return trunk


def parameter_count(module: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in module.parameters())
