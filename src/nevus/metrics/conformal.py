"""Conformal sets: the classes that cannot be excluded, with a coverage that is guaranteed for each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nevus.metrics.scores import Floats, Ints

ALPHA = 0.1
"""Largest share of each class whose set does not contain it."""


def class_thresholds(y: Ints, p: Floats, groups: Ints, alpha: float = ALPHA) -> tuple[float, ...]:
    """Return for each class the smallest probability at which it belongs to the set.

    Class-conditional (Mondrian) split conformal prediction (Vovk 2012, *Conditional validity of inductive conformal
    predictors*): the set of a new image contains its true class with a chance of at least 1 - alpha, whichever class
    that is, if images are exchangeable with these. Of a case with several images the lowest probability counts.

    Args:
        y: true class of images that were not trained on, (n,).
        p: calibrated probabilities (n, classes).
        groups: code of each image's lesion or patient, (n,).
        alpha: between 0 and 1.

    Returns:
        A threshold for each class; 0 where its cases are too few for this alpha, so that the class is never excluded.

    """
    thresholds = []
    for c in range(p.shape[1]):
        rows = np.flatnonzero(y == c)
        lowest: dict[int, float] = {}
        for group, value in zip(groups[rows].tolist(), p[rows, c].tolist(), strict=True):
            lowest[group] = min(value, lowest.get(group, 1.0))
        scores = np.sort(np.array(list(lowest.values()), np.float64))
        rank = int(np.floor(alpha * (len(scores) + 1)))
        thresholds.append(float(scores[rank - 1]) if rank >= 1 else 0.0)
    return tuple(thresholds)


def prediction_sets(p: Floats, thresholds: tuple[float, ...]) -> NDArray[np.bool_]:
    """Return whether each class belongs to the set of each image, bool (n, classes).

    Where no class reaches its threshold the set holds the two most probable ones: a set may be enlarged without loss
    of coverage, and an image that fits no class is not certain.
    """
    member = p >= np.array(thresholds)
    empty = ~member.any(1)
    best = np.argsort(-p, axis=1, kind="stable")[:, :2]
    member[np.flatnonzero(empty)[:, None], best[empty]] = True
    return np.asarray(member)


def coverage(y: Ints, member: NDArray[np.bool_], w: Floats) -> Floats:
    """Share of the images whose set contains their class; weights (..., n)."""
    return np.asarray((w * member[np.arange(len(y)), y]).sum(-1) / w.sum(-1))
