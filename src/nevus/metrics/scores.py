"""Scores as pure functions on arrays.

Every function takes the weight of each image in the last axis of `w` and gives a score for each of the axes
before it: with ones of shape (n,) the score itself, with how often each image was drawn, shape (replicates, n),
those of a bootstrap at once. A score that is undefined (0/0: no positive image, no positive prediction) is NaN,
never 0 or 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def ratio(part: Floats, whole: Floats) -> Floats:
    """`part / whole`, NaN where `whole` is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(whole > 0, part / whole, np.nan), np.float64)


def confusion(y: Ints, predicted: Ints, classes: int, w: Floats) -> Floats:
    """Confusion matrix, shape (..., classes, classes): rows are true, columns are predicted.

    Args:
        y: true class, (n,).
        predicted: predicted class, (n,).
        classes: number of classes.
        w: weights (..., n).

    """
    cell = np.zeros((len(y), classes * classes))
    cell[np.arange(len(y)), y * classes + predicted] = 1
    return (w @ cell).reshape(*w.shape[:-1], classes, classes)


def accuracy(matrix: Floats) -> Floats:
    """(TP + TN) / (TP + TN + FP + FN), the paper's equation 1; for any number of classes the diagonal's share."""
    return ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum((-2, -1)))


def recall(matrix: Floats) -> Floats:
    """Share of each class that is predicted correctly, shape (..., classes).

    Of the positive class it is the sensitivity, of the negative one the specificity.
    """
    return ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1))


def precision(matrix: Floats) -> Floats:
    """Share of correct predictions of each class, shape (..., classes). Positive class: PPV; negative: NPV."""
    return ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-2))


def f1(matrix: Floats) -> Floats:
    """2 TP / (2 TP + FP + FN) by class, shape (..., classes)."""
    return ratio(2 * np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1) + matrix.sum(-2))


def mcc(matrix: Floats) -> Floats:
    """Matthews' correlation coefficient for any number of classes (Gorodkin 2004)."""
    true, predicted = matrix.sum(-1), matrix.sum(-2)
    n = matrix.sum((-2, -1))
    right = np.trace(matrix, axis1=-2, axis2=-1)
    covariance = right * n - (true * predicted).sum(-1)
    spread = (n**2 - (predicted**2).sum(-1)) * (n**2 - (true**2).sum(-1))
    return ratio(covariance, np.sqrt(np.maximum(spread, 0)))


def macro(by_class: Floats) -> Floats:
    """Plain mean over classes (last axis); NaN where one class is undefined."""
    return np.asarray(by_class.mean(-1), np.float64)


def weighted(by_class: Floats, matrix: Floats) -> Floats:
    """Mean over classes weighted by how many images each has; classes without images do not count."""
    share = matrix.sum(-1)
    return ratio(np.where(share > 0, by_class * share, 0).sum(-1), share.sum(-1))


def cross_entropy(y: Ints, p: Floats, w: Floats) -> Floats:
    """Mean of -ln p(true class) in nats, the paper's equation 2; p is clipped at the float64 epsilon.

    Args:
        y: true class, (n,).
        p: probabilities (n, classes).
        w: weights (..., n).

    """
    chosen = np.clip(p[np.arange(len(y)), y], np.finfo(np.float64).eps, 1)
    return ratio(w @ -np.log(chosen), w.sum(-1))


def brier(y: Ints, p: Floats, w: Floats) -> Floats:
    """Brier score.

    For two classes the mean of (p(positive) - y)^2, in [0, 1]; for more, of the sum over classes, in [0, 2].
    """
    if p.shape[1] == 2:
        error = (p[:, 1] - y) ** 2
    else:
        error = ((p - np.eye(p.shape[1])[y]) ** 2).sum(1)
    return ratio(w @ error, w.sum(-1))


def _by_threshold(positive: NDArray[np.bool_], score: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Weight of positives and negatives at each distinct score, highest first, shape (..., thresholds)."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    sorted_w = w[..., order]
    positives = np.add.reduceat(sorted_w * positive[order], starts, axis=-1)
    negatives = np.add.reduceat(sorted_w * ~positive[order], starts, axis=-1)
    return positives, negatives


def auroc(positive: NDArray[np.bool_], score: Floats, w: Floats) -> Floats:
    """Area under the ROC curve: the chance that a positive image scores above a negative one, ties half.

    Args:
        positive: (n,).
        score: (n,), higher means more likely positive.
        w: weights (..., n).

    """
    positives, negatives = _by_threshold(positive, score, w)
    above = np.cumsum(positives, axis=-1) - positives  # positives that score higher than this threshold
    wins = (negatives * (above + positives / 2)).sum(-1)
    return ratio(wins, positives.sum(-1) * negatives.sum(-1))


def average_precision(positive: NDArray[np.bool_], score: Floats, w: Floats) -> Floats:
    """Area under the precision-recall curve as the step-wise sum over thresholds, without interpolation."""
    positives, negatives = _by_threshold(positive, score, w)
    tp = np.cumsum(positives, axis=-1)
    predicted = tp + np.cumsum(negatives, axis=-1)
    at = np.divide(tp, predicted, out=np.zeros_like(tp), where=predicted > 0)
    total = positives.sum(-1)
    # Without negatives the area is 1 by definition of precision and says nothing.
    area = ratio((positives * at).sum(-1), total)
    return np.asarray(np.where(negatives.sum(-1) > 0, area, np.nan), np.float64)
