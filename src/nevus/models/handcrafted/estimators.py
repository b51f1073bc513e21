"""Classifiers on handcrafted features that scikit-learn does not have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.utils.validation import check_is_fitted, validate_data

from nevus.models.handcrafted.abcd import HIGHLY_SUSPICIOUS, SUSPICIOUS


class ABCDRuleClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Calls by one feature, the total dermoscopy score: nothing is learnt.

    Called positive above 5.45 ("highly suspicious of melanoma"). Its probability is a way to write the rule
    down, 1/2 there and 1/4 at 4.75, where the suspicious begins; no frequency stands behind it.

    Args:
        column: of the score among the features.

    """

    def __init__(self, column: int = 0) -> None:
        self.column = column

    def fit(self, X: ArrayLike, y: ArrayLike) -> ABCDRuleClassifier:
        """Note the classes.

        Raises:
            ValueError: there are more than two.

        """
        _, y = validate_data(self, X, y)
        self.classes_ = np.unique(y)
        if len(self.classes_) != 2:
            raise ValueError(f"the ABCD rule tells two classes, and there are {len(self.classes_)}")
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Float (n, features) to (n, 2)."""
        check_is_fitted(self)
        score = np.asarray(validate_data(self, X, reset=False), np.float64)[:, self.column]
        p = expit(np.log(3) / (HIGHLY_SUSPICIOUS - SUSPICIOUS) * (score - HIGHLY_SUSPICIOUS))
        return np.column_stack([1 - p, p])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The more probable class."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(1)])


class KMeansClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """k-means, each cluster named by the labels of the training images in it.

    The probability of a class is its share among them, one image of each class added (Laplace).

    Args:
        clusters: how many.
        random_state: seed.

    """

    def __init__(self, clusters: int = 16, random_state: int = 0) -> None:
        self.clusters = clusters
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> KMeansClassifier:
        """Find the clusters, then name them."""
        values, y = validate_data(self, X, y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.kmeans_ = KMeans(min(self.clusters, len(values)), n_init=10, random_state=self.random_state)
        self.kmeans_.fit(values)
        counts = np.ones((self.kmeans_.n_clusters, len(self.classes_)))
        np.add.at(counts, (self.kmeans_.labels_, codes), 1)
        self.shares_ = counts / counts.sum(1, keepdims=True)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Float (n, features) to (n, classes)."""
        check_is_fitted(self)
        return np.asarray(self.shares_[self.kmeans_.predict(validate_data(self, X, reset=False))])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most frequent class of the cluster."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(1)])
