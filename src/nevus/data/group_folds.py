"""scikit-learn's `StratifiedGroupKFold`, with the same folds in a tenth of the time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold


class GroupFolds(StratifiedGroupKFold):  # type: ignore[misc]
    """Folds of whole groups, classes in proportion.

    scikit-learn tries one fold after the other for each group, which takes seconds for 10,000 images. Here all folds
    are tried at once, and only for the classes of the group. Sums are taken in scikit-learn's order: ties are decided
    by the last bit. If a later scikit-learn calls its step by another name, its own is used.
    """

    _deviations: NDArray[np.float64]
    """Of the share of each class in the folds, (classes,), as they are filled so far."""

    def _find_best_fold(
        self, y_counts_per_fold: NDArray[np.float64], y_cnt: NDArray[Any], group_y_counts: NDArray[np.float64]
    ) -> int:
        k, classes = y_counts_per_fold.shape
        if not y_counts_per_fold.any():  # a split begins
            self._deviations = np.zeros(classes)
        deviations = np.empty((k, classes))  # if the group went to fold i
        deviations[:] = self._deviations
        for c in group_y_counts.nonzero()[0].tolist():
            counts = np.empty((k, k))  # (folds, choices)
            counts[:] = y_counts_per_fold[:, c, None]
            counts.reshape(-1)[:: k + 1] += group_y_counts[c]
            counts /= y_cnt[c]
            deviations[:, c] = _deviation(counts)
        scores = np.add.reduce(deviations, axis=1) / classes
        best = int(scores.argmin())
        if np.count_nonzero(scores <= scores[best] + 2 * _tolerance(float(scores[best]))) > 1:  # a tie in some order
            best = _decided(scores.tolist(), np.add.reduce(y_counts_per_fold, axis=1).tolist())
        self._deviations = deviations[best]
        return best


def _decided(scores: list[float], sizes: list[float]) -> int:
    """Return the first fold with the least score; of nearly equal ones, that with the fewest images."""
    best, least, fewest = 0, scores[0], sizes[0]
    close = _tolerance(least)
    for fold, (score, size) in enumerate(zip(scores, sizes, strict=True)):
        if score < least or (size < fewest and score - least <= close):
            best, least, fewest = fold, score, size
            close = _tolerance(least)
    return best


def _tolerance(score: float) -> float:
    """Return the tolerance of `numpy.isclose`."""
    return 1e-8 + 1e-5 * abs(score)


def _deviation(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviation of shares over the folds, (choices,), of (folds, choices); as numpy's.

    The shares are overwritten.
    """
    n = len(shares)
    shares -= np.add.reduce(shares, axis=0) / n
    shares *= shares
    return np.asarray(np.sqrt(np.add.reduce(shares, axis=0) / n))
