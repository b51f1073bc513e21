"""Operating points: a threshold for a guaranteed sensitivity, and what a threshold costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nevus.metrics.scores import Floats, Ints, ratio

SENSITIVITY, CONFIDENCE = 0.95, 0.95


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the probability of the positive class.

    Attributes:
        threshold: images of this probability or more are called positive; None where `positives` are too few.
        sensitivity: that is guaranteed.
        confidence: of the guarantee.
        positives: independent positive cases (lesions or patients) that the threshold was chosen on.
        missing: positive cases that are missing for a guarantee.
        specificity: at the threshold on the images that it was chosen on; None without a threshold or negatives.

    """

    threshold: float | None
    sensitivity: float = SENSITIVITY
    confidence: float = CONFIDENCE
    positives: int = 0
    missing: int = 0
    specificity: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> OperatingPoint:
        """Read what `as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is no operating point.

        """
        threshold, specificity = (None if values[k] is None else float(values[k]) for k in ("threshold", "specificity"))
        sensitivity, confidence = float(values["sensitivity"]), float(values["confidence"])
        point = cls(threshold, sensitivity, confidence, int(values["positives"]), int(values["missing"]), specificity)
        if not (0 < sensitivity < 1 and 0 < confidence < 1):
            raise ValueError("the operating point has a share that is not between 0 and 1")
        if point.threshold is not None and not 0 <= point.threshold <= 1:
            raise ValueError("the threshold is not between 0 and 1")
        return point


def fit_operating_point(
    y: Ints, positive: Floats, groups: Ints, sensitivity: float = SENSITIVITY, confidence: float = CONFIDENCE
) -> OperatingPoint:
    """Choose the largest threshold whose sensitivity is at least `sensitivity` with a given confidence.

    With n positive cases, and k of them below the threshold, the one-sided Clopper-Pearson bound of the sensitivity is
    at least `sensitivity` if a binomial variable of n trials with chance 1 - sensitivity is at most k with a
    probability of at most 1 - confidence. The threshold is then the score of rank k + 1: a tolerance limit, valid for
    any distribution (Wilks 1941). Of a case with several images the lowest score counts, so that the guarantee is for
    cases in any of their images.

    Args:
        y: true class, 1 is positive, (n,).
        positive: calibrated probability of the positive class, (n,).
        groups: code of each image's lesion or patient, (n,).
        sensitivity: to guarantee, between 0 and 1.
        confidence: of the guarantee, between 0 and 1.

    """
    from scipy.stats import binom

    chosen = y == 1
    lowest: dict[int, float] = {}
    for group, score in zip(groups[chosen].tolist(), positive[chosen].tolist(), strict=True):
        lowest[group] = min(score, lowest.get(group, 1.0))
    scores = np.sort(np.array(list(lowest.values()), np.float64))
    n = len(scores)
    allowed = np.flatnonzero(binom.cdf(np.arange(n), n, 1 - sensitivity) <= 1 - confidence) if n else np.array([], int)
    if not len(allowed):
        needed = int(np.ceil(np.log(1 - confidence) / np.log(sensitivity)))
        return OperatingPoint(None, sensitivity, confidence, n, max(needed - n, 0))
    threshold = float(scores[allowed[-1]])
    negative = positive[y == 0]
    specificity = float((negative < threshold).mean()) if len(negative) else None
    return OperatingPoint(threshold, sensitivity, confidence, n, 0, specificity)


def called(positive: Floats, threshold: float) -> NDArray[np.int64]:
    """Return the class of each image at a threshold: 1 where the probability is at least the threshold, (n,)."""
    return (positive >= threshold).astype(np.int64)


def number_needed_to_excise(ppv: Floats) -> Floats:
    """Return the lesions that are called positive for each one that is: 1 / PPV (Argenziano et al. 2012)."""
    return ratio(np.ones_like(ppv), ppv)


def prevalence_weights(y: Ints, w: Floats, prevalence: float | None) -> Floats:
    """Return weights under which a share `prevalence` of the images is positive; unchanged for None.

    Args:
        y: true class, 1 is positive, (n,).
        w: weights (..., n).
        prevalence: between 0 and 1.

    """
    if prevalence is None:
        return w
    total = w.sum(-1, keepdims=True)
    positives = (w * (y == 1)).sum(-1, keepdims=True)
    share = ratio(positives, total)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(y == 1, w * prevalence / share, w * (1 - prevalence) / (1 - share)))


def net_benefit(y: Ints, positive: Floats, thresholds: Floats, prevalence: float | None = None) -> Floats:
    """Net benefit of calling positive at each threshold probability (Vickers and Elkin 2006).

    TP / n - FP / n * t / (1 - t): a threshold t says that a missed positive is as bad as (1 - t) / t false alarms.

    Args:
        y: true class, 1 is positive, (n,).
        positive: probability of the positive class, (n,).
        thresholds: in (0, 1), (m,).
        prevalence: share of positive cases where the classifier is used; by default that of the images.

    Returns:
        float64 (m,).

    """
    w = prevalence_weights(y, np.ones(len(y)), prevalence)
    w = w / w.sum()
    call = positive[None] >= thresholds[:, None]
    tp = (call * (w * (y == 1))).sum(1)
    fp = (call * (w * (y == 0))).sum(1)
    return np.asarray(tp - fp * thresholds / (1 - thresholds))


def net_benefit_of_all(y: Ints, thresholds: Floats, prevalence: float | None = None) -> Floats:
    """Net benefit of calling every image positive."""
    return net_benefit(y, np.ones(len(y)), thresholds, prevalence)
