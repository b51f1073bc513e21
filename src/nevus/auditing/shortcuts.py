"""Shortcuts: how well can a label be told without looking at the lesion?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nevus._progress import progress
from nevus.auditing.image_regions import described, everything, only, ring, surroundings
from nevus.data.decoded import DecodedImages
from nevus.data.images import Pixels
from nevus.data.parallel import prefetch_map
from nevus.metrics.intervals import bootstrap
from nevus.metrics.scores import Floats, Ints, auroc

REGIONS = {
    "whole image": everything,
    "border ring": ring,
    "lesion masked out": surroundings,
}
"""What is shown of an image, by name."""
FILE = "file facts"
COLOR = "mean color"
SOURCE = "source"
BLIND = ("border ring", "lesion masked out", FILE, SOURCE)
"""Views that show nothing of the lesion."""
SIMPLE = 64
"""Side at which color and texture are described, in pixels."""
STYLES = 8
"""Clusters of capture style, where the sources are not given."""
FOLDS = 5
REPLICATES = 500
LEAST = 20
"""Images of a class, or of a source, below which nothing is said of it."""
TELLS = 0.6
"""AUROC without the lesion whose interval's lower end gives cause for a warning."""


@dataclass(frozen=True)
class ShortcutScore:
    """How well something can be told from a view of the images.

    Attributes:
        what: `label` or `source`.
        view: the name of the view.
        auroc: cross-validated by group, class against the rest, mean over the classes; in [0, 1].
        low: of its 95 % interval, by a bootstrap of groups.
        high: likewise.
        n: images.
        classes: that were told apart.

    """

    what: str
    view: str
    auroc: float
    low: float
    high: float
    n: int
    classes: tuple[str, ...]

    @property
    def at_least(self) -> float:
        """The interval's lower end; where all is told apart there is no interval, and the value says it all."""
        return self.low if np.isfinite(self.low) else self.auroc


Embed = Callable[[Sequence[Pixels]], NDArray[np.float32]]
"""Images, uint8 (image_size, image_size, 3) each, to features (n, width)."""


def region_features(squares: DecodedImages, embed: Embed | None = None) -> dict[str, NDArray[np.float32]]:
    """Features of each view of each image, float32 (n, width).

    Args:
        squares: the images.
        embed: a backbone's features of images in which all but the view is gray; by default color and texture of the
            view, see `nevus.auditing.image_regions.described`.

    """
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in REGIONS}
    work = partial(_views, squares, embed)
    pieces = [slice(start, min(start + 64, len(squares))) for start in range(0, len(squares), 64)]
    with progress() as bar:
        task = bar.add_task("describing", total=len(squares), note="")
        for piece, views in zip(pieces, prefetch_map(work, pieces, waiting=4), strict=True):
            for name, features in views.items():
                found[name].append(features)
            bar.advance(task, piece.stop - piece.start)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _views(squares: DecodedImages, embed: Embed | None, piece: slice) -> dict[str, NDArray[np.float32]]:
    images = list(squares[piece])
    if embed is None:  # color and texture are coarse, and a quarter of the pixels says as much of them
        images = [cv2.resize(image, (SIMPLE, SIMPLE), interpolation=cv2.INTER_AREA) for image in images]
    shown = {name: [(image, mask(image)) for image in images] for name, mask in REGIONS.items()}
    if embed is None:
        return {name: np.stack([described(*one) for one in pairs]) for name, pairs in shown.items()}
    return {name: embed([only(*one) for one in pairs]) for name, pairs in shown.items()}


def file_features(facts: pd.DataFrame) -> NDArray[np.float32]:
    """What a file says without its picture: float32 (n, 10).

    Width, height, their ratio, bytes a pixel, how coarse its quantization is, and format, mode, quantization
    tables, orientation and profile as numbers.
    """
    area = np.maximum(facts["width"] * facts["height"], 1)
    codes = [pd.factorize(facts[name], sort=True)[0] for name in ("format", "mode", "tables", "orientation", "profile")]
    numbers = [facts["width"], facts["height"], facts["width"] / np.maximum(facts["height"], 1)]
    return np.column_stack([*numbers, facts["bytes"] / area, facts["coarseness"], *codes]).astype(np.float32)


@dataclass(frozen=True)
class OutOfFoldPredictions:
    """Probabilities by models that have not seen the image's group.

    Attributes:
        rows: which of the images, int64 (m,): those of a class that has enough of them.
        y: their classes, int64 (m,).
        p: float64 (m, classes).
        classes: names.
        groups: of these images, int64 (m,).

    """

    rows: Ints
    y: Ints
    p: Floats
    classes: tuple[str, ...]
    groups: Ints


def cross_validate(
    features: NDArray[np.float32], names: Sequence[str], groups: Ints, *, seed: int = 0
) -> OutOfFoldPredictions | None:
    """Cross-validate a small model.

    Args:
        features: (n, width).
        names: class of each image; empty where it is not known.
        groups: (n,), never on both sides of a fold.
        seed: of the folds.

    Returns:
        None where there are not two classes with enough images.

    """
    kept, y, classes = usable(names, groups)
    if len(classes) < 2:
        return None
    p = cross_val_predict(features[kept], y, groups[kept], seed=seed)
    return OutOfFoldPredictions(np.flatnonzero(kept), y, p, classes, groups[kept])


def score_shortcut(what: str, view: str, found: OutOfFoldPredictions, *, seed: int = 0) -> ShortcutScore:
    """How well a class is told out of fold; `what` and `view` as in `ShortcutScore`, seed of the bootstrap."""
    y, p, classes = found.y, found.p, found.classes

    def score(w: Floats) -> Floats:
        areas = [auroc(y == c, p[:, c], w) for c in (range(len(classes)) if len(classes) > 2 else [1])]
        return np.asarray(np.mean(areas, axis=0))

    low, high = bootstrap({"auroc": score}, found.groups, replicates=REPLICATES, seed=seed)["auroc"]
    return ShortcutScore(what, view, float(score(np.ones(len(y)))), low, high, len(y), classes)


def usable(names: Sequence[str], groups: Ints) -> tuple[NDArray[np.bool_], Ints, tuple[str, ...]]:
    """Rows of the classes that have enough groups to be cross-validated, their class codes, and the classes."""
    table = pd.DataFrame({"name": list(names), "group": groups})
    table = table[table["name"] != ""]
    counts = table.groupby("name").agg(n=("group", "size"), groups=("group", "nunique"))
    classes = tuple(counts.index[(counts["n"] >= LEAST) & (counts["groups"] >= FOLDS)])
    place = {name: code for code, name in enumerate(classes)}
    codes = np.array([place.get(name, -1) for name in names], np.int64)
    kept = codes >= 0
    return kept, codes[kept], classes


def cross_val_predict(features: NDArray[np.float32], y: Ints, groups: Ints, *, seed: int = 0) -> Floats:
    """Probability of each class by a model that has not seen the image's group, float64 (n, classes).

    Extremely randomised trees where the features are few, a logistic regression where they are a network's.
    """
    classes = int(y.max()) + 1
    p = np.zeros((len(y), classes))
    for train, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(features, y, groups):
        # No `n_jobs`: scikit-learn's threads set and reset the warning filters of the whole process in each other's
        # way, and what is left of them is chance.
        model: Any = (
            ExtraTreesClassifier(200, min_samples_leaf=3, random_state=seed)
            if features.shape[1] < 200
            else make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
        )
        model.fit(features[train], y[train])
        p[np.ix_(test, model.classes_)] = model.predict_proba(features[test])
    return p


def cluster_capture_style(ringed: NDArray[np.float32], file: NDArray[np.float32], *, seed: int = 0) -> list[str]:
    """A name for how each image was captured, where the data set does not say its source: `style 1` (the largest),
    ...

    Clusters (k-means, `STYLES` of them, fewer in a small set) of the border's color and light, and of file facts.
    """
    values = StandardScaler().fit_transform(np.column_stack([ringed, file]))
    found = KMeans(max(1, min(STYLES, len(values) // (2 * LEAST))), n_init=4, random_state=seed).fit(values)
    order = pd.Series(found.labels_).value_counts().index.tolist()
    return [f"style {order.index(code) + 1}" for code in found.labels_]
