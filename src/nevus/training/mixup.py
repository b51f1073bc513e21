"""MixUp."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def drawn(n: int, alpha: float, rng: np.random.Generator) -> tuple[float, NDArray[np.int64]]:
    """What MixUp does with a batch of `n` (Zhang et al. 2018): one share for all, from Beta(alpha, alpha).

    Args:
        n: examples in the whole batch, also where a process computes a part of it only.
        alpha: 0 mixes nothing: the share is 1.
        rng: draws the share, then the permutation.

    Returns:
        The share of each example's own, and with whom it is mixed: int64 (n,), a permutation.

    """
    if alpha <= 0:
        return 1.0, np.arange(n)
    return float(rng.beta(alpha, alpha)), rng.permutation(n)


def mixed(x: Tensor, y: Tensor, share: float, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Examples mixed with others, and their labels likewise.

    Args:
        x: float (m, ...).
        y: float (m, classes), rows summing to 1.
        share: of each example's own.
        own: int64 (n,), rows of x and y.
        other: int64 (n,), rows of x and y to be mixed in.

    Returns:
        x of shape (n, ...) and y of shape (n, classes).

    """
    if share == 1:
        return x[own], y[own]
    return share * x[own] + (1 - share) * x[other], share * y[own] + (1 - share) * y[other]
