"""What an image weighs in the loss."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from nevus.data.manifest import Manifest
from nevus.training.recipe import Recipe

MOST = 10.0
"""A weight at most: one image of a rare kind must not rule a batch."""


def class_weights(targets: NDArray[np.int64], classes: int, recipe: Recipe) -> Tensor:
    """Weight of each class in the loss, float (classes,): ones, or n / (classes x n of the class)."""
    if recipe.class_weights == "none":
        return torch.ones(classes)
    return torch.from_numpy(len(targets) / (classes * np.bincount(targets, minlength=classes))).float()


def source_weights(rows: Manifest, recipe: Recipe) -> Tensor:
    """Weight of each image in the loss, float (n,), mean 1: ones, or those under which the source tells no label.

    An image of source s and label y weighs n(s) n(y) / (n n(s, y)), as if both were independent (Kamiran and
    Calders 2012, *reweighing*), at most `MOST`. A label that a source lacks stays lacking there.
    """
    if recipe.reweigh == "none":
        return torch.ones(len(rows))
    table = pd.DataFrame({"source": rows.table["source"].to_numpy(), "label": rows.targets})
    sizes = [table.groupby(list(by))["label"].transform("size") for by in (["source"], ["label"], table.columns)]
    source, label, both = (size.to_numpy(np.float64) for size in sizes)
    weights = np.minimum(source * label / (len(table) * both), MOST)
    return torch.from_numpy(weights / weights.mean()).float()
