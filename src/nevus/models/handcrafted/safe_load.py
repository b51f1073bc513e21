"""What an estimator from a file must be before anything is computed with it.

scikit-learn's compiled code trusts the arrays of a fitted estimator: a node of a crafted tree that points past
the end would be read out of bounds.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import AdaBoostClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from nevus.models.handcrafted.estimators import ABCDRuleClassifier, KMeansClassifier


def fault_of(estimator: Any, features: int) -> str:
    """What of an estimator is not as our learners make it; empty where all is.

    Args:
        estimator: as it was read.
        features: how many it is to be given.

    """
    try:
        classes = np.asarray(estimator.classes_)
        if not np.array_equal(classes, np.arange(len(classes))) or len(classes) < 2:
            return "its classes are no numbers from 0 on"
        return _fault(estimator, features)
    except (AttributeError, TypeError, ValueError, IndexError, KeyError) as error:
        return f"a part is missing: {error}"


def _fault(one: Any, width: int) -> str:
    if type(one) is CalibratedClassifierCV:
        inner = [part.estimator for part in one.calibrated_classifiers_]
        return next(filter(None, (_fault(part, width) for part in inner)), "")
    if type(one) is FrozenEstimator:
        return _fault(one.estimator, width)
    if type(one) is Pipeline:
        for _, step in one.steps:
            fault = _fault(step, width)
            if fault:
                return fault
            width = len(step.components_) if type(step) is PCA else width
        return ""
    if type(one) is AdaBoostClassifier:
        return next(filter(None, (_fault(tree, width) for tree in one.estimators_)), "")
    if type(one) not in CHECKS:
        return f"it is made of {type(one).__name__}"
    return "" if CHECKS[type(one)](one, width) else f"the arrays of its {type(one).__name__} do not fit together"


def _scaler(one: StandardScaler, width: int) -> bool:
    return bool(np.shape(one.mean_) == np.shape(one.scale_) == (width,))


def _pca(one: PCA, width: int) -> bool:
    return bool(np.ndim(one.components_) == 2 and np.shape(one.components_)[1] == width == len(one.mean_))


def _tree(one: DecisionTreeClassifier, width: int) -> bool:
    """A child comes after its parent, so that every way down ends."""
    tree = one.tree_
    nodes, here = tree.node_count, np.arange(tree.node_count)
    left, right = tree.children_left, tree.children_right
    leaf = left == -1
    inner = (left > here) & (left < nodes) & (right > here) & (right < nodes)
    split = (tree.feature >= 0) & (tree.feature < width)
    sound = nodes > 0 and bool(np.where(leaf, right == -1, inner & split).all())
    return sound and int(tree.n_features) == width and tree.value.shape[:2] == (nodes, 1)


def _svc(one: SVC, width: int) -> bool:
    vectors, classes = len(one.support_), len(one.classes_)
    return bool(
        isinstance(one.support_vectors_, np.ndarray)
        and one.support_vectors_.shape == (vectors, width)
        and one._dual_coef_.shape == one.dual_coef_.shape == (classes - 1, vectors)
        and one._n_support.shape == (classes,)
        and int(one._n_support.sum()) == vectors
        and (one._n_support >= 0).all()
        and one._intercept_.shape == (classes * (classes - 1) // 2,)
    )


def _mlp(one: MLPClassifier, width: int) -> bool:
    sizes = [width, *(len(bias) for bias in one.intercepts_)]
    return [tuple(np.shape(weights)) for weights in one.coefs_] == [*pairwise(sizes)]


def _clusters(one: KMeansClassifier, width: int) -> bool:
    centers = tuple(np.shape(one.kmeans_.cluster_centers_))
    return centers == (len(one.shares_), width) and np.shape(one.shares_)[1] == len(one.classes_)


def _rule(one: ABCDRuleClassifier, width: int) -> bool:
    return isinstance(one.column, int) and 0 <= one.column < width


CHECKS: dict[type, Any] = {
    StandardScaler: _scaler,
    PCA: _pca,
    DecisionTreeClassifier: _tree,
    SVC: _svc,
    MLPClassifier: _mlp,
    KMeansClassifier: _clusters,
    ABCDRuleClassifier: _rule,
}
"""By type, whether the arrays of one fit together."""
