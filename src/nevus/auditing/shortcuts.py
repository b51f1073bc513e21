"""Shortcuts: labels that are predictable from non-lesion regions, from the file, or from the source."""

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
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nevus._progress import progress
from nevus.auditing.image_regions import describe_region, everything, only, ring, surroundings
from nevus.data.decoded import DecodedImages
from nevus.data.group_folds import GroupFolds
from nevus.data.images import Pixels
from nevus.data.parallel import prefetch_map
from nevus.metrics.intervals import bootstrap
from nevus.metrics.scores import Floats, Ints, auroc

REGIONS = {
    "whole image": everything,
    "border ring": ring,
    "lesion masked out": surroundings,
}
"""Regions of an image by name."""
FILE = "file metadata"
COLOR = "mean color"
SOURCE = "source"
NON_LESION = ("border ring", "lesion masked out", FILE, SOURCE)
"""Predictors that contain nothing of the lesion."""
SIMPLE_IMAGE_SIZE = 64
"""Image size at which color and texture are described, in pixels."""
STYLES = 8
"""Clusters of capture style, where the data do not name their sources."""
FOLDS = 5
REPLICATES = 500
MIN_IMAGES = 20
"""Images of a class, or of a source, below which it is not scored."""
SHORTCUT_AUROC = 0.6
"""Lower end of the interval of an AUROC without the lesion from which a warning is given."""


@dataclass(frozen=True)
class ShortcutScore:
    """How well the label or the source is predicted from a region of the images.

    Attributes:
        what: `label` or `source`.
        view: name of the region, or of another predictor.
        auroc: cross-validated by group, one class against the rest, mean over the classes; in [0, 1].
        low: lower end of its 95 % interval, by a bootstrap over groups.
        high: upper end.
        n: number of images.
        classes: names of the predicted classes.

    """

    what: str
    view: str
    auroc: float
    low: float
    high: float
    n: int
    classes: tuple[str, ...]

    @property
    def lower_bound(self) -> float:
        """The lower end of the interval, or the AUROC where a perfect separation leaves no interval."""
        return self.low if np.isfinite(self.low) else self.auroc


Embed = Callable[[Sequence[Pixels]], NDArray[np.float32]]
"""Images, uint8 (image_size, image_size, 3) each, to features (n, width)."""


def region_features(squares: DecodedImages, embed: Embed | None = None) -> dict[str, NDArray[np.float32]]:
    """Compute features of each region of each image, float32 (n, width).

    Args:
        squares: the images.
        embed: a backbone's features of images in which all but the region is gray; by default color and texture of
            the region, see `nevus.auditing.image_regions.describe_region`.

    """
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in REGIONS}
    work = partial(_features_of_chunk, squares, embed)
    chunks = [slice(start, min(start + 64, len(squares))) for start in range(0, len(squares), 64)]
    with progress() as bar:
        task = bar.add_task("describing", total=len(squares), note="")
        for chunk, regions in zip(chunks, prefetch_map(work, chunks, waiting=4), strict=True):
            for name, features in regions.items():
                parts[name].append(features)
            bar.advance(task, chunk.stop - chunk.start)
    return {name: np.concatenate(one) for name, one in parts.items()}


def _features_of_chunk(squares: DecodedImages, embed: Embed | None, chunk: slice) -> dict[str, NDArray[np.float32]]:
    images = list(squares[chunk])
    if embed is None:  # color and texture are coarse: a quarter of the pixels is enough
        images = [
            cv2.resize(image, (SIMPLE_IMAGE_SIZE, SIMPLE_IMAGE_SIZE), interpolation=cv2.INTER_AREA) for image in images
        ]
    masked = {name: [(image, mask(image)) for image in images] for name, mask in REGIONS.items()}
    if embed is None:
        return {name: np.stack([describe_region(*one) for one in pairs]) for name, pairs in masked.items()}
    return {name: embed([only(*one) for one in pairs]) for name, pairs in masked.items()}


def file_features(metadata: pd.DataFrame) -> NDArray[np.float32]:
    """Make features of the metadata of files, float32 (n, 10).

    Width, height, their ratio, bytes a pixel, coarseness of the quantization, and format, mode, quantization
    tables, orientation and profile as numbers.
    """
    area = np.maximum(metadata["width"] * metadata["height"], 1)
    codes = [
        pd.factorize(metadata[name], sort=True)[0] for name in ("format", "mode", "tables", "orientation", "profile")
    ]
    numbers = [metadata["width"], metadata["height"], metadata["width"] / np.maximum(metadata["height"], 1)]
    return np.column_stack([*numbers, metadata["bytes"] / area, metadata["coarseness"], *codes]).astype(np.float32)


@dataclass(frozen=True)
class OutOfFoldPredictions:
    """Probabilities by models that were not trained on the image's group.

    Attributes:
        rows: rows of the images of classes with enough images, int64 (m,).
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


def score_shortcut(what: str, view: str, predictions: OutOfFoldPredictions, *, seed: int = 0) -> ShortcutScore:
    """Score out-of-fold predictions; `what` and `view` as in `ShortcutScore`, `seed` of the bootstrap."""
    y, p, classes = predictions.y, predictions.p, predictions.classes

    def score(w: Floats) -> Floats:
        areas = [auroc(y == c, p[:, c], w) for c in (range(len(classes)) if len(classes) > 2 else [1])]
        return np.asarray(np.mean(areas, axis=0))

    low, high = bootstrap({"auroc": score}, predictions.groups, replicates=REPLICATES, seed=seed)["auroc"]
    return ShortcutScore(what, view, float(score(np.ones(len(y)))), low, high, len(y), classes)


def usable(names: Sequence[str], groups: Ints) -> tuple[NDArray[np.bool_], Ints, tuple[str, ...]]:
    """Return the rows of classes with enough groups for cross-validation, their class codes, and the classes."""
    table = pd.DataFrame({"name": list(names), "group": groups})
    table = table[table["name"] != ""]
    counts = table.groupby("name").agg(n=("group", "size"), groups=("group", "nunique"))
    classes = tuple(counts.index[(counts["n"] >= MIN_IMAGES) & (counts["groups"] >= FOLDS)])
    place = {name: code for code, name in enumerate(classes)}
    codes = np.array([place.get(name, -1) for name in names], np.int64)
    kept = codes >= 0
    return kept, codes[kept], classes


def cross_val_predict(features: NDArray[np.float32], y: Ints, groups: Ints, *, seed: int = 0) -> Floats:
    """Predict the probability of each class by a model that was not trained on the image's group, (n, classes).

    Extremely randomized trees for fewer than 200 features, a logistic regression for the features of a network.
    """
    classes = int(y.max()) + 1
    p = np.zeros((len(y), classes))
    for train, test in GroupFolds(FOLDS, shuffle=True, random_state=seed).split(features, y, groups):
        # No `n_jobs`: scikit-learn's threads set and reset the warning filters of the whole process in each other's
        # way.
        model: Any = (
            ExtraTreesClassifier(200, min_samples_leaf=3, random_state=seed)
            if features.shape[1] < 200
            else make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
        )
        model.fit(features[train], y[train])
        p[np.ix_(test, model.classes_)] = model.predict_proba(features[test])
    return p


def cluster_capture_style(ringed: NDArray[np.float32], file: NDArray[np.float32], *, seed: int = 0) -> list[str]:
    """Cluster the images by capture style, for data that name one source only: `style 1` (the largest) and so on.

    K-means with `STYLES` clusters, fewer in a small data set, of the border's color and light, and of file metadata.
    """
    values = StandardScaler().fit_transform(np.column_stack([ringed, file]))
    clusters = KMeans(max(1, min(STYLES, len(values) // (2 * MIN_IMAGES))), n_init=4, random_state=seed).fit(values)
    order = pd.Series(clusters.labels_).value_counts().index.tolist()
    return [f"style {order.index(code) + 1}" for code in clusters.labels_]
