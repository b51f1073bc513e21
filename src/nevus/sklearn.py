"""BiT as a scikit-learn estimator."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from nevus._progress import silenced
from nevus.bundle.classifier import Classifier, load
from nevus.data.images import Source, decode
from nevus.data.manifest import REQUIRED, Manifest
from nevus.data.splits import SplitConfig, with_splits
from nevus.errors import NevusError
from nevus.models.registry import AUTO, backbone_spec
from nevus.models.weights import resolve_backbone
from nevus.runtime.engines import softmax
from nevus.training.config import DatasetStats, Tuning
from nevus.training.linear_probe import LinearHead, fit_linear_probe
from nevus.training.losses import class_weights
from nevus.training.overrides import drop_unused, make_config
from nevus.training.preparation import Preparation
from nevus.training.run_dir import RunDir
from nevus.training.trainer import Trainer


class BiTClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Fine-tunes a BiT, as an estimator of scikit-learn.

    `X` may be

    - images: a sequence of paths, PIL images or uint8 arrays (h, w, 3), or one uint8 array (n, h, w, 3);
    - a `Manifest`, which brings labels, groups and splits;
    - numbers, an array (n, features): taken as features of a frozen backbone that were computed before. Then the head
      alone is trained, whatever `tuning` says.

    A part of the training images, cut by group, is held out to choose the best weights by. Of numbers, where a
    class has too few for that, the training rows themselves are looked at.

    Research use only, not a medical device.

    Args:
        backbone: name of the network; see `nevus models`.
        preset: `best`, `fast`, `paper` or `hyperrule`; see `nevus.training.presets`.
        tuning: `linear-probe`, `full` or `lp-ft`, instead of the preset's.
        epochs: passes over the images, instead of the preset's length.
        weights: `auto`, `random`, or the path of a file.
        lr: learning rate, instead of the preset's.
        image_size: side of the network's input in pixels, instead of the preset's.
        batch_size: images a step, instead of the preset's.
        steps: length of the training, instead of the preset's.
        overrides: further values of `TrainConfig`, as `{"mixup": 0.2}`.
        validation_fraction: share of the training images that is held out.
        random_state: seed, or a generator to draw it from.
        out: folder in which the run is kept; by default only the bundle is kept, as long as the estimator exists.
        verbose: whether to show progress.

    Attributes:
        classes_: the labels, sorted.
        classifier_: the trained `Classifier`; None after a fit to features.
        head_: the trained `LinearHead` after a fit to features, else None.
        n_features_in_: number of features, after a fit to features.

    """

    def __init__(
        self,
        backbone: str = AUTO,
        *,
        preset: str = "best",
        tuning: Tuning | None = None,
        epochs: float | None = None,
        weights: str = "auto",
        lr: float | None = None,
        image_size: int | None = None,
        batch_size: int | None = None,
        steps: int | None = None,
        overrides: dict[str, Any] | None = None,
        validation_fraction: float = 0.15,
        random_state: int | np.random.RandomState | None = 0,
        out: Path | str | None = None,
        verbose: bool = False,
    ) -> None:
        self.backbone = backbone
        self.preset = preset
        self.tuning = tuning
        self.epochs = epochs
        self.weights = weights
        self.lr = lr
        self.image_size = image_size
        self.batch_size = batch_size
        self.steps = steps
        self.overrides = overrides
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.out = out
        self.verbose = verbose

    def fit(self, X: Any, y: ArrayLike | None = None, groups: ArrayLike | None = None) -> BiTClassifier:
        """Train.

        Args:
            X: see the class.
            y: a label for each; not with a Manifest.
            groups: lesion or patient of each, never put on both sides of a cut; by default each is its own.

        Raises:
            ValueError: the data or a parameter is at fault.

        """
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"a validation share of {self.validation_fraction} is not between 0 and 1.")
        with self._faults(), contextlib.ExitStack() as stack:
            X = _listed(X)
            if not self.verbose:
                stack.enter_context(silenced())
            folder = Path(self.out) if self.out is not None else Path(stack.enter_context(_temporary())) / "run"
            seed = self._seed()
            if isinstance(X, Manifest):
                if y is not None or groups is not None:
                    raise ValueError("a Manifest brings its own labels and groups; leave y and groups out.")
                self.classes_ = np.array(sorted(X.classes))
                self._fit_images(X, folder, seed)
            elif _are_images(X):
                labels = self._labels(y, len(X))
                images = stack.enter_context(_as_files(X))
                self._fit_images(self._manifest(images, labels, groups), folder, seed)
            else:
                values, y = validate_data(self, X, y, dtype=np.float32)
                self._fit_features(values, self._labels(y, len(values)), groups, folder, seed)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities by class, float64 (n, classes), rows summing to 1.

        Raises:
            ValueError: an image cannot be used, or the numbers are not those of the fit.

        """
        check_is_fitted(self)
        X = _listed(X)
        if self.head_ is not None:
            return softmax(self.head_(validate_data(self, X, dtype=np.float32, reset=False)))
        if isinstance(X, Manifest):
            X = X.paths
        if self.classifier_ is None or not _are_images(X):
            raise ValueError("this classifier was fitted to images; give paths, PIL images or uint8 arrays.")
        with self._faults():
            p = self.classifier_.predict_proba(X)
        columns = np.array([self.classifier_.classes.index(str(name)) for name in self.classes_])
        return np.asarray(p[:, columns])

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable label of each."""
        best = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[best])

    def _fit_images(self, manifest: Manifest, folder: Path, seed: int) -> None:
        trainer = Trainer(
            preset=self.preset,
            backbone=self.backbone,
            weights=self.weights,
            overrides=self._overrides(),
            epochs=self.epochs,
            seed=seed,
            # Here the caller knows the groups, and cross-validation would check each fold anew.
            preparation=Preparation(split=self._split(), check_duplicates=False),
        )
        classifier = trainer.fit(manifest, folder)
        if self.out is None:
            kept = self._own_folder()
            classifier.save(kept)
            classifier = load(kept)
        self.classifier_: Classifier | None = classifier
        self.head_: LinearHead | None = None

    def _fit_features(
        self, values: NDArray[np.float32], labels: NDArray[Any], groups: ArrayLike | None, folder: Path, seed: int
    ) -> None:
        rows = self._manifest([Path(f"{row}.none") for row in range(len(values))], labels, groups)
        targets = np.searchsorted(self.classes_, labels)
        try:
            held = (with_splits(rows, self._split()).table["split"] == "validation").to_numpy()
            shown = ~held
        except NevusError:  # too few of a class: there are two classes, and the share was looked at
            shown = held = np.ones(len(values), bool)
        size = backbone_spec(resolve_backbone(self.backbone)).image_size
        overrides = {**self._overrides(), "tuning": "linear-probe"}
        for name in ("feature_stages", "pooling", "tta", "probe_on", "augmented_copies"):
            if name in overrides:
                raise NevusError(f"Cannot set {name}: it is for images. Leave it out, or fit to images.")
        config = make_config(
            self.preset,
            DatasetStats(int(shown.sum()), 0.0, size),
            {**drop_unused(overrides, "linear-probe"), "feature_stages": 0, "tta": "none", "probe_on": "views"},
            epochs=self.epochs,
        )
        settings = {
            "method": "bit",
            "features": values.shape[1],
            "config": asdict(config),
            "overrides": self._overrides(),
            "seed": seed,
            "split": asdict(self._split()),
        }
        with RunDir.open(folder, settings) as run:
            self.head_ = fit_linear_probe(
                values[shown],
                targets[shown],
                values[held],
                targets[held],
                config,
                run,
                class_weights=class_weights(targets[shown], len(self.classes_), config),
                seed=seed,
            )
        self.classifier_ = None

    def _labels(self, y: ArrayLike | None, n: int) -> NDArray[Any]:
        if y is None:
            raise ValueError("BiTClassifier requires y to be passed, but the target y is None.")
        labels = np.asarray(column_or_1d(y, warn=True))
        check_classification_targets(labels)
        if len(labels) != n:
            raise ValueError(f"there are {len(labels)} labels for {n} images; give one for each.")
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise ValueError(f"y holds one class only ({self.classes_[0]}); at least two classes are needed.")
        return labels

    def _manifest(self, images: Sequence[Path], labels: NDArray[Any], groups: ArrayLike | None) -> Manifest:
        names = [str(number) for number in range(len(images))]
        table = pd.DataFrame(
            {
                "image": [str(path.absolute()) for path in images],
                "label": [str(label) for label in labels],
                "group": names if groups is None else [str(group) for group in np.asarray(groups)],
                "split": "",
                "source": "arrays",
            },
            dtype=str,
        )[list(REQUIRED)]
        return Manifest(table, Path("/"), tuple(str(name) for name in self.classes_), "arrays")

    def _split(self) -> SplitConfig:
        return SplitConfig(val_fraction=self.validation_fraction, test_fraction=0)

    def _own_folder(self) -> Path:
        """Name a folder for the bundle that is removed together with this estimator."""
        folder = tempfile.mkdtemp(prefix="nevus-")
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder) / "bundle"

    def _overrides(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("tuning", "lr", "image_size", "batch_size", "steps")}
        return {**(self.overrides or {}), **{name: value for name, value in own.items() if value is not None}}

    def save(self, folder: Path | str) -> None:
        """Save the trained bundle to a new folder, which `nevus.load` reads.

        Raises:
            ValueError: it was fitted to features, or the folder exists.

        """
        check_is_fitted(self)
        if self.classifier_ is None:
            raise ValueError("Cannot save a bundle: this classifier was fitted to features. Fit it to images.")
        with self._faults():
            self.classifier_.save(folder)

    def __getstate__(self) -> dict[str, Any]:
        """Take the files of the bundle along, since its folder exists only as long as this estimator."""
        state = dict(super().__getstate__())
        if state.pop("_remove", None) is not None and self.classifier_ is not None:
            folder = self.classifier_.bundle.folder
            assert folder is not None
            state["classifier_"] = None
            state["_files"] = {path.name: path.read_bytes() for path in folder.iterdir()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Write the files of the bundle to a folder of its own."""
        state = dict(state)
        files = state.pop("_files", None)
        super().__setstate__(state)
        if files is not None:
            folder = self._own_folder()
            folder.mkdir()
            for name, content in files.items():
                (folder / name).write_bytes(content)
            self.classifier_ = load(folder)

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except NevusError as error:
            raise ValueError(str(error)) from error


def _listed(X: Any) -> Any:
    """A column of a table as a list: it may hold paths."""
    return X.to_list() if isinstance(X, pd.Series) else X


def _are_images(X: Any) -> bool:
    if isinstance(X, np.ndarray):
        return X.ndim == 4 or (X.ndim == 1 and X.dtype.kind in "UO" and len(X) > 0 and _is_image(X[0]))
    return isinstance(X, Sequence) and not isinstance(X, str) and len(X) > 0 and _is_image(X[0])


def _is_image(one: Any) -> bool:
    return isinstance(one, str | Path | Image.Image) or (isinstance(one, np.ndarray) and one.ndim == 3)


@contextlib.contextmanager
def _as_files(X: Sequence[Source]) -> Iterator[list[Path]]:
    """Images as files; what is in memory is written to a temporary folder, without loss."""
    with _temporary() as folder:
        paths = []
        for number, image in enumerate(X):
            if isinstance(image, str | Path):
                paths.append(Path(image))
            else:
                paths.append(Path(folder) / f"{number}.png")
                Image.fromarray(decode(image)).save(paths[-1], compress_level=1)
        yield paths


def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="nevus-")
