"""MixUp."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mixed(x: Tensor, y: Tensor, alpha: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """MixUp of a whole batch (Zhang et al. 2018): one share for all, drawn from Beta(alpha, alpha).

    Each example is mixed with that of a random permutation of the batch, and its label likewise.

    Args:
        x: float (n, ...).
        y: float (n, classes), rows summing to 1.
        alpha: 0 returns the batch as it is.
        rng: draws the share, then the permutation.

    Returns:
        New x and y of the same shapes.

    """
    if alpha <= 0:
        return x, y
    share = float(rng.beta(alpha, alpha))
    other = torch.from_numpy(rng.permutation(len(x)))
    return share * x + (1 - share) * x[other], share * y + (1 - share) * y[other]
