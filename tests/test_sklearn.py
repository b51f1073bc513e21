import dataclasses
import json
import pickle
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, cross_val_score
from sklearn.utils.estimator_checks import estimator_checks_generator

import nevus
from nevus import BiTClassifier
from nevus.data.readers.dispatch import read

SKIPPED = {
    "check_array_api_input": "it wants SCIPY_ARRAY_API=1 before SciPy is imported; the head computes in PyTorch",
}
"""scikit-learn's own checks that it skips here, with the reason. None is expected to fail."""
SMALL = {"preset": "fast", "steps": 100, "batch_size": 32}
IMAGES = {
    "tuning": "full",
    "image_size": 32,
    "steps": 4,
    "batch_size": 8,
    "overrides": {
        "resize_size": 40,
        "warmup_steps": 1,
        "eval_interval": 2,
        "precision": "fp32",
        "tta": "none",
        "feature_stages": 0,
    },
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.parametrize(
    ("estimator", "check"),
    list(estimator_checks_generator(BiTClassifier(**SMALL))),
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_scikit_learn_s_checks(estimator, check):
    name = check.func.__name__
    if name in SKIPPED:
        pytest.skip(SKIPPED[name])
    check(estimator)


@pytest.fixture(scope="module")
def images():
    """Dark and bright squares, with labels that are no strings."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2 * 5
    return (rng.integers(0, 60, (40, 32, 32, 3)) + 30 * y[:, None, None, None]).astype(np.uint8), y


def test_arrays_paths_and_pictures_are_the_same(images, tmp_path):
    X, y = images
    paths = []
    for number, image in enumerate(X):
        paths.append(tmp_path / f"{number:02d}.png")
        Image.fromarray(image).save(paths[-1])
    fitted = [
        BiTClassifier(**IMAGES).fit(given, y)
        for given in (X, paths, [str(path) for path in paths], [Image.fromarray(image) for image in X])
    ]
    p = fitted[0].predict_proba(X)
    assert p.shape == (40, 2)
    for estimator in fitted:
        assert estimator.classes_.tolist() == [0, 5]
        assert np.array_equal(estimator.predict_proba(paths), p)
    assert set(fitted[0].predict(X)) <= {0, 5}


def test_it_learns(images):
    X, y = images
    settings = {**IMAGES, "tuning": "linear-probe", "steps": 200, "overrides": {"eval_interval": 50}}
    assert BiTClassifier(**settings).fit(X[:20], y[:20]).score(X[20:], y[20:]) >= 0.9
    rows, labels = make_blobs(120, 6, centers=3, random_state=1)
    assert BiTClassifier(**SMALL).fit(rows[:80], labels[:80]).score(rows[80:], labels[80:]) > 0.95


def test_a_manifest_brings_everything_and_out_keeps_the_run(phantoms, tmp_path):
    data = read(phantoms)
    fitted = BiTClassifier(**IMAGES, out=tmp_path / "run").fit(data)
    p = fitted.predict_proba(data)
    assert p.shape == (60, 2)
    kept = nevus.load(tmp_path / "run" / "bundle")
    assert np.array_equal(kept.predict_proba(data.paths), p)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["steps"] == 4
    with pytest.raises(ValueError, match="brings its own labels"):
        BiTClassifier().fit(data, data.targets)


def test_groups_stay_together(images, tmp_path):
    X, y = images
    groups = np.arange(40) // 4 * 2 + np.arange(40) % 2
    BiTClassifier(**IMAGES, validation_fraction=0.25, out=tmp_path / "run").fit(X, y, groups=groups)
    table = pd.read_parquet(tmp_path / "run" / "manifest.parquet")
    assert set(table["split"]) == {"train", "validation"}
    assert table.groupby("group")["split"].nunique().max() == 1


def test_cross_validation_search_and_calibration(images):
    X, y = images
    paths = list(X)
    estimator = BiTClassifier(**{**IMAGES, "steps": 2})
    found = cross_val_score(estimator, paths, y, groups=np.arange(40) // 2, cv=StratifiedGroupKFold(2))
    assert found.shape == (2,)
    search = GridSearchCV(estimator, {"lr": [0.001, 0.01]}, cv=2).fit(paths, y)
    assert search.best_params_["lr"] in (0.001, 0.01)
    calibrated = CalibratedClassifierCV(estimator, cv=2).fit(paths, y)
    assert np.allclose(calibrated.predict_proba(paths).sum(1), 1)
    rows, labels = make_blobs(60, 4, centers=2, random_state=0)
    assert cross_val_score(BiTClassifier(**SMALL), rows, labels, cv=3).mean() > 0.9


def test_too_few_images_are_told_and_a_test_row_stays_one(images, phantoms, tmp_path):
    X, y = images
    with pytest.raises(ValueError, match="independent images"):
        BiTClassifier(**IMAGES).fit(X[:2], y[:2])
    data = read(phantoms)
    split = np.where(np.arange(len(data)) % 3 == 0, "test", "train")
    data = dataclasses.replace(data, table=data.table.assign(split=split))
    BiTClassifier(**IMAGES, out=tmp_path / "run").fit(data)
    used = pd.read_parquet(tmp_path / "run" / "manifest.parquet").set_index("image")["split"]
    tested = set(data.table["image"][split == "test"])
    assert tested.isdisjoint(used.index[used != "test"])


def test_of_few_numbers_the_training_rows_are_looked_at(tmp_path):
    rows, labels = make_blobs(4, 3, centers=2, random_state=0)
    fitted = BiTClassifier(**SMALL, out=tmp_path / "run").fit(rows, labels)
    assert fitted.predict_proba(rows).shape == (4, 2)


def test_class_weights_reach_a_head_on_numbers(tmp_path):
    rows, labels = make_blobs([90, 10], 2, centers=np.array([[0.0, 0.0], [1.0, 1.0]]), random_state=0)
    last = {"eval_interval": SMALL["steps"]}  # nothing is chosen: what the weights did is what is seen
    plain = BiTClassifier(**SMALL, overrides=last).fit(rows, labels)
    balanced = BiTClassifier(**SMALL, overrides={**last, "class_weights": "balanced"}, out=tmp_path / "run")
    balanced.fit(rows, labels)
    assert balanced.predict_proba(rows)[:, 1].mean() > plain.predict_proba(rows)[:, 1].mean() + 0.1
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["config"]["class_weights"] == "balanced"


@pytest.mark.parametrize("overrides", [{"augmented_copies": 2}, {"tta": "d4"}, {"feature_stages": 4}])
def test_settings_of_images_are_refused_for_features(overrides):
    rows = np.random.default_rng(0).normal(size=(40, 4))
    with pytest.raises(ValueError, match="it is for images"):
        BiTClassifier(**SMALL, overrides=overrides).fit(rows, (rows[:, 0] > 0).astype(int))


def test_a_column_of_paths(images, tmp_path):
    X, y = images
    table = pd.DataFrame({"path": [str(tmp_path / f"{number}.png") for number in range(40)], "label": y})
    for path, image in zip(table["path"], X, strict=True):
        Image.fromarray(image).save(path)
    table = table.iloc[::-1]
    fitted = BiTClassifier(**IMAGES).fit(table["path"], table["label"])
    assert fitted.predict(table["path"]).shape == (40,)


def test_faults_are_value_errors(images, tmp_path):
    X, y = images
    with pytest.raises(ValueError, match="one class only"):
        BiTClassifier(**IMAGES).fit(X[::2], y[::2])
    with pytest.raises(ValueError, match="does not exist"):
        BiTClassifier(**IMAGES).fit([tmp_path / f"{number}.png" for number in range(40)], y)
    with pytest.raises(ValueError, match="39 labels for 40"):
        BiTClassifier(**IMAGES).fit(X, y[:-1])
    with pytest.raises(ValueError, match="validation share"):
        BiTClassifier(**IMAGES, validation_fraction=1.0).fit(X, y)
    with pytest.raises(ValueError, match="color"):
        BiTClassifier(**{**IMAGES, "overrides": {"color": 1}}).fit(X, y)
    with pytest.raises(ValueError, match="Cannot use the preset"):
        BiTClassifier(preset="better").fit(X, y)
    fitted = BiTClassifier(**IMAGES).fit(X, y)
    with pytest.raises(ValueError, match="fitted to images"):
        fitted.predict(np.zeros((2, 5)))


def test_it_is_saved_pickled_and_cloned_after_a_prediction(images, tmp_path):
    X, y = images
    fitted = BiTClassifier(**IMAGES).fit(X, y)
    p = fitted.predict_proba(X[:4])
    fitted.save(tmp_path / "bundle")
    assert np.array_equal(nevus.load(tmp_path / "bundle").predict_proba(X[:4]), p)
    for copy in (pickle.loads(pickle.dumps(fitted)), deepcopy(fitted)):
        assert np.array_equal(copy.predict_proba(X[:4]), p)
    with pytest.raises(ValueError, match="fitted to features"):
        BiTClassifier(**SMALL).fit(*make_blobs(40, 3, centers=2, random_state=0)).save(tmp_path / "none")


def test_it_says_nothing_unless_asked(images, capsys):
    X, y = images
    BiTClassifier(**IMAGES).fit(X, y)
    assert capsys.readouterr().err == ""
    BiTClassifier(**IMAGES, verbose=True).fit(X, y)
    assert "validation" in capsys.readouterr().err


def test_seeds_may_be_generators(images):
    X, y = images
    a, b = (BiTClassifier(**IMAGES, random_state=np.random.RandomState(1)).fit(X, y).predict_proba(X) for _ in range(2))
    assert np.array_equal(a, b)
    assert clone(BiTClassifier(**IMAGES)).get_params()["image_size"] == 32
