"""Every score against scikit-learn, or against counting by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from nevus.metrics import scores


@st.composite
def judged(draw, classes=st.integers(2, 4)):
    k = draw(classes)
    n = draw(st.integers(k + 1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    y = np.r_[np.arange(k), rng.integers(0, k, n - k)]
    # few distinct values, so that ties are the rule
    p = rng.integers(1, draw(st.sampled_from([3, 6, 1000])), (n, k)).astype(float)
    w = rng.integers(0, 4, n).astype(float)
    w[:k] = 1  # every class is there
    return y, p / p.sum(1, keepdims=True), w


@settings(max_examples=80, deadline=None)
@given(judged())
def test_scores_of_the_confusion_matrix(case):
    y, p, w = case
    k = p.shape[1]
    called = p.argmax(1)
    matrix = scores.confusion(y, called, k, w)
    assert np.allclose(matrix, sk.confusion_matrix(y, called, labels=range(k), sample_weight=w))
    assert np.isclose(scores.accuracy(matrix), sk.accuracy_score(y, called, sample_weight=w))
    recall = sk.recall_score(y, called, labels=range(k), average=None, sample_weight=w, zero_division=np.nan)
    assert np.allclose(scores.recall(matrix), recall, equal_nan=True)
    precision = sk.precision_score(y, called, labels=range(k), average=None, sample_weight=w, zero_division=np.nan)
    assert np.allclose(scores.precision(matrix), precision, equal_nan=True)
    f1 = sk.f1_score(y, called, labels=range(k), average=None, sample_weight=w, zero_division=np.nan)
    assert np.allclose(scores.f1(matrix), f1, equal_nan=True)
    assert np.isclose(scores.macro(scores.recall(matrix)), sk.balanced_accuracy_score(y, called, sample_weight=w))
    weighted = sk.f1_score(y, called, labels=range(k), average="weighted", sample_weight=w)
    assert np.isclose(scores.weighted(scores.f1(matrix), matrix), weighted)
    if len(set(called[w > 0])) > 1:
        assert np.isclose(scores.mcc(matrix), sk.matthews_corrcoef(y, called, sample_weight=w))
    else:
        assert np.isnan(scores.mcc(matrix))


@settings(max_examples=80, deadline=None)
@given(judged())
def test_scores_of_probabilities(case):
    y, p, w = case
    k = p.shape[1]
    log_loss = sk.log_loss(y, p, labels=range(k), sample_weight=w)
    assert np.isclose(scores.cross_entropy(y, p, w), log_loss)
    by_hand = np.average(((p - np.eye(k)[y]) ** 2).sum(1), weights=w)
    if k == 2:
        assert np.isclose(scores.brier(y, p, w), sk.brier_score_loss(y, p[:, 1], sample_weight=w))
        assert np.isclose(scores.brier(y, p, w), by_hand / 2)
    else:
        assert np.isclose(scores.brier(y, p, w), by_hand)


@settings(max_examples=120, deadline=None)
@given(judged(st.just(2)))
def test_areas(case):
    y, p, w = case
    positive = y == 1
    assert np.isclose(scores.auroc(positive, p[:, 1], w), sk.roc_auc_score(y, p[:, 1], sample_weight=w))
    found = scores.average_precision(positive, p[:, 1], w)
    assert np.isclose(found, sk.average_precision_score(y, p[:, 1], sample_weight=w))


@settings(max_examples=40, deadline=None)
@given(judged(st.just(2)))
def test_auroc_is_the_share_of_pairs_in_order(case):
    y, p, _ = case
    pairs = [(a > b) + 0.5 * (a == b) for a in p[y == 1, 1] for b in p[y == 0, 1]]
    assert np.isclose(scores.auroc(y == 1, p[:, 1], np.ones(len(y))), np.mean(pairs))


@settings(max_examples=30, deadline=None)
@given(judged())
def test_replicates_at_once_are_replicates_one_by_one(case):
    y, p, w = case
    k = p.shape[1]
    many = np.stack([w, np.ones_like(w), w[::-1]])
    for score in (
        lambda v: scores.accuracy(scores.confusion(y, p.argmax(1), k, v)),
        lambda v: scores.mcc(scores.confusion(y, p.argmax(1), k, v)),
        lambda v: scores.auroc(y == 0, p[:, 0], v),
        lambda v: scores.average_precision(y == 0, p[:, 0], v),
        lambda v: scores.brier(y, p, v),
    ):
        assert np.allclose(score(many), [score(v) for v in many], equal_nan=True)


def test_what_is_undefined_is_nan():
    y, p = np.zeros(3, int), np.array([[0.9, 0.1]] * 3)
    ones = np.ones(3)
    matrix = scores.confusion(y, p.argmax(1), 2, ones)
    assert np.isnan(scores.recall(matrix)[1])
    assert np.isnan(scores.precision(matrix)[1])
    assert np.isnan(scores.f1(matrix)[1])
    assert np.isnan(scores.mcc(matrix))
    assert np.isnan(scores.macro(scores.recall(matrix)))
    assert np.isnan(scores.auroc(y == 1, p[:, 1], ones))
    assert np.isnan(scores.average_precision(y == 1, p[:, 1], ones))
    assert np.isnan(scores.average_precision(y == 0, p[:, 0], ones))
    assert scores.accuracy(matrix) == 1


def test_a_sure_mistake_costs_much_but_not_infinitely():
    found = scores.cross_entropy(np.array([1]), np.array([[1.0, 0.0]]), np.ones(1))
    assert found == pytest.approx(-np.log(np.finfo(float).eps))
