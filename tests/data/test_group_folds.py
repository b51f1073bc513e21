"""The folds are scikit-learn's."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from nevus.data.group_folds import GroupFolds


def folds(kind, k, seed, y, groups):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return [test.tolist() for _, test in kind(k, shuffle=True, random_state=seed).split(y, y, groups)]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(2, 12),
    classes=st.integers(2, 9),
    n=st.integers(60, 300),
    largest=st.integers(1, 8),
)
def test_they_are_those_of_scikit_learn(seed, k, classes, n, largest):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes).repeat(k), rng.integers(0, classes, n)])
    groups = np.repeat(np.arange(len(y)), rng.integers(1, largest + 1, len(y)))[: len(y)]
    assert folds(GroupFolds, k, seed, y, groups) == folds(StratifiedGroupKFold, k, seed, y, groups)


@pytest.mark.parametrize("k", [5, 20])
def test_they_are_those_of_scikit_learn_where_classes_are_rare_and_ties_are_many(k):
    y = np.repeat([0, 1, 2, 3], [2000, 300, 60, 25])
    assert folds(GroupFolds, k, 0, y, np.arange(len(y))) == folds(StratifiedGroupKFold, k, 0, y, np.arange(len(y)))
