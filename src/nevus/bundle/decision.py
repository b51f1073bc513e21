"""The decision rule of a bundle: from logits and image checks to a decision, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nevus.bundle.image_check import CheckLimits, ImageScores
from nevus.errors import NevusError
from nevus.metrics.calibration import Calibration, at_prevalence
from nevus.metrics.conformal import ALPHA, prediction_sets
from nevus.metrics.operating_points import OperatingPoint
from nevus.metrics.scores import Floats

CANNOT_JUDGE = "cannot judge"
NOT_SURE = "not sure"
UNVALIDATED = "unvalidated kind"
MIN_VALIDATED = 30
"""Images of a kind in the validation split from which a bundle counts as validated on it; where the split is small,
half of its images are enough."""


@dataclass(frozen=True)
class KindResult:
    """What is known of a bundle on one kind of image.

    Attributes:
        images: number of images.
        positives: images of the positive class, of two classes.
        sensitivity: at the operating point, or of the most probable class without one; None without positives.
        specificity: in the same way; None without negatives.
        data: name of a data set that the bundle was tested on; empty for its own validation split.

    """

    images: int
    positives: int = 0
    sensitivity: float | None = None
    specificity: float | None = None
    data: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> KindResult:
        """Read what `as_dict` of the rule wrote.

        Raises:
            KeyError, TypeError, ValueError: it is no such result.

        """
        sensitivity, specificity = (
            None if values[name] is None else float(values[name]) for name in ("sensitivity", "specificity")
        )
        if any(share is not None and not 0 <= share <= 1 for share in (sensitivity, specificity)):
            raise ValueError("a share of a kind of image is not between 0 and 1")
        return cls(int(values["images"]), int(values["positives"]), sensitivity, specificity, str(values["data"]))


@dataclass(frozen=True)
class DecisionRule:
    """What turns logits into a decision; everything is fitted on the validation split.

    Attributes:
        calibration: of the logits; None where validation images were too few.
        class_shares: of the validation images, which the probabilities are calibrated for, (classes,); or empty.
        operating_point: threshold for a guaranteed sensitivity, of two classes; else None.
        other_points: thresholds for other sensitivities, see `at_sensitivity`.
        alpha: of the conformal sets.
        set_thresholds: smallest probability of each class in a set, (classes,); empty where there are no sets.
        limits: of the image check; None where it was not fitted.
        kinds: results on each kind of image, `dermoscopic` and `clinical`; a kind without images has no entry.

    """

    calibration: Calibration | None = None
    class_shares: tuple[float, ...] = ()
    operating_point: OperatingPoint | None = None
    other_points: tuple[OperatingPoint, ...] = ()
    alpha: float = ALPHA
    set_thresholds: tuple[float, ...] = ()
    limits: CheckLimits | None = None
    kinds: Mapping[str, KindResult] = field(default_factory=dict)

    def probabilities(self, logits: NDArray[np.floating], prevalence: float | None = None) -> Floats:
        """Return calibrated probabilities, float64 (n, classes).

        Args:
            logits: (n, classes).
            prevalence: share of the positive class where the classifier is used, of two classes; by default that of
                the validation images.

        """
        p = (self.calibration or Calibration.identity(logits.shape[1])).apply(logits)
        if prevalence is None or len(self.class_shares) != 2:
            return p
        return at_prevalence(p, np.array(self.class_shares), np.array([1 - prevalence, prevalence]))

    @property
    def points(self) -> tuple[OperatingPoint, ...]:
        """Operating points that have a threshold, by ascending sensitivity."""
        points = (*([self.operating_point] if self.operating_point else []), *self.other_points)
        return tuple(sorted((p for p in points if p.threshold is not None), key=lambda p: p.sensitivity))

    def at_sensitivity(self, sensitivity: float) -> DecisionRule:
        """Return the same rule with the operating point for another guaranteed sensitivity.

        Args:
            sensitivity: one of `points`.

        Raises:
            NevusError: the rule has no threshold for it.

        """
        point = next((p for p in self.points if abs(p.sensitivity - sensitivity) < 1e-9), None)
        if point is None:
            known = ", ".join(f"{p.sensitivity:g}" for p in self.points)
            reason = f"it has thresholds for {known}. Choose one of these" if known else "it has none. Leave it out"
            raise NevusError(
                f"Cannot use a sensitivity of {sensitivity:g}: the bundle has no threshold for it; {reason}."
            )
        others = (*([self.operating_point] if self.operating_point else []), *self.other_points)
        return replace(self, operating_point=point, other_points=tuple(p for p in others if p is not point))

    def flags(self, scores: ImageScores) -> list[str]:
        """Return for each image the reason not to judge it, or an empty string.

        `blank`, `cut off`, `no color`, `overexposed`, `foreign`, `blurred`; or `unvalidated kind` where the bundle was
        not validated on that kind, see `is_validated`. A rule without `kinds` knows nothing of it.
        """
        limits = self.limits or CheckLimits.default()
        return [
            flag or (UNVALIDATED if self.kinds and not self.is_validated(kind) else "")
            for flag, kind in zip(scores.flags(limits), scores.kinds(limits), strict=True)
        ]

    def is_validated(self, kind: str) -> bool:
        """Return whether the validation split has enough images of a kind: `MIN_VALIDATED`, or half of a small one."""
        own = {name: one.images for name, one in self.kinds.items() if not one.data}
        return own.get(kind, 0) >= max(1, min(MIN_VALIDATED, sum(own.values()) / 2))

    def sets(self, p: Floats) -> NDArray[np.bool_] | None:
        """Return the conformal set of each image, bool (n, classes), of probabilities at the validation's shares."""
        return prediction_sets(p, self.set_thresholds) if self.set_thresholds else None

    def called(self, p: Floats) -> NDArray[np.int64]:
        """Return the class of each image, (n,): by the operating point of two classes, else the most probable one.

        Args:
            p: probabilities at the validation's class shares, (n, classes).

        """
        point = self.operating_point
        if point is None or point.threshold is None:
            return np.asarray(p.argmax(1), np.int64)
        return np.asarray(p[:, 1] >= point.threshold, np.int64)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `config.json`."""
        return {
            "calibration": self.calibration.as_dict() if self.calibration else None,
            "class_shares": list(self.class_shares),
            "operating_point": self.operating_point.as_dict() if self.operating_point else None,
            "other_points": [point.as_dict() for point in self.other_points],
            "alpha": self.alpha,
            "set_thresholds": list(self.set_thresholds),
            "limits": self.limits.as_dict() if self.limits else None,
            "kinds": {kind: asdict(result) for kind, result in self.kinds.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], classes: int) -> DecisionRule:
        """Read what `as_dict` wrote.

        Args:
            values: of `config.json`.
            classes: number of classes.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is no rule for so many classes.

        """
        calibration, point, limits = (values[name] for name in ("calibration", "operating_point", "limits"))
        rule = cls(
            calibration=Calibration.from_dict(calibration) if calibration else None,
            class_shares=tuple(float(v) for v in values["class_shares"]),
            operating_point=OperatingPoint.from_dict(point) if point else None,
            other_points=tuple(OperatingPoint.from_dict(other) for other in values.get("other_points", ())),
            alpha=float(values["alpha"]),
            set_thresholds=tuple(float(v) for v in values["set_thresholds"]),
            limits=CheckLimits.from_dict(limits) if limits else None,
            kinds={str(kind): KindResult.from_dict(result) for kind, result in values["kinds"].items()},
        )
        shares = (*rule.class_shares, *rule.set_thresholds)
        if not all(0 <= share <= 1 for share in shares) or not 0 < rule.alpha < 1:
            raise ValueError("the decision rule has a share that is not between 0 and 1")
        sizes = {len(rule.class_shares), len(rule.set_thresholds)} - {0}
        sizes |= {len(rule.calibration.scale)} if rule.calibration else set()
        if sizes - {classes} or (rule.points and classes != 2):
            raise ValueError("the decision rule is for another number of classes")
        return rule
