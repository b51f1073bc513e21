"""What learns from handcrafted features, by name: an estimator of scikit-learn and what is tried of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import AdaBoostClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from nevus._progress import ignored_warnings
from nevus.data.group_folds import GroupFolds
from nevus.models.handcrafted.estimators import ABCDRuleClassifier, KMeansClassifier
from nevus.models.handcrafted.features import names

FOLDS = 3
SCORE = "balanced_accuracy"
MOST = 4000
"""Training images that settings are tried on; all are learnt from in the end."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class BaselineSpec:
    """An estimator and its settings.

    Attributes:
        what: in words.
        make: from a seed.
        grid: what is tried, by the estimator's parameters; empty where nothing is.
        calibrated: whether its scores become probabilities on validation.

    """

    what: str
    make: Callable[[int], Any]
    grid: Mapping[str, Sequence[Any]]
    calibrated: bool = True


def _svm(seed: int) -> Pipeline:
    return make_pipeline(StandardScaler(), SVC(kernel="rbf", cache_size=500, random_state=seed))


def _adaboost(seed: int) -> AdaBoostClassifier:
    return AdaBoostClassifier(DecisionTreeClassifier(), n_estimators=200, random_state=seed)


def _ann(seed: int) -> Pipeline:
    return make_pipeline(StandardScaler(), MLPClassifier(max_iter=100, random_state=seed))


def _kmeans(seed: int) -> Pipeline:
    # In hundreds of dimensions every image is as far from every other: clusters want few.
    return make_pipeline(StandardScaler(), PCA(0.9, random_state=seed), KMeansClassifier(random_state=seed))


def _abcd(_: int) -> ABCDRuleClassifier:
    return ABCDRuleClassifier(names().index("abcd:score"))


LEARNERS = {
    "svm": BaselineSpec(
        "support vector machine with a Gaussian kernel",
        _svm,
        {"svc__C": (1.0, 10.0, 100.0), "svc__gamma": tuple(f / len(names()) for f in (0.1, 0.3, 1.0))},
    ),
    "adaboost": BaselineSpec(
        "AdaBoost of decision trees", _adaboost, {"estimator__max_depth": (1, 2, 4), "learning_rate": (0.3, 1.0)}
    ),
    "ann": BaselineSpec(
        "multi-layer perceptron",
        _ann,
        {
            "mlpclassifier__hidden_layer_sizes": ((32,), (128, 32)),
            "mlpclassifier__alpha": (0.01, 1.0, 10.0),
        },
    ),
    "kmeans": BaselineSpec(
        "k-means, clusters named by the training labels",
        _kmeans,
        {"kmeansclassifier__clusters": (8, 16, 32, 64, 128)},
        calibrated=False,
    ),
    "abcd-rule": BaselineSpec("the ABCD rule's total dermoscopy score; nothing is learnt", _abcd, {}, calibrated=False),
}


def fit_baseline(
    learner: BaselineSpec, features: Floats, targets: Ints, groups: Ints, held: tuple[Floats, Ints], seed: int
) -> tuple[Any, dict[str, Any]]:
    """Choose settings by cross-validation in which no group is on both sides, fit to all, and calibrate.

    Scores become probabilities by Platt's sigmoid (1999) on validation images.

    Args:
        learner: see `LEARNERS`.
        features: float32 (n, features).
        targets: int64 (n,).
        groups: code of each image's group, int64 (n,).
        held: features and targets of the validation images.
        seed: of the folds and of the estimator.

    Returns:
        The fitted estimator, and what was chosen.

    Raises:
        ValueError: the estimator does not support this number of classes.

    """
    estimator = learner.make(seed)
    # On one core: a perceptron's small matrices are slower on two.
    with ignored_warnings(ConvergenceWarning), threadpool_limits(1):
        # A perceptron that does not converge is evaluated like any other setting.
        chosen = _chosen(learner, estimator, features, targets, groups, seed)
        estimator.set_params(**chosen)
        estimator.fit(features, targets)
    if learner.calibrated:
        # A class that validation lacks is calibrated on its training images, which makes it overconfident.
        lacking = ~np.isin(targets, held[1])
        held = np.concatenate([held[0], features[lacking]]), np.concatenate([held[1], targets[lacking]])
        everything = np.arange(len(held[1]))
        # One fold of all: the estimator was not trained on these images.
        frozen = CalibratedClassifierCV(
            FrozenEstimator(estimator), method="sigmoid", cv=[(everything, everything)], ensemble=False
        )
        estimator = frozen.fit(*held)
    return estimator, {name: value if isinstance(value, int | float) else str(value) for name, value in chosen.items()}


def _chosen(
    learner: BaselineSpec, estimator: Any, features: Floats, targets: Ints, groups: Ints, seed: int
) -> dict[str, Any]:
    if not learner.grid:
        return {}
    kept = np.sort(np.random.default_rng(seed).permutation(len(targets))[:MOST])
    y, g = targets[kept], groups[kept]
    folds = min(FOLDS, int(pd.Series(g).groupby(y).nunique().min())) if set(y) == set(targets) else 0
    if folds < 2:  # a class of one group: nothing can be tried, and the first settings are taken
        return {name: values[0] for name, values in learner.grid.items()}
    cut = GroupFolds(folds, shuffle=True, random_state=seed)
    # One after the other: scikit-learn's threads set and reset the warning filters of the whole process in each
    # other's way.
    search = GridSearchCV(clone(estimator), dict(learner.grid), scoring=SCORE, cv=cut, refit=False)
    search.fit(features[kept], y, groups=g)
    return dict(search.best_params_)
