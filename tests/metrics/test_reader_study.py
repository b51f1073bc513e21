import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import recall_score, roc_curve

from nevus.metrics.reader_study import compare_reader, corrected, known_reader


def test_a_reader_beside_the_classifier():
    """Oracles: scikit-learn for the shares and the ROC curve, scipy for the paired test."""
    rng = np.random.default_rng(5)
    y = rng.integers(0, 2, 200)
    positive = 1 / (1 + np.exp(-rng.normal(2 * y - 1, 1.2)))
    decisions = np.where(rng.random(200) < 0.75, y, 1 - y)
    found = compare_reader("a", y, decisions, positive, 0.3)
    own = positive >= 0.3
    for name, label in (("sensitivity", 1), ("specificity", 0)):
        assert found.reader[name].value == pytest.approx(recall_score(y, decisions, pos_label=label))
        assert found.classifier[name].value == pytest.approx(recall_score(y, own, pos_label=label))
        of = y == label
        only = int((of & (own == y) & (decisions != y)).sum()), int((of & (own != y) & (decisions == y)).sum())
        assert found.p[name] == pytest.approx(binomtest(only[0], sum(only)).pvalue)
    fpr, tpr, _ = roc_curve(y, positive, drop_intermediate=False)
    assert found.specificity_at_sensitivity == pytest.approx(
        1 - fpr[tpr >= found.reader["sensitivity"].value - 1e-9].min()
    )


def test_p_values_of_all_readers_are_corrected_together():
    y = np.array([1] * 30 + [0] * 30)
    positive = np.where(y == 1, 0.9, 0.1)
    bad = np.where(np.arange(60) % 3 == 0, 1 - y, y)
    readers = corrected([compare_reader("bad", y, bad, positive, 0.5), compare_reader("same", y, y, positive, 0.5)])
    assert readers[1].p == {"sensitivity": 1.0, "specificity": 1.0}
    raw = binomtest(10, 10).pvalue
    assert readers[0].p["sensitivity"] == pytest.approx(4 * raw)


def test_a_reader_without_decisions_has_no_test():
    one = known_reader("mean", 0.741, 0.6)
    assert (one.n, one.p, one.classifier, one.specificity_at_sensitivity) == (0, {}, {}, None)
    assert corrected([one]) == [one]


def test_a_reader_who_finds_nothing_or_sees_one_class():
    positive = np.array([0.2, 0.8])
    none = compare_reader("none", np.array([1, 0]), np.array([0, 0]), positive, 0.5)
    assert none.specificity_at_sensitivity == 1.0
    one_class = compare_reader("one", np.array([1, 1]), np.array([0, 1]), positive, 0.5)
    assert one_class.specificity_at_sensitivity is None
    assert np.isnan(one_class.reader["specificity"].value)
    assert np.isnan(one_class.p["specificity"])
