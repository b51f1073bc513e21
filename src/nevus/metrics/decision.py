"""Metrics of decisions: calibration before and after, an operating point, conformal sets, net benefit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nevus.metrics import scores
from nevus.metrics.calibration import BrierDecomposition, brier_decomposition, expected_calibration_error
from nevus.metrics.conformal import coverage
from nevus.metrics.intervals import REPLICATES, bootstrap, wilson_interval
from nevus.metrics.operating_points import (
    called,
    net_benefit,
    net_benefit_of_all,
    number_needed_to_excise,
    prevalence_weights,
)
from nevus.metrics.report import MetricEstimate
from nevus.metrics.scores import Floats, Ints

CURVE = np.round(np.arange(0.01, 0.61, 0.01), 2)
"""Threshold probabilities of a decision curve."""


@dataclass(frozen=True)
class DecisionMetrics:
    """How the decisions of a classifier do on a set of images.

    Attributes:
        before: `ece` and `brier` of the probabilities before calibration.
        after: the same of the calibrated ones.
        brier: the parts of the Brier score of the calibrated ones.
        at_threshold: `sensitivity`, `specificity`, `ppv`, `npv` and `number_needed_to_excise` at the operating point;
            empty without one.
        coverage: by class, share of its images whose conformal set contains it; empty without sets.
        set_size: mean number of classes in a set; NaN without sets.
        not_sure: share of the images whose set has several classes; NaN without sets.
        curve: net benefit by threshold probability: columns `threshold`, `model`, `all`; empty for more classes.
        prevalence: that PPV, NPV, number needed to excise and net benefit are for; None for that of the images.

    """

    before: Mapping[str, MetricEstimate]
    after: Mapping[str, MetricEstimate]
    brier: BrierDecomposition
    at_threshold: Mapping[str, MetricEstimate]
    coverage: Mapping[str, MetricEstimate]
    set_size: float
    not_sure: float
    curve: Mapping[str, Floats]
    prevalence: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `evaluation.json`."""
        named = ("before", "after", "at_threshold", "coverage")
        return {
            **{name: {key: m.as_dict() for key, m in getattr(self, name).items()} for name in named},
            "brier": vars(self.brier),
            "set_size": self.set_size,
            "not_sure": self.not_sure,
            "net_benefit": {name: values.tolist() for name, values in self.curve.items()},
            "prevalence": self.prevalence,
        }


def decision_metrics(
    y: Ints,
    p: Floats,
    uncalibrated: Floats,
    classes: tuple[str, ...],
    groups: Ints,
    *,
    threshold: float | None = None,
    member: NDArray[np.bool_] | None = None,
    prevalence: float | None = None,
    at_use: Floats | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> DecisionMetrics:
    """Compute the metrics of decisions.

    Args:
        y: true class, (n,).
        p: calibrated probabilities (n, classes).
        uncalibrated: before calibration, (n, classes).
        classes: names.
        groups: code of each image's group, (n,).
        threshold: of the operating point; None if there is none.
        member: conformal sets, (n, classes); None if there are none.
        prevalence: of the positive class where the classifier is used; by default that of the images.
        at_use: probabilities at that prevalence, (n, classes), for the net benefit; by default `p`.
        replicates: number of bootstrap samples.
        seed: of the bootstrap.

    """
    n, repeated = len(y), len(np.unique(groups)) < len(y)

    def calibration(q: Floats) -> dict[str, MetricEstimate]:
        functions: dict[str, Callable[[Floats], Floats]] = {
            "ece": lambda w: expected_calibration_error(y, q, w),
            "brier": lambda w: scores.brier(y, q, w),
        }
        drawn = bootstrap(functions, groups, replicates=replicates, seed=seed)
        values = {name: float(score(np.ones(n))) for name, score in functions.items()}
        return {name: MetricEstimate(value, n, *drawn[name], "bootstrap") for name, value in values.items()}

    two = len(classes) == 2
    at_threshold = {}
    if two and threshold is not None:
        at_threshold = _at_threshold(y, p[:, 1], threshold, groups, prevalence, replicates, seed, repeated=repeated)
    covered = {}
    if member is not None:
        for c, name in enumerate(classes):
            rows = y == c
            hits, total = int(member[rows, c].sum()), int(rows.sum())
            interval, method = wilson_interval(hits, total), "wilson"
            if repeated and total:
                drawn = bootstrap(
                    {"": lambda w, rows=rows: coverage(y[rows], member[rows], w)},  # type: ignore[misc]
                    groups[rows],
                    replicates=replicates,
                    seed=seed,
                )[""]
                interval, method = (drawn, "bootstrap") if np.isfinite(drawn).all() else (interval, method)
            covered[name] = MetricEstimate(hits / total if total else float("nan"), total, *interval, method)
    curve: dict[str, Floats] = {}
    if two and 0 < y.mean() < 1:
        curve = {
            "threshold": CURVE,
            "model": net_benefit(y, (p if at_use is None else at_use)[:, 1], CURVE, prevalence),
            "all": net_benefit_of_all(y, CURVE, prevalence),
        }
    return DecisionMetrics(
        before=calibration(uncalibrated),
        after=calibration(p),
        brier=brier_decomposition(y, p),
        at_threshold=at_threshold,
        coverage=covered,
        set_size=float("nan") if member is None else float(member.sum(1).mean()),
        not_sure=float("nan") if member is None else float((member.sum(1) > 1).mean()),
        curve=curve,
        prevalence=prevalence,
    )


def _at_threshold(
    y: Ints,
    positive: Floats,
    threshold: float,
    groups: Ints,
    prevalence: float | None,
    replicates: int,
    seed: int,
    *,
    repeated: bool,
) -> dict[str, MetricEstimate]:
    call = called(positive, threshold)

    def matrix(w: Floats) -> Floats:
        return scores.confusion(y, call, 2, prevalence_weights(y, w, prevalence))

    functions: dict[str, Callable[[Floats], Floats]] = {
        "sensitivity": lambda w: scores.recall(matrix(w))[..., 1],
        "specificity": lambda w: scores.recall(matrix(w))[..., 0],
        "ppv": lambda w: scores.precision(matrix(w))[..., 1],
        "npv": lambda w: scores.precision(matrix(w))[..., 0],
        "number_needed_to_excise": lambda w: number_needed_to_excise(scores.precision(matrix(w))[..., 1]),
    }
    drawn = bootstrap(functions, groups, replicates=replicates, seed=seed)
    right = {"sensitivity": (y == 1, call == 1), "specificity": (y == 0, call == 0)}
    if prevalence is None:
        right |= {"ppv": (call == 1, y == 1), "npv": (call == 0, y == 0)}
    found = {}
    for name, score in functions.items():
        interval, method, n = drawn[name], "bootstrap", len(y)
        if name in right:
            of, hit = right[name]
            n = int(of.sum())
            if not repeated or not np.isfinite(interval).all():
                interval, method = wilson_interval(int((of & hit).sum()), n), "wilson"
        found[name] = MetricEstimate(float(score(np.ones(len(y)))), n, *interval, method)
    return found
