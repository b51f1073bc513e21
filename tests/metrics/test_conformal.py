import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from scipy.special import softmax

from nevus.metrics.conformal import class_thresholds, coverage, prediction_sets


def drawn(n, k, rng):
    """Images of k classes with overlapping scores, as a classifier gives them."""
    y = rng.choice(k, n, p=np.r_[0.7, np.full(k - 1, 0.3 / (k - 1))])
    return y, softmax(rng.normal(0, 1, (n, k)) + 1.5 * np.eye(k)[y], axis=1)


def coverage_by_class(repeats, n, alpha, k=2):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(repeats):
        y, p = drawn(n, k, rng)
        thresholds = class_thresholds(y, p, np.arange(n), alpha)
        y, p = drawn(500, k, rng)
        member = p >= np.array(thresholds)  # before empty sets are enlarged
        assert (prediction_sets(p, thresholds) >= member).all()
        found.append([member[y == c, c].mean() for c in range(k)])
    return np.mean(found, axis=0)


def test_each_class_is_covered_short():
    assert (coverage_by_class(100, 300, 0.1) > 0.885).all()


@pytest.mark.long
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_each_class_is_covered_in_1000_repeats(k, alpha):
    """At least 1 - alpha, and no more than 1 - alpha + 1 / (n + 1), with n images of the class (about 210)."""
    found = coverage_by_class(1000, 300, alpha, k)
    assert (found > 1 - alpha - 0.004).all()
    assert found[0] < 1 - alpha + 0.009


def test_thresholds_are_those_of_mapie_for_one_class():
    """MAPIE's marginal method on the images of one class is the class-conditional one of that class."""
    rng = np.random.default_rng(3)
    y, p = drawn(400, 3, rng)

    class Fixed:
        classes_ = np.arange(3)

        def fit(self, x, y):
            return self

        def predict_proba(self, x):
            return p[np.asarray(x)[:, 0]]

        def predict(self, x):
            return self.predict_proba(x).argmax(1)

        def __sklearn_is_fitted__(self):
            return True

    for c in range(3):
        rows = np.flatnonzero(y == c)
        mapie = SplitConformalClassifier(Fixed(), confidence_level=0.9, conformity_score="lac", prefit=True)
        with pytest.warns(UserWarning, match="has less labels"):
            mapie.conformalize(rows[:, None], y[rows])
        sets = mapie.predict_set(np.arange(400)[:, None])[1][:, c, 0]
        ours = p[:, c] >= class_thresholds(y, p, np.arange(400), 0.1)[c]
        assert (ours == sets).all()


def test_a_case_counts_once_with_its_lowest_probability():
    y = np.zeros(40, int)
    p = np.stack([np.linspace(0.5, 0.9, 40), 1 - np.linspace(0.5, 0.9, 40)], 1)
    groups = np.arange(40) // 2  # two images a case: the lower one is the even row
    assert class_thresholds(y, p, groups, 0.1)[0] == p[::2, 0][1]  # floor(0.1 * 21) = 2nd lowest of 20 cases


def test_a_class_with_too_few_cases_is_never_excluded():
    y = np.r_[np.zeros(50, int), np.ones(5, int)]
    p = np.tile([0.999, 0.001], (55, 1))
    thresholds = class_thresholds(y, p, np.arange(55), 0.1)
    assert thresholds[1] == 0
    assert prediction_sets(p, thresholds).all()


def test_no_set_is_empty():
    member = prediction_sets(np.array([[0.2, 0.45, 0.35], [0.9, 0.05, 0.05]]), (0.6, 0.6, 0.6))
    assert member.tolist() == [[False, True, True], [True, False, False]]
    assert coverage(np.array([2, 1]), member, np.ones(2)) == 0.5
