"""Points of the ROC and the precision-recall curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nevus.metrics.scores import Floats


def roc_points(positive: NDArray[np.bool_], score: Floats) -> tuple[Floats, Floats]:
    """Return the ROC curve from (0, 0) to (1, 1).

    Args:
        positive: (n,), with both values.
        score: (n,), higher means more likely positive.

    Returns:
        False and true positive rates at each distinct score, highest first, (thresholds + 1,).

    """
    hits, alarms = _cumulative(positive, score)
    return np.r_[0.0, alarms / (~positive).sum()], np.r_[0.0, hits / positive.sum()]


def precision_recall_points(positive: NDArray[np.bool_], score: Floats) -> tuple[Floats, Floats]:
    """Return the precision-recall curve from recall 0, where precision is 1 by convention.

    Args:
        positive: (n,), with at least one True.
        score: (n,), higher means more likely positive.

    Returns:
        Precision and recall at each distinct score, highest first, (thresholds + 1,).

    """
    hits, alarms = _cumulative(positive, score)
    return np.r_[1.0, hits / (hits + alarms)], np.r_[0.0, hits / positive.sum()]


def _cumulative(positive: NDArray[np.bool_], score: Floats) -> tuple[Floats, Floats]:
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(score[order]) != 0, True])
    hits = np.cumsum(positive[order])[ends].astype(float)
    return hits, (ends + 1.0) - hits
