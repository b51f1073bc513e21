"""Calibration: probabilities that agree with frequencies, and how far they are from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nevus.metrics.scores import Floats, Ints

MIN_IMAGES, MIN_CLASS = 50, 10
"""Fewest images, and images of each class, that a calibration is fitted on."""
BINS = 10
"""Number of bins of a reliability diagram; each has the same number of images."""


@dataclass(frozen=True)
class Calibration:
    """Logits to probabilities, by an affine map and the softmax: probabilities are softmax(scale * logits + shift).

    Temperature scaling has one scale for all classes and no shift; vector scaling has one of each a class
    (Guo et al. 2017, *On Calibration of Modern Neural Networks*, section 4).

    Attributes:
        scale: factor of each class's logit.
        shift: added to each class's logit.

    """

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    @classmethod
    def identity(cls, classes: int) -> Calibration:
        """Make one that changes no logit."""
        return cls((1.0,) * classes, (0.0,) * classes)

    def apply(self, logits: NDArray[np.floating]) -> Floats:
        """Return calibrated probabilities, float64 (n, classes), of logits (n, classes)."""
        z = logits.astype(np.float64) * np.array(self.scale) + np.array(self.shift)
        z -= z.max(1, keepdims=True)
        e = np.exp(z)
        return np.asarray(e / e.sum(1, keepdims=True))

    def as_dict(self) -> dict[str, list[float]]:
        """Return plain values for JSON."""
        return {"scale": list(self.scale), "shift": list(self.shift)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Read what `as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is no calibration.

        """
        scale, shift = (tuple(float(v) for v in values[name]) for name in ("scale", "shift"))
        if len(scale) != len(shift) or not np.isfinite([*scale, *shift]).all() or min(scale) <= 0:
            raise ValueError("the calibration has values that make no sense")
        return cls(scale, shift)


def fit_calibration(logits: NDArray[np.floating], y: Ints, *, shift: bool | None = None) -> Calibration | None:
    """Fit temperature scaling (two classes) or vector scaling (more) by maximum likelihood.

    Args:
        logits: of images that were not trained on, (n, classes).
        y: their classes, (n,).
        shift: whether to fit a shift, too: of two classes Platt scaling (1999), a scale and a shift, which keeps the
            order of the images; by default for more than two classes. Images of another source than the training
            images need it, because their class shares differ. Without it, more classes have one temperature.

    Returns:
        The calibration; None where there are fewer than `MIN_IMAGES` images, or a class has fewer than `MIN_CLASS`.

    """
    from scipy.optimize import minimize

    k = logits.shape[1]
    counts = np.bincount(y, minlength=k)
    if len(y) < MIN_IMAGES or counts.min() < MIN_CLASS:
        return None
    z, onehot = logits.astype(np.float64), np.eye(k)[y]

    def negative_log_likelihood(scale: Floats, shift: Floats) -> tuple[float, Floats]:
        """Return the mean loss, and its derivative by the scaled logits, (n, classes)."""
        moved = z * scale + shift
        top = moved.max(1, keepdims=True)
        log_sum = np.log(np.exp(moved - top).sum(1, keepdims=True)) + top
        p = np.exp(moved - log_sum)
        return float((log_sum[:, 0] - (moved * onehot).sum(1)).mean()), (p - onehot) / len(y)

    def by_temperature(log_scale: Floats) -> tuple[float, Floats]:
        loss, grad = negative_log_likelihood(np.exp(log_scale[0]) * np.ones(k), np.zeros(k))
        return loss, np.array([(grad * z).sum() * np.exp(log_scale[0])])

    temperature = minimize(by_temperature, np.zeros(1), jac=True, method="L-BFGS-B", bounds=[(-4, 4)])
    scale = float(np.exp(temperature.x[0]))
    if not (k > 2 if shift is None else shift):
        return Calibration((scale,) * k, (0.0,) * k)

    if k == 2:

        def by_platt(values: Floats) -> tuple[float, Floats]:
            loss, grad = negative_log_likelihood(np.exp(values[0]) * np.ones(2), values[1] * half)
            return loss, np.array([(grad * z).sum() * np.exp(values[0]), grad.sum(0) @ half])

        half = np.array([-0.5, 0.5])
        platt = minimize(
            by_platt, np.array([np.log(scale), 0.0]), jac=True, method="L-BFGS-B", bounds=[(-4, 4), (-10, 10)]
        )
        scale, moved = float(np.exp(platt.x[0])), float(platt.x[1])
        return Calibration((scale, scale), (-moved / 2, moved / 2))

    def by_vector(values: Floats) -> tuple[float, Floats]:
        factor = np.exp(values[:k])
        loss, grad = negative_log_likelihood(factor, values[k:])
        # A small penalty: adding a constant to all shifts changes nothing, and rare classes must not run away.
        penalty = (values[k:] ** 2).sum() / (2 * len(y))
        return loss + penalty, np.r_[(grad * z).sum(0) * factor, grad.sum(0) + values[k:] / len(y)]

    start = np.r_[np.full(k, np.log(scale)), np.zeros(k)]
    found = minimize(by_vector, start, jac=True, method="L-BFGS-B", bounds=[(-4, 4)] * k + [(-10, 10)] * k)
    return Calibration(tuple(np.exp(found.x[:k]).tolist()), tuple(found.x[k:].tolist()))


def calibration_target(y: Ints, p: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the probabilities that are judged and whether each came true, (n,) and (n,).

    Of two classes the probability of the positive one; of more that of the most probable class.
    """
    if p.shape[1] == 2:
        return p[:, 1], y == 1
    return p.max(1), p.argmax(1) == y


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: bins of equally many images, by increasing probability.

    Attributes:
        predicted: mean probability of each bin.
        observed: share of each bin that came true.
        n: images of each bin.
        low, high: ends of the 95 % Wilson interval of `observed`.

    """

    predicted: Floats
    observed: Floats
    n: Ints
    low: Floats
    high: Floats


def reliability(y: Ints, p: Floats, bins: int = BINS) -> Reliability:
    """Compute the reliability diagram of probabilities (n, classes)."""
    from nevus.metrics.intervals import wilson_interval

    score, came_true = calibration_target(y, p)
    parts = [part for part in np.array_split(np.argsort(score, kind="stable"), bins) if len(part)]
    intervals = [wilson_interval(int(came_true[part].sum()), len(part)) for part in parts]
    return Reliability(
        predicted=np.array([score[part].mean() for part in parts]),
        observed=np.array([came_true[part].mean() for part in parts]),
        n=np.array([len(part) for part in parts]),
        low=np.array([low for low, _ in intervals]),
        high=np.array([high for _, high in intervals]),
    )


def _binned(y: Ints, p: Floats, w: Floats, bins: int) -> tuple[Floats, Floats, Floats]:
    """Return weight, mean probability and share that came true of each bin, each (..., bins)."""
    score, came_true = calibration_target(y, p)
    order = np.argsort(score, kind="stable")
    sizes = [len(part) for part in np.array_split(order, min(bins, len(order)))]
    starts = np.r_[0, np.cumsum(sizes)[:-1]]
    weight = np.add.reduceat(w[..., order], starts, axis=-1)
    safe = np.where(weight > 0, weight, 1)
    predicted = np.add.reduceat(w[..., order] * score[order], starts, axis=-1) / safe
    observed = np.add.reduceat(w[..., order] * came_true[order], starts, axis=-1) / safe
    return weight, predicted, observed


def expected_calibration_error(y: Ints, p: Floats, w: Floats, bins: int = BINS) -> Floats:
    """Mean distance of probabilities from frequencies, over bins of equally many images, debiased; in [0, 1].

    The plain ECE is too large, since a frequency scatters even where the probability is right. The bias of each bin's
    |difference| is that of a folded normal distribution at the difference whose square is debiased (after Kumar,
    Liang and Ma 2019, *Verified Uncertainty Calibration*, section 4).

    Args:
        y: true class, (n,).
        p: probabilities (n, classes).
        w: weights (..., n).
        bins: number of bins.

    """
    from scipy.special import erf

    weight, predicted, observed = _binned(y, p, w, bins)
    share = weight / weight.sum(-1, keepdims=True)
    # Of a bin in which all or none came true the variance is that of one success and one failure more.
    smooth = (observed * weight + 1) / (weight + 2)
    sigma = np.sqrt(smooth * (1 - smooth) / np.maximum(weight, 1))
    distance = np.abs(predicted - observed)
    true = np.sqrt(np.maximum(distance**2 - sigma**2, 0))
    folded = sigma * np.sqrt(2 / np.pi) * np.exp(-(true**2) / (2 * sigma**2)) + true * erf(true / (sigma * np.sqrt(2)))
    return np.asarray(np.maximum((share * (distance - (folded - true))).sum(-1), 0.0), np.float64)


@dataclass(frozen=True)
class BrierDecomposition:
    """The parts of the Brier score: reliability - resolution + uncertainty (Murphy 1973).

    Attributes:
        reliability: mean squared distance of probabilities from frequencies; smaller is better.
        resolution: variance of the frequencies between bins; larger is better.
        uncertainty: of the classes themselves, p (1 - p).

    """

    reliability: float
    resolution: float
    uncertainty: float


def brier_decomposition(y: Ints, p: Floats, bins: int = BINS) -> BrierDecomposition:
    """Decompose the Brier score of the binned probabilities (n, classes)."""
    weight, predicted, observed = _binned(y, p, np.ones(len(y)), bins)
    share = weight / weight.sum()
    base = float((share * observed).sum())
    return BrierDecomposition(
        reliability=float((share * (predicted - observed) ** 2).sum()),
        resolution=float((share * (observed - base) ** 2).sum()),
        uncertainty=base * (1 - base),
    )


def at_prevalence(p: Floats, trained: Floats, target: Floats) -> Floats:
    """Re-weight probabilities for a place where the classes have other shares (Saerens et al. 2002, equation 2.4).

    Args:
        p: probabilities (n, classes).
        trained: shares of the classes that `p` is calibrated for, (classes,).
        target: shares of the classes at the place of use, (classes,).

    Returns:
        float64 (n, classes), rows summing to 1.

    """
    odds = p * (target / trained)
    return np.asarray(odds / odds.sum(1, keepdims=True))
