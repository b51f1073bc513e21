"""The decision rule, fitted on the validation split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nevus.bundle.decision import DecisionRule, KindResult
from nevus.bundle.image_check import CHECK_IMAGE_SIZE, CheckLimits, check_images
from nevus.data.decoded import DecodedDataset
from nevus.metrics.calibration import Calibration, fit_calibration
from nevus.metrics.conformal import class_thresholds
from nevus.metrics.operating_points import fit_operating_point
from nevus.metrics.scores import Ints

OTHERS = (0.8, 0.9, 0.98)
"""Sensitivities, besides `SENSITIVITY`, that a bundle has a threshold for, where validation cases are enough."""


def fit_decision_rule(
    logits: NDArray[np.floating],
    y: Ints,
    groups: Ints,
    limits: CheckLimits,
    kinds: Sequence[str],
    *,
    shift: bool | None = None,
) -> DecisionRule:
    """Fit calibration, operating point and conformal sets, and count the results by kind of image.

    The validation split also chose the weights, so that its scores are slightly better than those of new images.

    Args:
        logits: of the validation images, (n, classes).
        y: their classes, (n,).
        groups: code of each image's lesion or patient, (n,).
        limits: of the image check for the validation images, see `image_limits`.
        kinds: of the validation images, (n,), see `image_limits`.
        shift: see `fit_calibration`.

    """
    k = logits.shape[1]
    calibration = fit_calibration(logits, y, shift=shift)
    p = (calibration or Calibration.identity(k)).apply(logits)
    shares = np.bincount(y, minlength=k) / len(y)
    rule = DecisionRule(
        calibration=calibration,
        class_shares=tuple(shares.tolist()) if shares.min() > 0 else (),
        operating_point=fit_operating_point(y, p[:, 1], groups) if k == 2 else None,
        other_points=tuple(fit_operating_point(y, p[:, 1], groups, value) for value in OTHERS) if k == 2 else (),
        set_thresholds=class_thresholds(y, p, groups),
        limits=limits,
    )
    return replace(rule, kinds=kind_results(kinds, y, rule.called(p)))


def kind_results(kinds: Sequence[str], y: Ints, called: Ints, data: str = "") -> dict[str, KindResult]:
    """Return the results on each kind of image.

    Args:
        kinds: of each image, (n,).
        y: true classes, (n,); sensitivity and specificity are of class 1 of two.
        called: classes by the decision rule, (n,).
        data: name of the data set; empty for the validation split.

    """
    names, found = np.array(kinds, object), {}
    for kind in sorted(set(kinds)):
        rows = names == kind
        right = [called[rows & (y == c)] == c for c in (0, 1)]
        specificity, sensitivity = (float(part.mean()) if len(part) else None for part in right)
        two = y.max(initial=0) <= 1 and called.max(initial=0) <= 1
        found[kind] = (
            KindResult(int(rows.sum()), int((y[rows] == 1).sum()), sensitivity, specificity, data)
            if two
            else KindResult(int(rows.sum()), data=data)
        )
    return found


def image_limits(images: DecodedDataset) -> tuple[CheckLimits, list[str]]:
    """Return the limits of the image check for a data set, and the kind of each image.

    The kind is the manifest's `image_type` where it is known, else the one that is recognized.
    """
    squares = images.pixels.at_size(CHECK_IMAGE_SIZE)
    scores = check_images(squares[0 : len(squares)])
    limits = scores.fitted_limits()
    table, kinds = images.manifest.table, list(scores.kinds(limits))
    if "image_type" in table.columns:
        given = table["image_type"].fillna("").astype(str).tolist()
        kinds = [one or recognized for one, recognized in zip(given, kinds, strict=True)]
    return limits, kinds
