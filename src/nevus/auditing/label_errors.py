"""Label errors: labels that contradict out-of-fold predictions, for review; they are never changed automatically."""

from __future__ import annotations

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues as confident_learning
from cleanlab.rank import get_label_quality_scores

from nevus.auditing.shortcuts import OutOfFoldPredictions

COLUMNS = ("row", "label", "suggested", "quality")


def find_label_issues(found: OutOfFoldPredictions | None) -> pd.DataFrame:
    """Find label errors by confident learning (Northcutt et al. 2021) on out-of-fold probabilities.

    Returns:
        One row for each suspected label, in order of increasing quality: `row`, `label`, `suggested`, `quality`
        (out-of-fold probability of the label, in [0, 1]). No row where nothing could be cross-validated.

    """
    if found is None:
        return pd.DataFrame(columns=list(COLUMNS))
    p = found.p / found.p.sum(1, keepdims=True)
    is_issue = np.asarray(confident_learning(found.y, p, n_jobs=1))
    quality = np.asarray(get_label_quality_scores(found.y, p))
    order = np.lexsort([found.rows, quality])
    names = found.classes
    return pd.DataFrame(
        [
            (int(found.rows[i]), names[found.y[i]], names[p[i].argmax()], float(quality[i]))
            for i in order
            if is_issue[i]
        ],
        columns=list(COLUMNS),
    )
