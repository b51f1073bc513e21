"""Labels that other images speak against: for a person to look at, never changed by themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray

from nevus.audit.shortcuts import out_of_fold, usable
from nevus.metrics.scores import Ints


def suspect_labels(
    features: NDArray[np.float32], labels: Sequence[str], groups: Ints, *, seed: int = 0
) -> pd.DataFrame:
    """Confident learning (Northcutt et al. 2021) on out-of-fold probabilities.

    Args:
        features: (n, width).
        labels: of each image.
        groups: (n,), never on both sides of a fold.
        seed: of the folds.

    Returns:
        A row an image whose label is doubted, the most doubtful first: `row`, `label`, `suggested`, `quality` (the
        probability of its own label out of fold, in [0, 1]).

    """
    kept, y, classes = usable(labels, groups)
    columns = ["row", "label", "suggested", "quality"]
    if len(classes) < 2:
        return pd.DataFrame(columns=columns)
    p = out_of_fold(features[kept], y, groups[kept], seed=seed)
    p = p / p.sum(1, keepdims=True)
    doubted = np.asarray(find_label_issues(y, p, n_jobs=1))
    quality = np.asarray(get_label_quality_scores(y, p))
    rows = np.flatnonzero(kept)
    order = np.lexsort([rows, quality])
    return pd.DataFrame(
        [(int(rows[i]), classes[y[i]], classes[p[i].argmax()], float(quality[i])) for i in order if doubted[i]],
        columns=columns,
    )
