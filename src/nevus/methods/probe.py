"""The head that a frozen trunk gets, as the start of a fine-tuning."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

STRENGTH = 0.003
"""Scikit-learn's C on features of unit variance."""
REACH = 4.0
"""Length that standardised features have on average while the network is trained: on it hangs how far one step
moves the head. At length 1 it would hardly follow the trunk; at unit variance, one step would throw it over."""


@dataclass(frozen=True)
class Probe:
    """A linear head on standardised features, (features - mean) / scale.

    A head of zeros sends gradients without meaning through the trunk, and spoils what it knows before the head has
    learnt to ask for it; begun from the frozen trunk's own head, that does not happen (Kumar et al. 2022,
    *Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution*).

    Attributes:
        mean: of the features, float32 (features,).
        scale: likewise, their standard deviation by a common factor.
        weight: float32 (classes, features), of standardised features.
        bias: float32 (classes,).

    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, features: NDArray[np.float32], targets: NDArray[np.int64], weights: NDArray[np.float64]) -> Probe:
        """Fit one.

        Args:
            features: of the training images by the frozen trunk, (n, features).
            targets: their classes, 0 to k - 1, each there.
            weights: of each image, (n,).

        """
        mean, std = features.mean(0), np.maximum(features.std(0), 1e-6)
        fitted = LogisticRegression(C=STRENGTH, max_iter=1000)
        fitted.fit((features - mean) / std, targets, sample_weight=weights)
        weight, bias = fitted.coef_, fitted.intercept_
        if len(weight) == 1:  # two classes have one logit there, and two here
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        factor = features.shape[1] ** 0.5 / REACH
        found = (mean, std * factor, weight * factor, bias)
        return cls(*(torch.from_numpy(np.asarray(part, np.float32)) for part in found))

    @contextlib.contextmanager
    def begun(self, head: nn.Linear | nn.Conv2d) -> Iterator[None]:
        """Put it into a network's head, which sees standardised features as long as this lasts.

        Afterwards the head has taken the standardisation into its weights and sees features as they are.
        """
        assert head.bias is not None
        head.weight.data.copy_(self.weight.view_as(head.weight))
        head.bias.data.copy_(self.bias)

        def standardized(_: nn.Module, given: tuple[Any, ...]) -> tuple[Tensor]:
            x: Tensor = given[0]
            shape = (1, -1, *(1 for _ in range(x.dim() - 2)))
            return ((x - self.mean.to(x).view(shape)) / self.scale.to(x).view(shape),)

        hook = head.register_forward_pre_hook(standardized)
        try:
            yield
        finally:
            hook.remove()
        # w (x - m) / s + b = (w / s) x + (b - (w / s) m)
        flat = head.weight.data.flatten(1) / self.scale.to(head.weight)
        head.weight.data.copy_(flat.view_as(head.weight))
        head.bias.data.sub_(flat @ self.mean.to(flat))
