"""Training batches as a pure function of seed and step.

Nothing here has a state: which images are in a step, how they are cropped and mixed follows from
the seed and the step's number alone. So a resumed run sees the very same batches, and no generator's state
need be saved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nevus.data.decoded import DecodedImages
from nevus.data.preprocess import Preprocess
from nevus.data.transforms import CHANGES, Augment, normalize
from nevus.training.config import TrainConfig

ORDER, VIEW, MIX, WHICH = 1, 2, 3, 4  # streams of randomness, so that one setting never shifts another's draws


WHOLE = slice(None)


class Batches(Protocol):
    """`(step, part)` to inputs, float (n, ...), and soft labels, float (n, classes), of a part of the batch."""

    def __call__(self, step: int, part: slice = WHOLE) -> tuple[Tensor, Tensor]:
        """Inputs and soft labels of a step: those places of the global batch that are in `part`."""
        ...


@lru_cache(maxsize=4)
def _permutation(images: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, ORDER, epoch]).permutation(images)


def step_indices(images: int, batch: int, seed: int, step: int) -> np.ndarray:
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
class SoftLabels:
    """`soft_labels` of the rows that are asked for: all at once would be gigabytes of ImageNet's.

    Attributes:
        targets: int64 (n,).
        classes: how many.
        smoothing: see `soft_labels`.

    """

    targets: np.ndarray
    classes: int
    smoothing: float

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        """Float32 (m, classes) of rows (m,)."""
        return soft_labels(self.targets[rows], self.classes, self.smoothing)


def augment_of(config: TrainConfig, image_size: int | None = None) -> Augment:
    """What a config's views may differ in, at its side or another."""
    own = {name: getattr(config, name) for name in CHANGES}
    return Augment(image_size or config.image_size, config.crop_scale, **own)


@dataclass(frozen=True)
class ImageBatches:
    """Batches of augmented images, for fine-tuning (full, lp-ft).

    Attributes:
        pixels: uint8 (n, resize, resize, 3).
        labels: float (n, classes).
        config: which views, batch and MixUp.
        preprocess: how a view becomes a tensor.
        seed: of everything random.

    """

    pixels: np.ndarray | DecodedImages
    labels: Tensor | SoftLabels
    config: TrainConfig
    preprocess: Preprocess
    seed: int

    def __call__(self, step: int, part: slice = WHOLE) -> tuple[Tensor, Tensor]:
        """Float (n, 3, image_size, image_size) and float (n, classes)."""
        augment = augment_of(self.config)
        draws = augment.sample_params(self.config.batch_size, np.random.default_rng([self.seed, VIEW, step]))

        def inputs(rows: np.ndarray, places: np.ndarray) -> Tensor:
            return normalize(augment.apply(self.pixels[rows], draws[places]), self.preprocess)

        return make_batch(len(self.pixels), inputs, self.labels.__getitem__, self.config, self.seed, step, part)


@dataclass(frozen=True)
class FeatureBatches:
    """Batches of features, for linear probes; MixUp, where asked for, mixes features.

    Attributes:
        features: float (n, features), or (views, n, features), of which each image in a step has one drawn.
        labels: float (n, classes).
        config: which batch and MixUp.
        seed: of everything random.

    """

    features: Tensor
    labels: Tensor
    config: TrainConfig
    seed: int

    def __call__(self, step: int, part: slice = WHOLE) -> tuple[Tensor, Tensor]:
        """Float (n, features) and float (n, classes)."""
        *views, images, width = self.features.shape
        if views:
            which = np.random.default_rng([self.seed, WHICH, step]).integers(views[0], size=self.config.batch_size)

        def inputs(rows: np.ndarray, places: np.ndarray) -> Tensor:
            if views:
                rows = which[places] * images + rows
            # Two to three times as fast as an index of a tensor by an array.
            return self.features.view(-1, width).index_select(0, torch.from_numpy(rows))

        return make_batch(images, inputs, self.labels.__getitem__, self.config, self.seed, step, part)


def make_batch(
    images: int,
    inputs: Callable[[np.ndarray, np.ndarray], Tensor],
    targets: Callable[[np.ndarray], Tensor],
    config: TrainConfig,
    seed: int,
    step: int,
    part: slice,
) -> tuple[Tensor, Tensor]:
    """A step's examples, mixed with others where the recipe says so.

    Everything is drawn for the whole batch; only what the part and its partners in MixUp need is computed.

    Args:
        images: in the training set.
        inputs: of rows, each at its place in the batch: float (n, ...).
        targets: of rows: float (n, k).
        config: which batch and MixUp.
        seed: of everything random.
        step: counts from 0.
        part: places of the batch that are wanted.

    """
    rows = step_indices(images, config.batch_size, seed, step)
    places = np.arange(config.batch_size)[part]
    if not config.mixup:  # the same as below, without its copies
        return inputs(rows[places], places), targets(rows[places])
    share, partners = sample_mixup(config.batch_size, config.mixup, np.random.default_rng([seed, MIX, step]))
    needed, where = np.unique(np.concatenate([places, partners[places]]), return_inverse=True)
    own, other = torch.from_numpy(where).view(2, len(places))
    return mixup(inputs(rows[needed], needed), targets(rows[needed]), share, own, other)


def sample_mixup(n: int, alpha: float, rng: np.random.Generator) -> tuple[float, NDArray[np.int64]]:
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


def mixup(x: Tensor, y: Tensor, share: float, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Examples mixed with others, and their labels with the same weights.

    Args:
        x: float (m, ...).
        y: soft labels, float (m, classes).
        share: of each example's own.
        own: int64 (n,), rows of x and y.
        other: int64 (n,), rows of x and y to be mixed in.

    Returns:
        x of shape (n, ...) and y of shape (n, classes).

    """
    if share == 1:
        return x[own], y[own]
    return share * x[own] + (1 - share) * x[other], share * y[own] + (1 - share) * y[other]
