"""Tests of two classifiers on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

from nevus.metrics.intervals import placements
from nevus.metrics.scores import Floats, Ints


@dataclass(frozen=True)
class McNemar:
    """Whether two classifiers are right equally often (McNemar 1947).

    Attributes:
        only_first: images on which the first alone is right.
        only_second: images on which the second alone is.
        p: two-sided, exact (binomial); 1 where they never differ.

    """

    only_first: int
    only_second: int
    p: float


def mcnemar(y: Ints, first: Ints, second: Ints) -> McNemar:
    """Test the classes that two classifiers predict for the same images.

    Args:
        y: true class, (n,).
        first: predictions of one, (n,).
        second: predictions of the other, (n,).

    """
    one, other = first == y, second == y
    b, c = int((one & ~other).sum()), int((~one & other).sum())
    p = float(binomtest(b, b + c).pvalue) if b + c else 1.0
    return McNemar(b, c, p)


@dataclass(frozen=True)
class DeLong:
    """The difference of two AUROCs on the same images (DeLong et al. 1988).

    Attributes:
        difference: of the first less the second.
        low: lower end of its 95 % interval, cut to [-1, 1]; NaN where it has none.
        high: upper end.
        p: two-sided; NaN where the variance is 0 though the areas differ, 1 where nothing differs.

    """

    difference: float
    low: float
    high: float
    p: float


def delong_difference(positive: NDArray[np.bool_], first: Floats, second: Floats) -> DeLong:
    """Test the scores of two classifiers for the same images, by midranks (Sun and Xu 2014).

    Args:
        positive: (n,).
        first: (n,), higher means more likely positive.
        second: (n,), higher means more likely positive.

    """
    nan = float("nan")
    m, n = int(positive.sum()), int((~positive).sum())
    if m < 2 or n < 2:
        return DeLong(nan, nan, nan, nan)
    places = [placements(positive, score) for score in (first, second)]
    areas = [float(v10.mean()) for v10, _ in places]
    difference = areas[0] - areas[1]
    own = places[0][0] - places[1][0], places[0][1] - places[1][1]
    variance = float(own[0].var(ddof=1) / m + own[1].var(ddof=1) / n)
    if not variance > 0:
        return DeLong(difference, nan, nan, 1.0 if difference == 0 else nan)
    spread = variance**0.5
    half = float(norm.ppf(0.975)) * spread
    low, high = max(-1.0, difference - half), min(1.0, difference + half)
    return DeLong(difference, low, high, float(2 * norm.sf(abs(difference) / spread)))


def holm_correction(p: Sequence[float]) -> list[float]:
    """Apply Holm's correction (1979) to several p values; undefined ones (NaN) do not count and remain undefined."""
    values = np.asarray(p, float)
    corrected = np.full(len(values), np.nan)
    defined = np.flatnonzero(np.isfinite(values))
    order = defined[np.argsort(values[defined], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in corrected]
