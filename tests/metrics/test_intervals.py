import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nevus.errors import NevusError
from nevus.metrics import scores
from nevus.metrics.intervals import bootstrap, bootstrap_weights, delong_interval, delong_variance, wilson_interval
from nevus.metrics.report import compute_metrics, counts


def test_wilson_against_the_formula():
    z = 1.959963984540054
    for successes, n in ((0, 10), (7, 10), (10, 10), (581, 660)):
        p = successes / n
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        assert wilson_interval(successes, n) == pytest.approx((max(0, middle - half), min(1, middle + half)), abs=1e-9)
    assert np.isnan(wilson_interval(0, 0)).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 15), st.integers(2, 15), st.integers(0, 999), st.sampled_from([3, 8, 1000]))
def test_delong_against_its_definition(m, n, seed, values):
    """Structural components by counting all pairs (DeLong et al. 1988, equations 1 to 5)."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, values, m).astype(float), rng.integers(0, values, n).astype(float)
    wins = (x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])
    expected = wins.mean(1).var(ddof=1) / m + wins.mean(0).var(ddof=1) / n
    positive = np.r_[np.ones(m, bool), np.zeros(n, bool)]
    assert delong_variance(positive, np.r_[x, y]) == pytest.approx(expected, abs=1e-12)


def sample(n, seed, shift=1.2):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    score = rng.normal(y * shift)
    p = 1 / (1 + np.exp(-score + shift / 2))
    return y, np.stack([1 - p, p], 1)


def test_delong_agrees_with_the_bootstrap():
    y, p = sample(400, 1)
    area = float(scores.auroc(y == 1, p[:, 1], np.ones(400)))
    low, high = delong_interval(y == 1, p[:, 1], area)
    drawn = bootstrap({"auroc": lambda w: scores.auroc(y == 1, p[:, 1], w)}, np.arange(400), replicates=4000, seed=0)
    assert drawn["auroc"] == pytest.approx((low, high), abs=0.006)


def test_delong_has_no_interval_where_nothing_varies():
    positive = np.array([True, True, False, False])
    assert np.isnan(delong_interval(positive, np.array([3.0, 4.0, 1.0, 2.0]), 1.0)).all()
    assert np.isnan(delong_variance(np.array([True, False, False]), np.array([3.0, 1.0, 2.0])))


def test_bootstrap_draws_whole_groups():
    groups = np.array([0, 0, 0, 1, 2, 2])
    w = np.concatenate(list(bootstrap_weights(groups, 500, 0)))
    assert w.shape == (500, 6)
    assert (w[:, 0] == w[:, 1]).all()
    assert (w[:, 4] == w[:, 5]).all()
    assert (w[:, [0, 3, 4]].sum(1) == 3).all()
    assert w.mean() == pytest.approx(1, abs=0.1)


def test_bootstrap_of_repeated_images_is_as_wide_as_of_the_lesions():
    """Ten copies of every image bring no news; an interval that ignored groups would be a third as wide."""
    y, p = sample(120, 2)
    one = bootstrap({"b": lambda w: scores.brier(y, p, w)}, np.arange(120), replicates=3000)["b"]
    y10, p10 = np.repeat(y, 10), np.repeat(p, 10, axis=0)
    ten = bootstrap({"b": lambda w: scores.brier(y10, p10, w)}, np.repeat(np.arange(120), 10), replicates=3000)["b"]
    blind = bootstrap({"b": lambda w: scores.brier(y10, p10, w)}, np.arange(1200), replicates=3000)["b"]
    assert ten[1] - ten[0] == pytest.approx(one[1] - one[0], rel=0.1)
    assert blind[1] - blind[0] < 0.5 * (ten[1] - ten[0])


def test_one_group_has_no_interval():
    drawn = bootstrap({"a": lambda w: w.mean(-1)}, np.zeros(5, int))
    assert np.isnan(drawn["a"]).all()


def test_figures_of_two_classes():
    y, p = sample(300, 3)
    found = compute_metrics(y, p, ("benign", "malignant"), np.arange(300), replicates=200)
    cells = counts(y, p)
    assert cells.tp + cells.tn + cells.fp + cells.fn == 300
    assert found["accuracy"].value == (cells.tp + cells.tn) / 300
    assert found["sensitivity"].value == cells.tp / (cells.tp + cells.fn)
    assert found["specificity"].value == cells.tn / (cells.tn + cells.fp)
    assert found["ppv"].value == cells.tp / (cells.tp + cells.fp)
    assert found["npv"].value == cells.tn / (cells.tn + cells.fn)
    assert found["sensitivity"].n == cells.tp + cells.fn
    assert found["ppv"].n == cells.tp + cells.fp
    assert (found["accuracy"].ci_low, found["accuracy"].ci_high) == wilson_interval(cells.tp + cells.tn, 300)
    assert found["auroc"].method == "delong"
    assert set(found) >= {"cross_entropy", "balanced_accuracy", "f1", "mcc", "auprc", "brier"}
    for figure in found.values():
        assert figure.ci_low <= figure.value <= figure.ci_high


def test_figures_of_three_classes():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    p = rng.dirichlet([1, 1, 1], 200) + np.eye(3)[y]
    p /= p.sum(1, keepdims=True)
    found = compute_metrics(y, p, ("a", "b", "c"), np.arange(200), replicates=100)
    assert {"recall:a", "auroc:c", "precision:b", "auroc_macro", "auroc_weighted", "f1_macro"} <= set(found)
    assert "sensitivity" not in found
    assert found["balanced_accuracy"].value == pytest.approx(np.mean([found[f"recall:{c}"].value for c in "abc"]))
    from sklearn.metrics import roc_auc_score

    for average in ("macro", "weighted"):
        expected = roc_auc_score(y, p, multi_class="ovr", average=average)
        assert found[f"auroc_{average}"].value == pytest.approx(expected)


def test_figures_with_a_class_missing_stay_undefined():
    y, p = np.zeros(6, int), np.array([[0.8, 0.2]] * 6)
    found = compute_metrics(y, p, ("benign", "malignant"), np.arange(6), replicates=50)
    for name in ("sensitivity", "ppv", "auroc", "mcc", "balanced_accuracy"):
        assert np.isnan(found[name].value), name
        assert np.isnan(found[name].ci_low), name
    assert found["sensitivity"].n == 0
    assert found["accuracy"].value == 1


@pytest.mark.long
def test_coverage_of_the_intervals():
    """Of many samples, 95 % of the intervals hold the truth (shift 1.2: AUROC = Phi(1.2 / sqrt 2))."""
    from scipy.stats import norm

    truth = norm.cdf(1.2 / np.sqrt(2))
    held = []
    for seed in range(1000):
        y, p = sample(200, seed)
        low, high = delong_interval(y == 1, p[:, 1], float(scores.auroc(y == 1, p[:, 1], np.ones(200))))
        held.append(low <= truth <= high)
    assert 0.93 < np.mean(held) < 0.97


def test_a_bootstrap_whose_draws_all_agree_knows_nothing():
    """A perfect result on four images is not certainty."""
    y = np.array([0, 0, 1, 1])
    found = compute_metrics(y, np.eye(2)[y] * 0.98 + 0.01, ("a", "b"), np.arange(4), replicates=300)
    assert found["balanced_accuracy"].value == 1
    assert np.isnan(found["balanced_accuracy"].ci_low)
    assert found["accuracy"].ci_low < 0.6


def test_no_images_and_no_numbers_have_no_figures():
    with pytest.raises(NevusError, match="there are no images"):
        compute_metrics(np.zeros(0, int), np.zeros((0, 2)), ("a", "b"), np.zeros(0, int))
    with pytest.raises(NevusError, match="not finite"):
        compute_metrics(np.array([0, 1]), np.full((2, 2), np.nan), ("a", "b"), np.arange(2))
