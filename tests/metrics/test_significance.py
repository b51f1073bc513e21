import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from nevus.metrics.significance import delong_difference, holm_correction, mcnemar


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(0, 999))
def test_mcnemar_against_the_binomial_test(n, seed):
    rng = np.random.default_rng(seed)
    y, first, second = rng.integers(0, 3, (3, n))
    found = mcnemar(y, first, second)
    b = sum(a == t != o for t, a, o in zip(y, first, second, strict=True))
    c = sum(o == t != a for t, a, o in zip(y, first, second, strict=True))
    assert (found.only_first, found.only_second) == (b, c)
    assert found.p == pytest.approx(binomtest(b, b + c, 0.5).pvalue if b + c else 1.0)
    assert mcnemar(y, second, first).p == pytest.approx(found.p)


def test_delong_of_two_against_a_bootstrap():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400) == 1
    shared = rng.normal(size=400)
    first, second = y * 1.5 + shared, y * 1.1 + 0.7 * shared + 0.7 * rng.normal(size=400)
    found = delong_difference(y, first, second)
    assert found.difference == pytest.approx(roc_auc_score(y, first) - roc_auc_score(y, second))
    drawn = []
    for _ in range(1500):
        rows = np.r_[rng.choice(np.flatnonzero(y), y.sum()), rng.choice(np.flatnonzero(~y), (~y).sum())]
        drawn.append(roc_auc_score(y[rows], first[rows]) - roc_auc_score(y[rows], second[rows]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.006)
    # With the same scores nothing differs, and with one that is always right there is no variance to go by.
    assert delong_difference(y, first, first).p == 1.0
    assert delong_difference(y, first, second).p == pytest.approx(delong_difference(y, second, first).p)
    perfect = delong_difference(y, y.astype(float), np.zeros(400))
    assert perfect.difference == pytest.approx(0.5)
    assert np.isnan(perfect.p)
    assert np.isnan(delong_difference(np.ones(4, bool), first[:4], second[:4]).difference)


def test_the_difference_has_the_size_that_it_should_under_the_null():
    """Of p values of two equally good scores one in twenty is below 0.05."""
    rng = np.random.default_rng(1)
    small = 0
    for _ in range(400):
        y = rng.permutation(np.repeat([True, False], 60))
        small += delong_difference(y, y + rng.normal(size=120), y + rng.normal(size=120)).p < 0.05
    assert 8 <= small <= 36  # 20 expected; these ends are passed once in some thousand tries


def test_holm_by_hand():
    assert holm_correction([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    found = holm_correction([0.01, float("nan"), 0.5])
    assert found[0] == pytest.approx(0.02)
    assert np.isnan(found[1])
    assert holm_correction([]) == []
