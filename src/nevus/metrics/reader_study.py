"""A classifier beside readers: sensitivity and specificity, and paired tests on the same images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nevus.metrics.operating_points import called
from nevus.metrics.report import MetricEstimate, proportion
from nevus.metrics.scores import Floats, Ints
from nevus.metrics.significance import holm_correction, mcnemar


@dataclass(frozen=True)
class ReaderComparison:
    """One reader beside the classifier.

    Attributes:
        name: of the reader.
        n: images that both decided; 0 where only sensitivity and specificity of the reader are known.
        reader: `sensitivity` and `specificity` of the reader.
        classifier: the same of the classifier at its operating point, on these images; empty where n is 0.
        p: of the two differences by McNemar's exact test, after Holm's correction over all readers; empty where n is 0.
        specificity_at_sensitivity: of the classifier on these images, at the largest threshold with at least the
            reader's sensitivity; None without images of both classes.

    """

    name: str
    n: int
    reader: Mapping[str, MetricEstimate]
    classifier: Mapping[str, MetricEstimate]
    p: Mapping[str, float]
    specificity_at_sensitivity: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `evaluation.json`."""
        named = {key: {name: m.as_dict() for name, m in getattr(self, key).items()} for key in ("reader", "classifier")}
        return {**vars(self), "p": dict(self.p), **named}


def known_reader(name: str, sensitivity: float, specificity: float) -> ReaderComparison:
    """Return a reader of whom only sensitivity and specificity are known: there is no paired test."""
    nan = float("nan")
    values = {"sensitivity": sensitivity, "specificity": specificity}
    reader = {key: MetricEstimate(value, 0, nan, nan, "given") for key, value in values.items()}
    return ReaderComparison(name, 0, reader, {}, {}, None)


def compare_reader(name: str, y: Ints, decisions: Ints, positive: Floats, threshold: float) -> ReaderComparison:
    """Compare a reader with the classifier on the same images.

    Args:
        name: of the reader.
        y: true class, 1 is positive, (n,).
        decisions: of the reader, (n,).
        positive: probability of the positive class, (n,).
        threshold: of the classifier's decisions.

    """
    own = called(positive, threshold)
    reader, classifier, p = {}, {}, {}
    for metric, c in (("sensitivity", 1), ("specificity", 0)):
        of = y == c
        reader[metric] = proportion(decisions[of] == c)
        classifier[metric] = proportion(own[of] == c)
        p[metric] = mcnemar(y[of], own[of], decisions[of]).p if of.any() else float("nan")
    scores = np.sort(positive[y == 1])[::-1]
    least = round(reader["sensitivity"].value * len(scores)) if len(scores) else 0
    matched = None
    if len(scores) and (y == 0).any():
        matched = float((positive[y == 0] < scores[least - 1]).mean()) if least else 1.0
    return ReaderComparison(name, len(y), reader, classifier, p, matched)


def corrected(readers: list[ReaderComparison]) -> list[ReaderComparison]:
    """Apply Holm's correction to the p values of all readers, sensitivity and specificity together."""
    places = [(row, metric) for row, one in enumerate(readers) for metric in one.p]
    values = holm_correction([readers[row].p[metric] for row, metric in places])
    found = [dict(one.p) for one in readers]
    for (row, metric), value in zip(places, values, strict=True):
        found[row][metric] = value
    return [replace(one, p=p) for one, p in zip(readers, found, strict=True)]
