"""All metrics of a classifier on one set of images, each with its interval and its n."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nevus.errors import NevusError
from nevus.metrics import scores
from nevus.metrics.calibration import expected_calibration_error
from nevus.metrics.intervals import REPLICATES, UNDEFINED, Interval, bootstrap, delong_interval, wilson_interval
from nevus.metrics.scores import Floats, Ints


@dataclass(frozen=True)
class MetricEstimate:
    """A metric with its 95 % interval.

    Attributes:
        value: NaN where it is undefined.
        n: number of images: for a recall those of the class, for a precision those predicted as the class.
        ci_low: lower end of the 95 % interval, NaN where undefined.
        ci_high: upper end.
        method: of the interval: `wilson`, `delong` or `bootstrap` (by group).
        bootstrap: interval by a bootstrap over groups, where `method` is another.

    """

    value: float
    n: int
    ci_low: float
    ci_high: float
    method: str
    bootstrap: Interval = field(default=UNDEFINED)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def proportion(hits: np.ndarray) -> MetricEstimate:
    """Return the share of hits, bool (n,), with Wilson's interval; undefined for n = 0."""
    n = len(hits)
    value = float(hits.mean()) if n else float("nan")
    return MetricEstimate(value, n, *wilson_interval(int(hits.sum()), n), "wilson")


@dataclass(frozen=True)
class ConfusionCounts:
    """The four cells of a two-class confusion matrix."""

    tp: int
    tn: int
    fp: int
    fn: int


def compute_metrics(
    y: Ints,
    p: Floats,
    classes: Sequence[str],
    groups: Ints,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, MetricEstimate]:
    """Compute every metric, by name.

    Two classes (the second is positive): accuracy, cross_entropy, sensitivity, specificity, ppv, npv,
    balanced_accuracy, f1, mcc, auroc, auprc, brier. More: accuracy, cross_entropy, balanced_accuracy (which
    is macro recall), weighted and macro f1, mcc, brier, macro and weighted one-vs-rest auroc, and
    `recall:<class>`, `precision:<class>`, `auroc:<class>` for each.

    Args:
        y: true class, (n,), values 0..classes-1.
        p: probabilities (n, classes); the most probable class is predicted, the first of equal ones.
        classes: names.
        groups: code of each image's group, (n,).
        replicates: number of bootstrap samples.
        seed: of the bootstrap.

    """
    k, n = len(classes), len(y)
    if not n or not np.isfinite(p).all():
        raise NevusError("Cannot compute metrics: there are no images, or probabilities are not finite.")
    predicted = p.argmax(1).astype(np.int64)
    ones = np.ones(n)
    matrix = scores.confusion(y, predicted, k, ones)

    def of_matrix(score: Callable[[Floats], Floats]) -> Callable[[Floats], Floats]:
        return lambda w: score(scores.confusion(y, predicted, k, w))

    def one_vs_rest(w: Floats) -> Floats:
        return np.stack([scores.auroc(y == c, p[:, c], w) for c in range(k)], -1)

    functions: dict[str, tuple[Callable[[Floats], Floats], int]] = {
        "accuracy": (of_matrix(scores.accuracy), n),
        "cross_entropy": (lambda w: scores.cross_entropy(y, p, w), n),
        "balanced_accuracy": (of_matrix(lambda m: scores.macro(scores.recall(m))), n),
        "mcc": (of_matrix(scores.mcc), n),
        "brier": (lambda w: scores.brier(y, p, w), n),
        "ece": (lambda w: expected_calibration_error(y, p, w), n),
    }
    proportions: dict[str, tuple[int, int]] = {"accuracy": (int(np.trace(matrix)), n)}
    areas: dict[str, int] = {}
    if k == 2:
        for name, rate, axis, cls in (
            ("sensitivity", scores.recall, 1, 1),
            ("specificity", scores.recall, 1, 0),
            ("ppv", scores.precision, 0, 1),
            ("npv", scores.precision, 0, 0),
        ):
            total = int(matrix.sum(axis)[cls])
            functions[name] = (of_matrix(_pick(rate, cls)), total)
            proportions[name] = (int(matrix[cls, cls]), total)
        functions["f1"] = (of_matrix(_pick(scores.f1, 1)), n)
        functions["auroc"] = (lambda w: scores.auroc(y == 1, p[:, 1], w), n)
        functions["auprc"] = (lambda w: scores.average_precision(y == 1, p[:, 1], w), n)
        areas["auroc"] = 1
    else:
        functions["f1_macro"] = (of_matrix(lambda m: scores.macro(scores.f1(m))), n)
        functions["f1_weighted"] = (of_matrix(lambda m: scores.weighted(scores.f1(m), m)), n)
        functions["auroc_macro"] = (lambda w: scores.macro(one_vs_rest(w)), n)
        functions["auroc_weighted"] = (
            lambda w: scores.weighted(one_vs_rest(w), scores.confusion(y, predicted, k, w)),
            n,
        )
        for c, name in enumerate(classes):
            for kind, rate, axis in (("recall", scores.recall, 1), ("precision", scores.precision, 0)):
                total = int(matrix.sum(axis)[c])
                functions[f"{kind}:{name}"] = (of_matrix(_pick(rate, c)), total)
                proportions[f"{kind}:{name}"] = (int(matrix[c, c]), total)
            functions[f"auroc:{name}"] = (_area(y == c, p[:, c]), n)
            areas[f"auroc:{name}"] = c

    # Images of one group are not independent: then the interval is the one that resamples groups.
    repeated = len(np.unique(groups)) < n
    drawn = bootstrap({name: f for name, (f, _) in functions.items()}, groups, replicates=replicates, seed=seed)
    metrics: dict[str, MetricEstimate] = {}
    for name, (score_of, total) in functions.items():
        value = float(score_of(ones))
        interval, method = drawn[name], "bootstrap"
        if name in proportions:
            interval, method = wilson_interval(*proportions[name]), "wilson"
        elif name in areas:
            interval, method = delong_interval(y == areas[name], p[:, areas[name]], value), "delong"
        if repeated and np.isfinite(drawn[name]).all():
            interval, method = drawn[name], "bootstrap"
        if not np.isfinite(value):
            interval = UNDEFINED
        metrics[name] = MetricEstimate(
            value, total, *interval, method, UNDEFINED if method == "bootstrap" else drawn[name]
        )
    return metrics


def counts(y: Ints, p: Floats) -> ConfusionCounts:
    """Count TP, TN, FP and FN of two classes, the second positive."""
    predicted = p.argmax(1)
    return ConfusionCounts(
        tp=int(((y == 1) & (predicted == 1)).sum()),
        tn=int(((y == 0) & (predicted == 0)).sum()),
        fp=int(((y == 0) & (predicted == 1)).sum()),
        fn=int(((y == 1) & (predicted == 0)).sum()),
    )


def _pick(score: Callable[[Floats], Floats], cls: int) -> Callable[[Floats], Floats]:
    return lambda matrix: score(matrix)[..., cls]


def _area(positive: np.ndarray, score: Floats) -> Callable[[Floats], Floats]:
    return lambda w: scores.auroc(positive, score, w)
