"""A classifier on handcrafted features, and its file."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nevus._io import atomic_path
from nevus.data.parallel import prefetch_map
from nevus.errors import NevusError
from nevus.models.handcrafted.features import VERSION, feature_vector, names

FILE = "estimator.skops"
TRUSTED = frozenset(
    {
        "nevus.models.handcrafted.estimators.KMeansClassifier",
        "nevus.models.handcrafted.estimators.ABCDRuleClassifier",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.tree._tree.Tree",
    }
)
"""Types that our estimators are made of beside those which skops trusts by itself."""
MOST_BYTES = 1 << 30
"""Of a file, unpacked: the support vectors of 100,000 images take a tenth of it."""


def vectors(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features of several pictures, uint8 (n, 128, 128, 3) to float32 (n, features)."""
    return (
        np.stack(list(prefetch_map(feature_vector, pixels))) if len(pixels) else np.empty((0, len(names())), np.float32)
    )


@dataclass(frozen=True)
class Handcrafted:
    """Handcrafted features, and an estimator of scikit-learn on them; an engine like a network's.

    Attributes:
        estimator: fitted; `predict_proba` of float (n, features) gives (n, classes).
        describe: uint8 (n, 128, 128, 3) to features, float32 (n, features).

    """

    estimator: Any
    describe: Callable[[NDArray[np.uint8]], NDArray[np.float32]] = vectors

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (n, 128, 128, 3) to the logarithms of the probabilities, float32 (n, classes)."""
        return self.scores(self.describe(pixels))

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Float (n, features) to the logarithms of the probabilities, float32 (n, classes)."""
        p = np.asarray(self.estimator.predict_proba(features), np.float64)
        return np.log(np.clip(p, 1e-7, 1)).astype(np.float32)


def save_estimator(model: Handcrafted, path: Path) -> None:
    """Write an estimator as skops does: no pickle.

    Raises:
        NevusError: the file cannot be written.

    """
    import skops.io

    with atomic_path(path) as aside:
        aside.write_bytes(skops.io.dumps({"estimator": model.estimator, "features": VERSION}))


def load_estimator(path: Path) -> Handcrafted:
    """Read what `save_estimator` wrote.

    Raises:
        NevusError: the file is damaged, holds a type that an estimator has no need of, or was made with features of
            another version.

    """
    import skops.io

    from nevus.models.handcrafted.safe_load import fault_of  # with scikit-learn, which takes a second to import

    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
                raise NevusError(f"Cannot load {path}: it unpacks to more than {MOST_BYTES >> 20} MB. Do not use it.")
        strange = skops.io.get_untrusted_types(file=path)
        refused = sorted(set(strange) - TRUSTED)
        if refused:
            raise NevusError(
                f"Cannot load {path}: it holds {refused[0]}, which is no part of a classifier. Do not use it."
            )
        held = skops.io.load(path, trusted=strange)
    except NevusError:
        raise
    except Exception as error:  # whatever a hostile archive makes skops, zipfile or json raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise NevusError(f"Cannot load {path}: it is damaged ({reason}). Copy it again.") from None
    if not isinstance(held, dict) or not hasattr(held.get("estimator"), "predict_proba"):
        raise NevusError(f"Cannot load {path}: it holds no classifier. Copy it again.")
    if held.get("features") != VERSION:
        raise NevusError(
            f"Cannot load {path}: it is made for features of version {held.get('features')}, and this program computes "
            f"{VERSION}. Train it again."
        )
    fault = fault_of(held["estimator"], len(names()))
    if fault:
        raise NevusError(f"Cannot load {path}: it holds no classifier of this program ({fault}). Do not use it.")
    return Handcrafted(held["estimator"])
