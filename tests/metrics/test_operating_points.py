import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from nevus.metrics.operating_points import (
    OperatingPoint,
    called,
    fit_operating_point,
    net_benefit,
    net_benefit_of_all,
    number_needed_to_excise,
    prevalence_weights,
)


@given(st.integers(0, 2**32 - 1), st.integers(59, 400), st.sampled_from([0.8, 0.9, 0.95]))
def test_the_threshold_is_the_largest_with_the_guarantee(seed, n, sensitivity):
    """Oracle: scipy's one-sided Clopper-Pearson interval."""
    scores = np.random.default_rng(seed).random(n)
    found = fit_operating_point(np.ones(n, int), scores, np.arange(n), sensitivity)

    def bound(threshold):
        hits = int((scores >= threshold).sum())
        return binomtest(hits, n, alternative="greater").proportion_ci(0.95, method="exact").low

    assert bound(found.threshold) >= sensitivity - 1e-9
    larger = scores[scores > found.threshold]
    assert not len(larger) or bound(larger.min()) < sensitivity


def guarantee_holds(repeats):
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(repeats):
        scores = rng.beta(4, 2, 150)
        point = fit_operating_point(np.ones(150, int), scores, np.arange(150))
        held += (rng.beta(4, 2, 20_000) >= point.threshold).mean() >= 0.95
    return held / repeats


def test_the_guarantee_holds_with_its_confidence_short():
    assert guarantee_holds(150) > 0.9


@pytest.mark.long
def test_the_guarantee_holds_with_its_confidence_in_1000_repeats():
    assert guarantee_holds(1000) > 0.935


def test_too_few_positives_are_counted():
    found = fit_operating_point(np.r_[np.ones(40, int), np.zeros(9, int)], np.linspace(0, 1, 49), np.arange(49))
    assert found == OperatingPoint(None, positives=40, missing=19)  # 0.95^59 < 0.05 <= 0.95^58
    assert fit_operating_point(np.zeros(3, int), np.ones(3), np.arange(3)).missing == 59
    assert fit_operating_point(np.ones(59, int), np.linspace(0.3, 1, 59), np.arange(59)).threshold == 0.3


def test_images_of_one_lesion_count_once():
    y, scores = np.ones(118, int), np.r_[np.full(59, 0.9), np.full(59, 0.4)]
    assert fit_operating_point(y, scores, np.tile(np.arange(59), 2)).positives == 59
    assert fit_operating_point(y, scores, np.tile(np.arange(59), 2)).threshold == 0.4


def test_a_score_at_the_threshold_is_positive():
    assert called(np.array([0.29, 0.3, 0.31]), 0.3).tolist() == [0, 1, 1]
    assert number_needed_to_excise(np.array([0.25, 0.0])).tolist()[0] == 4
    assert np.isnan(number_needed_to_excise(np.array([0.0]))[0])


def test_prevalence_weights_give_the_prevalence():
    y = np.r_[np.ones(30), np.zeros(10)].astype(int)
    w = prevalence_weights(y, np.random.default_rng(0).random((5, 40)), 0.02)
    assert ((w * (y == 1)).sum(1) / w.sum(1)) == pytest.approx(np.full(5, 0.02))


# dca() of the package dcurves 1.1.7 on the data below, without and with prevalence=0.02.
DCURVES = {
    None: {0.1: 0.3416666666666667, 0.3: 0.28785714285714287, 0.6: 0.18},
    0.02: {0.01: 0.011338383838383839, 0.05: -0.023412280701754388, 0.2: -0.1275},
}


def data():
    rng = np.random.default_rng(5)
    y = (rng.random(200) < 0.4).astype(int)
    return y, np.clip(0.25 + 0.35 * y + rng.normal(0, 0.2, 200), 0.001, 0.999)


@pytest.mark.parametrize("prevalence", [None, 0.02])
def test_net_benefit_is_that_of_dcurves(prevalence):
    y, p = data()
    thresholds = np.array(list(DCURVES[prevalence]))
    assert net_benefit(y, p, thresholds, prevalence) == pytest.approx(list(DCURVES[prevalence].values()), abs=1e-6)


def test_net_benefit_of_calling_all_is_zero_at_the_prevalence():
    y, _ = data()
    assert net_benefit_of_all(y, np.array([y.mean()])) == pytest.approx([0], abs=1e-12)
    assert net_benefit_of_all(y, np.array([0.02]), 0.02) == pytest.approx([0], abs=1e-12)


def test_cases_that_a_threshold_needs_are_those_of_the_docs():
    """Help and docs name the sensitivities and the number of positive cases of each."""
    from pathlib import Path

    from nevus.metrics.operating_points import SENSITIVITY
    from nevus.training.decisions import OTHERS

    y, p = np.ones(1, np.int64), np.ones(1)
    needed = {s: 1 + fit_operating_point(y, p, y, s).missing for s in sorted((*OTHERS, SENSITIVITY))}
    assert needed == {0.8: 14, 0.9: 29, 0.95: 59, 0.98: 149}
    docs = Path(__file__).resolve().parents[2] / "docs"
    assert "80, 90, 95, 98 % | 14, 29, 59, 149 malignant" in (docs / "how-to" / "train.md").read_text()
    assert (
        "80, 90 and 98 %, where the cases are enough (14, 29 and 149)" in (docs / "how-to" / "predict.md").read_text()
    )
