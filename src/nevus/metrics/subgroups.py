"""Metrics by subgroup: every value of a column of the data set, with the differences between them tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from nevus.metrics import scores
from nevus.metrics.intervals import delong_interval, delong_variance, wilson_interval
from nevus.metrics.operating_points import called
from nevus.metrics.report import MetricEstimate
from nevus.metrics.scores import Floats, Ints
from nevus.metrics.significance import holm_correction

FEW = 30
"""Images of a class below which a subgroup is marked as too small."""
MIN_TESTED = 10
"""Images of a class below which a gap is not tested."""
AGE_BANDS = (0, 30, 50, 70, 200)
"""Limits of the age bands that `age_group` makes of `age_approx`, in years."""


@dataclass(frozen=True)
class Subgroup:
    """One value of a column.

    Attributes:
        column: of the data set.
        value: of it; `unknown` where it is missing.
        n: images.
        positives: images of the positive class.
        metrics: `auroc`, `sensitivity`, `specificity`, `accuracy`, each with its interval.
        few: whether a class has fewer than `FEW` images, so that the metrics say little.
        gap: AUROC of this subgroup minus that of all other images; NaN where it is undefined.
        p: of that gap, by DeLong's variances of the two independent areas, after Holm's correction over the column;
            NaN with fewer than `MIN_TESTED` images of a class inside or outside, or where an area has no variance.

    """

    column: str
    value: str
    n: int
    positives: int
    metrics: Mapping[str, MetricEstimate]
    few: bool
    gap: float
    p: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `evaluation.json`."""
        return {**vars(self), "metrics": {name: m.as_dict() for name, m in self.metrics.items()}}


def subgroup_values(table: pd.DataFrame, column: str) -> pd.Series[str]:
    """Return the subgroup of each row; `age_group` is made of `age_approx`.

    Raises:
        KeyError: there is no such column.

    """
    if column == "age_group" and column not in table.columns:
        age = pd.to_numeric(table["age_approx"], errors="coerce")
        labels = [f"{low} to {high - 1}" for low, high in pairwise(AGE_BANDS)]
        labels[-1] = f"{AGE_BANDS[-2]} or more"
        values = pd.cut(age, list(AGE_BANDS), right=False, labels=labels).astype(object)
    else:
        values = table[column].astype(object)
    text = values.where(values.notna(), "").astype(str).str.strip()
    return text.where(text != "", "unknown")


def subgroup_metrics(
    column: str, values: pd.Series[str], y: Ints, p: Floats, threshold: float | None = None
) -> list[Subgroup]:
    """Compute the metrics of each subgroup of two classes.

    Args:
        column: name.
        values: subgroup of each image, (n,).
        y: true class, (n,).
        p: probabilities (n, 2).
        threshold: of the positive class; by default the most probable class counts.

    """
    call = called(p[:, 1], 0.5 if threshold is None else threshold)
    names = values.to_numpy()
    found = []
    for value in sorted(set(names)):
        rows = names == value
        gap, chance = _gap(y, p[:, 1], rows)
        found.append(
            Subgroup(
                column=column,
                value=str(value),
                n=int(rows.sum()),
                positives=int((y[rows] == 1).sum()),
                metrics=_metrics(y[rows], p[rows, 1], call[rows]),
                few=bool(min((y[rows] == 1).sum(), (y[rows] == 0).sum()) < FEW),
                gap=gap,
                p=chance,
            )
        )
    corrected = holm_correction([one.p for one in found])
    return [replace(one, p=p) for one, p in zip(found, corrected, strict=True)]


def _metrics(y: Ints, positive: Floats, call: Ints) -> dict[str, MetricEstimate]:
    ones = np.ones(len(y))
    area = float(scores.auroc(y == 1, positive, ones))
    found = {"auroc": MetricEstimate(area, len(y), *delong_interval(y == 1, positive, area), "delong")}
    for name, of in (("sensitivity", y == 1), ("specificity", y == 0), ("accuracy", np.ones(len(y), bool))):
        hits, total = int((call[of] == y[of]).sum()), int(of.sum())
        value = hits / total if total else float("nan")
        found[name] = MetricEstimate(value, total, *wilson_interval(hits, total), "wilson")
    return found


def _gap(y: Ints, positive: Floats, rows: np.ndarray) -> tuple[float, float]:
    """Return the difference of the AUROC inside and outside, and its p value."""
    areas, variances, least = [], [], len(y)
    for part in (rows, ~rows):
        area = float(scores.auroc(y[part] == 1, positive[part], np.ones(int(part.sum())))) if part.any() else np.nan
        areas.append(area)
        variances.append(delong_variance(y[part] == 1, positive[part]))
        least = min(least, int((y[part] == 1).sum()), int((y[part] == 0).sum()))
    gap = areas[0] - areas[1]
    # The normal approximation fails on few images, and at an area of 1, whose estimated variance is 0.
    if least < MIN_TESTED or not min(variances) > 0:
        return gap, float("nan")
    return gap, float(2 * norm.sf(abs(gap) / sum(variances) ** 0.5))
