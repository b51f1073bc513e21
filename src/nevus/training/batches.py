"""Training batches as a pure function of seed and step.

Nothing here has a state: which images stand in a step, how they are cropped and how they are mixed follow from
the seed and the step's number alone. So a resumed run sees the very same batches, and no generator's state
need be saved.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nevus.data.augment import Augment
from nevus.data.preprocess import Preprocess
from nevus.training.mixup import mixed
from nevus.training.recipe import Recipe

_ORDER, _VIEW, _MIX = 1, 2, 3  # streams of randomness, so that one setting never shifts another's draws


class Batches(Protocol):
    """`(step)` to inputs, float (batch, ...), and soft labels, float (batch, classes)."""

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and soft labels of a step."""
        ...


@lru_cache(maxsize=4)
def _permutation(images: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(images)


def rows_of_step(images: int, batch: int, seed: int, step: int) -> np.ndarray:
    """Rows in a step: a stretch of an endless chain of permutations, one an epoch.

    Every image is used once an epoch, and every batch is whole: it may end one epoch and begin the next.

    Returns:
        int64 of shape (batch,), values below `images`.

    """
    places = np.arange(step * batch, (step + 1) * batch)
    rows = np.empty(batch, np.int64)
    for epoch in np.unique(places // images):
        here = places // images == epoch
        rows[here] = _permutation(images, seed, int(epoch))[places[here] % images]
    return rows


def soft_labels(targets: np.ndarray, classes: int, smoothing: float) -> Tensor:
    """float32 (n, classes): 1 - smoothing on the label, and smoothing spread over all classes."""
    hard = torch.nn.functional.one_hot(torch.from_numpy(targets), classes).float()
    return hard * (1 - smoothing) + smoothing / classes


@dataclass(frozen=True)
class ImageBatches:
    """Batches of augmented images, for mode `full`.

    Attributes:
        pixels: uint8 (n, resize, resize, 3).
        labels: float (n, classes).
        recipe: which views, batch and MixUp.
        preprocess: how a view becomes a tensor.
        seed: of everything random.

    """

    pixels: np.ndarray
    labels: Tensor
    recipe: Recipe
    preprocess: Preprocess
    seed: int

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Float (batch, 3, side, side) and float (batch, classes)."""
        r = self.recipe
        rows = rows_of_step(len(self.pixels), r.batch, self.seed, step)
        augment = Augment(r.side, r.crop, r.mirror, r.turns, r.brightness, r.contrast, r.saturation)
        views = augment(self.pixels[rows], np.random.default_rng([self.seed, _VIEW, step]))
        x = self.preprocess.tensor(views)
        return mixed(x, self.labels[rows], r.mixup, np.random.default_rng([self.seed, _MIX, step]))


@dataclass(frozen=True)
class FeatureBatches:
    """Batches of features, for mode `head`; MixUp, where asked for, mixes features.

    Attributes:
        features: float (n, features).
        labels: float (n, classes).
        recipe: which batch and MixUp.
        seed: of everything random.

    """

    features: Tensor
    labels: Tensor
    recipe: Recipe
    seed: int

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Float (batch, features) and float (batch, classes)."""
        rows = rows_of_step(len(self.features), self.recipe.batch, self.seed, step)
        rng = np.random.default_rng([self.seed, _MIX, step])
        return mixed(self.features[rows], self.labels[rows], self.recipe.mixup, rng)
