import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, confusion_matrix

from nevus.metrics.conformal import class_thresholds, prediction_sets
from nevus.metrics.decision import decision_metrics

CLASSES = ("benign", "malignant")


@pytest.fixture
def calibrated():
    """Outcomes drawn from the probabilities themselves: calibrated by construction."""
    rng = np.random.default_rng(1)
    p = rng.beta(0.8, 1.6, 4000)
    return (rng.random(4000) < p).astype(np.int64), np.stack([1 - p, p], 1)


def sharpened(p, power=2.5):
    """Probabilities that are too sure."""
    raised = p**power
    return raised / raised.sum(1, keepdims=True)


def test_calibration_before_and_after(calibrated):
    """Oracles: the truth of the simulation for ECE, scikit-learn for the Brier score."""
    y, p = calibrated
    found = decision_metrics(y, p, sharpened(p), CLASSES, np.arange(len(y)), replicates=100)
    assert found.after["ece"].value < 0.02
    truth = np.abs(sharpened(p)[:, 1] - p[:, 1]).mean()
    assert found.before["ece"].value == pytest.approx(truth, abs=0.02)
    assert found.before["ece"].ci_low > 0.05
    # Of two classes, nevus sums over both, scikit-learn takes the positive one.
    ratio = found.after["brier"].value / brier_score_loss(y, p[:, 1])
    assert ratio == pytest.approx(1) or ratio == pytest.approx(2)


def test_the_operating_point(calibrated):
    """Oracle: scikit-learn's confusion matrix."""
    y, p = calibrated
    found = decision_metrics(y, p, p, CLASSES, np.arange(len(y)), threshold=0.2, replicates=100).at_threshold
    tn, fp, fn, tp = confusion_matrix(y, p[:, 1] >= 0.2).ravel()
    expected = {
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "ppv": tp / (tp + fp),
        "npv": tn / (tn + fn),
        "number_needed_to_excise": (tp + fp) / tp,
    }
    assert {name: one.value for name, one in found.items()} == pytest.approx(expected)
    assert all(one.ci_low < one.value < one.ci_high for one in found.values())
    assert found["sensitivity"].method == "wilson"
    assert found["number_needed_to_excise"].method == "bootstrap"


def test_a_prevalence_changes_ppv_and_npv_alone(calibrated):
    """Oracle: Bayes' rule."""
    y, p = calibrated
    groups = np.arange(len(y))
    here = decision_metrics(y, p, p, CLASSES, groups, threshold=0.2, replicates=100).at_threshold
    there = decision_metrics(y, p, p, CLASSES, groups, threshold=0.2, prevalence=0.02, replicates=100).at_threshold
    for name in ("sensitivity", "specificity"):
        assert there[name].value == pytest.approx(here[name].value)
    hit, pass_ = 0.02 * here["sensitivity"].value, 0.98 * (1 - here["specificity"].value)
    assert there["ppv"].value == pytest.approx(hit / (hit + pass_))
    assert there["npv"].value > here["npv"].value


def test_sets_cover_what_they_promise(calibrated):
    y, p = calibrated
    half = len(y) // 2
    thresholds = class_thresholds(y[:half], p[:half], np.arange(half))
    found = decision_metrics(
        y[half:],
        p[half:],
        p[half:],
        CLASSES,
        np.arange(half),
        member=prediction_sets(p[half:], thresholds),
        replicates=100,
    )
    for name in CLASSES:
        assert found.coverage[name].value == pytest.approx(0.9, abs=0.03)
    assert 1 <= found.set_size <= 2
    assert found.not_sure == pytest.approx(found.set_size - 1)


def test_intervals_with_repeated_groups_are_wider(calibrated):
    """Each lesion with four equal images has the information of one."""
    y, p = (np.repeat(values[:200], 4, axis=0) for values in calibrated)
    groups = np.repeat(np.arange(200), 4)
    alone = decision_metrics(y, p, p, CLASSES, np.arange(800), threshold=0.2, replicates=400).at_threshold
    joint = decision_metrics(y, p, p, CLASSES, groups, threshold=0.2, replicates=400).at_threshold
    width = [one["sensitivity"].ci_high - one["sensitivity"].ci_low for one in (alone, joint)]
    assert width[1] > 1.5 * width[0]
    assert joint["sensitivity"].method == "bootstrap"


def test_more_than_two_classes_have_no_threshold():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 300)
    y = np.array([rng.choice(3, p=row) for row in p])
    found = decision_metrics(y, p, p, ("a", "b", "c"), np.arange(300), replicates=100)
    assert (found.at_threshold, found.curve, found.coverage) == ({}, {}, {})
    assert np.isnan(found.set_size)
    assert found.as_dict()["net_benefit"] == {}
