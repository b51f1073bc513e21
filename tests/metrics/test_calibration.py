import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from nevus.metrics.calibration import (
    MIN_CLASS,
    Calibration,
    at_prevalence,
    brier_decomposition,
    expected_calibration_error,
    fit_calibration,
    reliability,
)


def drawn(n, k=2, *, factor=1.0, seed=0):
    """Logits, and classes drawn from softmax(factor * logits)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, k))
    p = softmax(factor * logits, axis=1)
    y = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    return logits, y


def test_temperature_is_that_of_a_logistic_regression_without_intercept():
    logits, y = drawn(3000, factor=0.4)
    found = fit_calibration(logits, y)
    oracle = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10).fit(logits[:, 1:] - logits[:, :1], y)
    assert found.scale == pytest.approx([oracle.coef_[0, 0]] * 2, rel=1e-3)
    assert found.shift == (0.0, 0.0)
    assert found.scale[0] == pytest.approx(0.4, abs=0.03)


def test_more_classes_without_a_shift_have_one_temperature():
    logits, y = drawn(20_000, k=4, factor=0.6)
    found = fit_calibration(logits, y, shift=False)
    assert found.scale == pytest.approx([0.6] * 4, abs=0.02)
    assert found.shift == (0.0,) * 4
    assert len(set(found.scale)) == 1


def test_vector_scaling_finds_the_map_that_the_classes_were_drawn_from():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (20_000, 3))
    scale, shift = np.array([0.5, 1.0, 1.5]), np.array([0.5, -0.5, 0.0])
    p = softmax(logits * scale + shift, axis=1)
    y = (p.cumsum(1) > rng.random((len(p), 1))).argmax(1)
    found = fit_calibration(logits, y)
    assert found.scale == pytest.approx(scale, abs=0.05)
    assert np.array(found.shift) - found.shift[2] == pytest.approx(shift, abs=0.08)
    assert log_loss(y, found.apply(logits)) < log_loss(y, softmax(logits, axis=1))


def test_two_classes_keep_their_order():
    logits, y = drawn(200, factor=0.3)
    p = fit_calibration(logits, y).apply(logits)
    assert (p.argmax(1) == logits.argmax(1)).all()
    assert (np.argsort(p[:, 1], kind="stable") == np.argsort(logits[:, 1] - logits[:, 0], kind="stable")).all()


def test_too_few_images_are_not_calibrated():
    logits, y = drawn(200)
    rare = np.flatnonzero(y == 1)[: MIN_CLASS - 1]
    rows = np.r_[np.flatnonzero(y == 0), rare]
    assert fit_calibration(logits[rows], y[rows]) is None
    assert fit_calibration(logits[:40], y[:40]) is None


@pytest.mark.parametrize(
    "values", [{"scale": [1, 1]}, {"scale": [0, 1], "shift": [0, 0]}, {"scale": [1], "shift": ["x"]}]
)
def test_a_calibration_that_makes_no_sense_is_refused(values):
    with pytest.raises((KeyError, ValueError)):
        Calibration.from_dict(values)
    good = Calibration((2.0, 2.0), (0.0, 0.5))
    assert Calibration.from_dict(good.as_dict()) == good


@pytest.mark.parametrize("k", [2, 4])
def test_the_debiased_error_of_a_calibrated_model_is_near_zero(k):
    """The plain estimate of the same bins is several times as large."""
    plain, debiased = [], []
    for seed in range(40):
        logits, y = drawn(600, k, seed=seed)
        p = softmax(logits, axis=1)
        curve = reliability(y, p)
        plain.append((curve.n / 600 * abs(curve.predicted - curve.observed)).sum())
        debiased.append(expected_calibration_error(y, p, np.ones(600)))
    assert np.mean(debiased) < 0.015
    assert np.mean(debiased) < 0.45 * np.mean(plain)


def test_the_error_of_a_miscalibrated_model_is_its_true_distance():
    rng = np.random.default_rng(0)
    estimates = []
    for _ in range(60):
        stated = rng.uniform(0.2, 0.8, 1000)
        y = (rng.random(1000) < stated + 0.1).astype(int)
        p = np.stack([1 - stated, stated], 1)
        estimates.append(expected_calibration_error(y, p, np.ones(1000)))
    assert np.mean(estimates) == pytest.approx(0.1, abs=0.005)


@given(st.integers(0, 2**32 - 1))
def test_the_parts_of_the_brier_score_add_up(seed):
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 6, 120) / 5  # so few values that each bin of them is pure after binning by value
    y = (rng.random(120) < score).astype(int)
    p = np.stack([1 - score, score], 1)
    found = brier_decomposition(y, p)
    order = np.argsort(score, kind="stable")
    binned = np.empty(120)
    for part in np.array_split(order, 10):
        binned[part] = score[part].mean()
    # With one probability a bin the decomposition is exact: sklearn's score of the binned probabilities.
    expected = brier_score_loss(y, binned)
    assert found.reliability - found.resolution + found.uncertainty == pytest.approx(expected, abs=1e-12)


def test_bins_have_equally_many_images():
    logits, y = drawn(1003)
    curve = reliability(y, softmax(logits, axis=1))
    assert set(curve.n) == {100, 101}
    assert (curve.low <= curve.observed).all()
    assert (curve.observed <= curve.high).all()


def test_prevalence_is_bayes_rule():
    """A classifier of two normal scores: its exact posterior is known at every prevalence."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, 500)

    def posterior(share):
        positive, negative = share * np.exp(-((x - 1) ** 2) / 2), (1 - share) * np.exp(-((x + 1) ** 2) / 2)
        return np.stack([negative, positive], 1) / (positive + negative)[:, None]

    moved = at_prevalence(posterior(0.45), np.array([0.55, 0.45]), np.array([0.98, 0.02]))
    assert moved == pytest.approx(posterior(0.02), abs=1e-12)


def test_platt_scaling_of_two_classes_is_a_logistic_regression():
    """Oracle: scikit-learn's logistic regression on the difference of the logits."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, 400)
    margin = rng.normal(2.0 * y - 2.5, 1.5)
    logits = np.stack([-margin / 2, margin / 2], 1)
    found = fit_calibration(logits, y, shift=True)
    oracle = LogisticRegression(C=1e9, tol=1e-8).fit(margin[:, None], y)
    assert found.scale[0] == found.scale[1] == pytest.approx(oracle.coef_[0, 0], rel=1e-3)
    assert found.shift[1] - found.shift[0] == pytest.approx(oracle.intercept_[0], rel=1e-3)
    assert found.apply(logits)[:, 1].mean() == pytest.approx(y.mean(), abs=1e-4)
