"""What a network is trained for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from nevus.data.manifest import Manifest
from nevus.training.config import TrainConfig


class Objective(Protocol):
    """Outputs and targets of n images, both float (n, k), to a loss and a score of each, both float (n,).

    Attributes:
        score: what the second one is called; larger is better.

    """

    @property
    def score(self) -> str:
        """What the second value is called."""
        ...

    def __call__(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and score of each image."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """Softmax cross-entropy in nats with soft labels.

    The score is 1 where the most probable class is the heaviest one of the label.

    Attributes:
        class_weights: float (classes,), mean 1 over the training set; None weighs nothing.

    """

    class_weights: Tensor | None = None
    score: str = "accuracy"

    def __call__(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Of logits and soft labels, whose rows sum to 1, or to the weight of the image."""
        weighed = targets if self.class_weights is None else targets * self.class_weights.to(targets.device)
        return -(weighed * outputs.log_softmax(1)).sum(1), _right(outputs, targets)


@dataclass(frozen=True)
class SigmoidCrossEntropy:
    """Sigmoid cross-entropy, as BiT-M was trained on ImageNet-21k (Kolesnikov et al. 2020, section 3.2).

    In nats, added up over the classes.
    """

    score: str = "accuracy"

    def __call__(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Of logits and labels in [0, 1]."""
        loss = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").sum(1)
        return loss, _right(outputs, targets)


EMPHASIS = 10.0
"""On the features: of a mean over thousands of outputs each gets so small a gradient that at a learning rate which
suits the backbone the layer that says them hardly moves."""


@dataclass(frozen=True)
class Distillation:
    """A teacher's standardized features, and its probabilities where it has some.

    The smooth L1 distance of the features (mean over these, times `EMPHASIS`) plus the Kullback-Leibler
    divergence of the probabilities at a temperature, times its square (Hinton et al. 2015; Beyer et al. 2021,
    section 3). The score is an image's contribution to the share of the features' variance that is explained: 1
    less the mean squared error, since their variance is 1.

    Attributes:
        features: how many of the outputs and targets, the first ones, are features.
        weight: of the divergence.
        temperature: at which the student's outputs become probabilities; the targets are given at it.

    """

    features: int
    weight: float = 1.0
    temperature: float = 1.0
    score: str = "explained"

    def __call__(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Of predicted features and logits, and the teacher's features and probabilities."""
        k = self.features
        difference = outputs[:, :k] - targets[:, :k]
        loss = EMPHASIS * F.smooth_l1_loss(outputs[:, :k], targets[:, :k], reduction="none").mean(1)
        if targets.shape[1] > k:
            theirs = targets[:, k:]
            ours = (outputs[:, k:] / self.temperature).log_softmax(1)
            divergence = (torch.xlogy(theirs, theirs) - theirs * ours).sum(1)
            loss = loss + self.weight * self.temperature**2 * divergence
        return loss, 1 - difference.square().mean(1)


def _right(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets.argmax(1)).float()


MAX_WEIGHT = 10.0
"""A weight at most: one image of a rare kind must not rule a batch."""


def class_weights(targets: NDArray[np.int64], classes: int, config: TrainConfig) -> Tensor:
    """Weight of each class in the loss, float (classes,): ones, or n / (classes x n of the class)."""
    if config.class_weights == "none":
        return torch.ones(classes)
    return torch.from_numpy(len(targets) / (classes * np.bincount(targets, minlength=classes))).float()


def source_balancing_weights(rows: Manifest, config: TrainConfig) -> Tensor:
    """Weight of each image in the loss, float (n,), mean 1: ones, or those under which the source tells no label.

    An image of source s and label y weighs n(s) n(y) / (n n(s, y)), as if both were independent (Kamiran and
    Calders 2012, *reweighing*), at most `MAX_WEIGHT`. A label that a source lacks stays lacking there.
    """
    if config.sample_weighting == "none":
        return torch.ones(len(rows))
    table = pd.DataFrame({"source": rows.table["source"].to_numpy(), "label": rows.targets})
    sizes = [table.groupby(list(by))["label"].transform("size") for by in (["source"], ["label"], table.columns)]
    source, label, both = (size.to_numpy(np.float64) for size in sizes)
    weights = np.minimum(source * label / (len(table) * both), MAX_WEIGHT)
    return torch.from_numpy(weights / weights.mean()).float()
