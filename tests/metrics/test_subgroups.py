import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

from nevus.metrics.subgroups import FEW, subgroup_metrics, subgroup_values


@pytest.fixture
def simulated():
    rng = np.random.default_rng(3)
    n = 900
    y = rng.integers(0, 2, n)
    column = pd.Series(rng.choice(["female", "male", "unknown"], n, p=[0.5, 0.45, 0.05]))
    signal = np.where(column == "male", 2.0, 0.7)
    p = 1 / (1 + np.exp(-(signal * (2 * y - 1) + rng.normal(0, 1.5, n))))
    return y, np.stack([1 - p, p], 1), column


def test_each_metric_is_that_of_the_rows(simulated):
    """Oracle: scikit-learn on the rows of each value."""
    y, p, column = simulated
    for one in subgroup_metrics("sex", column, y, p, threshold=0.4):
        rows = (column == one.value).to_numpy()
        call = p[rows, 1] >= 0.4
        assert one.n == rows.sum()
        assert one.positives == y[rows].sum()
        assert one.metrics["auroc"].value == pytest.approx(roc_auc_score(y[rows], p[rows, 1]))
        assert one.metrics["sensitivity"].value == pytest.approx(recall_score(y[rows], call))
        assert one.metrics["specificity"].value == pytest.approx(recall_score(y[rows], call, pos_label=0))
        assert one.metrics["accuracy"].value == pytest.approx(accuracy_score(y[rows], call))
        assert one.few == (np.bincount(y[rows], minlength=2).min() < FEW)
        assert one.gap == pytest.approx(
            roc_auc_score(y[rows], p[rows, 1]) - roc_auc_score(y[~rows], p[~rows, 1]), abs=1e-12
        )


def placement_variance(y, score):
    """The variance of DeLong et al. 1988, by comparing each positive with each negative."""
    positive, negative = score[y == 1], score[y == 0]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return wins.mean(1).var(ddof=1) / len(positive) + wins.mean(0).var(ddof=1) / len(negative)


def test_the_p_of_a_gap_is_delong_s_corrected_by_holm(simulated):
    """Oracle: brute force, and Holm's steps one by one."""
    y, p, column = simulated
    found = subgroup_metrics("sex", column, y, p)
    raw = []
    for one in found:
        rows = (column == one.value).to_numpy()
        spread = np.sqrt(placement_variance(y[rows], p[rows, 1]) + placement_variance(y[~rows], p[~rows, 1]))
        raw.append(2 * norm.sf(abs(one.gap) / spread))
    first, second, third = sorted(raw)
    steps = [3 * first, max(3 * first, 2 * second), max(3 * first, 2 * second, third)]
    assert sorted(one.p for one in found) == pytest.approx(np.minimum(steps, 1))
    assert found[1].p < 0.001  # the male subgroup was made easier


def test_gaps_without_a_true_difference_are_rarely_significant():
    rng = np.random.default_rng(0)
    significant = 0
    for _ in range(200):
        y = rng.integers(0, 2, 300)
        score = rng.normal(y, 1.0)
        p = 1 / (1 + np.exp(-score))
        column = pd.Series(rng.choice(["a", "b", "c"], 300))
        significant += min(s.p for s in subgroup_metrics("x", column, y, np.stack([1 - p, p], 1))) < 0.05
    assert significant <= 20  # of 200, 10 are expected


def test_a_subgroup_of_one_class_has_no_auroc():
    y = np.array([0, 0, 0, 1, 1, 0])
    p = np.linspace(0.1, 0.9, 6)
    found = subgroup_metrics("x", pd.Series(["a", "a", "a", "b", "b", "b"]), y, np.stack([1 - p, p], 1))
    assert np.isnan(found[0].metrics["auroc"].value)
    assert np.isnan(found[0].metrics["sensitivity"].value)
    assert np.isnan(found[0].p)
    assert found[0].few


def test_age_groups_are_made_of_ages():
    table = pd.DataFrame({"age_approx": [None, "0", "29", "30", 55.0, "70", "95", "old"], "sex": ["f", "", *"mmmmmm"]})
    assert subgroup_values(table, "age_group").tolist() == [
        "unknown",
        "0 to 29",
        "0 to 29",
        "30 to 49",
        "50 to 69",
        "70 or more",
        "70 or more",
        "unknown",
    ]
    assert subgroup_values(table, "sex").tolist() == ["f", "unknown", *"mmmmmm"]
    with pytest.raises(KeyError):
        subgroup_values(table, "site")


def test_a_gap_of_few_images_is_not_tested():
    """An area of 1 has no estimated variance: without this rule four images would be significant."""
    rng = np.random.default_rng(0)
    y = np.r_[np.tile([0, 1], 100), 0, 0, 1, 1]
    p = 1 / (1 + np.exp(-rng.normal(2 * y - 1, 1.0)))
    p[-4:] = [0.1, 0.2, 0.8, 0.9]
    column = pd.Series(["most"] * 200 + ["few"] * 4)
    few, most = subgroup_metrics("x", column, y, np.stack([1 - p, p], 1))
    assert few.gap > 0
    assert np.isnan([few.p, most.p]).all()
