"""95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, rankdata

from nevus.metrics.scores import Floats, Ints

LEVEL = 0.95
REPLICATES = 2000

Interval = tuple[float, float]
UNDEFINED: Interval = (float("nan"), float("nan"))


def wilson_interval(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927), by scipy; undefined for n = 0."""
    if n == 0:
        return UNDEFINED
    interval = binomtest(successes, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def delong_variance(positive: NDArray[np.bool_], score: Floats) -> float:
    """Compute the variance of the AUROC after DeLong et al. 1988, by midranks (Sun and Xu 2014).

    NaN where a class has fewer than two images.

    Args:
        positive: (n,).
        score: (n,).

    """
    m, n = int(positive.sum()), int((~positive).sum())
    if m < 2 or n < 2:
        return float("nan")
    v10, v01 = placements(positive, score)
    return float(v10.var(ddof=1) / m + v01.var(ddof=1) / n)


def placements(positive: NDArray[np.bool_], score: Floats) -> tuple[Floats, Floats]:
    """Return the share of negatives below each positive, and of positives above each negative; ties count half.

    The mean of either is the AUROC.
    """
    x, y = score[positive], score[~positive]
    both = rankdata(np.r_[x, y])
    m, n = len(x), len(y)
    return (both[:m] - rankdata(x)) / n, 1 - (both[m:] - rankdata(y)) / m


def delong_interval(positive: NDArray[np.bool_], score: Floats, area: float, level: float = LEVEL) -> Interval:
    """DeLong's interval of an AUROC, cut to [0, 1].

    Where the variance is 0 (every positive above every negative) the method gives no interval, and neither
    does this.
    """
    variance = delong_variance(positive, score)
    if not variance > 0:
        return UNDEFINED
    half = float(norm.ppf(0.5 + level / 2)) * variance**0.5
    return max(0.0, area - half), min(1.0, area + half)


def bootstrap_weights(groups: Ints, replicates: int, seed: int) -> Iterator[Floats]:
    """Draw groups with replacement, and count how often each image is drawn.

    Images of one lesion or patient are not independent: an interval must resample groups.

    Args:
        groups: code 0..g-1 of each image, (n,).
        replicates: in all.
        seed: of the draws.

    Yields:
        Weights (some replicates, n), as many at a time as fit 160 MB.

    """
    rng = np.random.default_rng(seed)
    codes, which = np.unique(groups, return_inverse=True)
    chance = np.full(len(codes), 1 / len(codes))
    at_once = max(1, 20_000_000 // len(groups))
    for start in range(0, replicates, at_once):
        size = min(at_once, replicates - start)
        yield rng.multinomial(len(codes), chance, size=size)[:, which].astype(np.float64)


def bootstrap(
    scores: Mapping[str, Callable[[Floats], Floats]],
    groups: Ints,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Percentile intervals of several scores on the same draws of groups.

    Args:
        scores: by name, each from weights (replicates, n) to values (replicates,).
        groups: group of each image, (n,).
        replicates: number of bootstrap samples.
        seed: of the draws.
        level: coverage of the intervals.

    Returns:
        Interval by name. Samples in which a score is undefined do not count. Where these are more than one in twenty,
        where all samples agree, or where there is one group only, the interval is undefined.

    """
    if len(np.unique(groups)) < 2:
        return dict.fromkeys(scores, UNDEFINED)
    drawn: dict[str, list[Floats]] = {name: [] for name in scores}
    for w in bootstrap_weights(groups, replicates, seed):
        for name, score in scores.items():
            drawn[name].append(score(w))
    return {name: _percentiles(np.concatenate(parts), level) for name, parts in drawn.items()}


def _percentiles(values: Floats, level: float) -> Interval:
    defined = values[np.isfinite(values)]
    if len(defined) < 0.95 * len(values):
        return UNDEFINED
    if defined.min() == defined.max():
        return UNDEFINED  # no draw differs from another: the bootstrap knows nothing here, and says so
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
