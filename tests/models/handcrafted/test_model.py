import copy
import dataclasses
import functools
import io
import threading
import warnings
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from nevus.baselines.learners import LEARNERS, fit_baseline
from nevus.errors import NevusError
from nevus.models.handcrafted.abcd import HIGHLY_SUSPICIOUS, SUSPICIOUS
from nevus.models.handcrafted.classifier import Handcrafted, load_estimator, save_estimator
from nevus.models.handcrafted.estimators import ABCDRuleClassifier, KMeansClassifier
from nevus.models.handcrafted.features import VERSION, names


def sample(n=120, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = rng.normal(size=(n, len(names()))).astype(np.float32)
    x[:, :100] += 1.0 * y[:, None]
    return x, y.astype(np.int64), rng.integers(0, n // 2, n)


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_learns_and_its_file_gives_the_same(name, tmp_path):
    x, y, groups = sample()
    held = sample(60, seed=1)[:2]
    estimator, chosen = fit_baseline(LEARNERS[name], x, y, groups, held, 0)
    assert set(chosen) == set(LEARNERS[name].grid)
    model = Handcrafted(estimator)
    fresh, truth, _ = sample(200, seed=2)
    logits = model.scores(fresh)
    assert np.exp(logits).sum(1) == pytest.approx(np.ones(200), abs=1e-5)
    if name != "abcd-rule":  # which looks at one column of noise
        assert (logits.argmax(1) == truth).mean() > 0.75
    save_estimator(model, tmp_path / "estimator.skops")
    assert (load_estimator(tmp_path / "estimator.skops").scores(fresh) == logits).all()


def test_three_classes_and_a_class_of_one_image():
    x, y, groups = sample(150, 3)
    y[0] = 3
    for name in ("svm", "adaboost", "ann", "kmeans"):
        estimator, _ = fit_baseline(LEARNERS[name], x, y, groups, sample(60, 3, 1)[:2], 0)
        assert estimator.predict_proba(x).shape == (150, 4)
    with pytest.raises(ValueError, match="two classes"):
        fit_baseline(LEARNERS["abcd-rule"], x, y, groups, sample(60, 3, 1)[:2], 0)


def test_settings_are_chosen_with_no_group_on_both_sides(monkeypatch):
    import nevus.baselines.learners as learners

    cuts = []
    whole = learners.GroupFolds

    class Noted(whole):
        def split(self, X, y=None, groups=None):
            for train, test in super().split(X, y, groups):
                cuts.append(set(groups[train]) & set(groups[test]))
                yield train, test

    monkeypatch.setattr(learners, "GroupFolds", Noted)
    x, y, groups = sample()
    fit_baseline(LEARNERS["kmeans"], x, y, groups, (x, y), 0)
    assert cuts
    assert not any(cuts)


@pytest.mark.parametrize("name", ["svm", "ann", "kmeans"])
def test_no_thread_of_scikit_learn_s_touches_the_warning_filters(monkeypatch, name):
    """They belong to the process, and two threads that set them aside and back again lose them."""

    def start(thread):
        raise AssertionError(f"{thread} would set the warning filters of all")

    monkeypatch.setattr(threading.Thread, "start", start)
    x, y, groups = sample()
    before = list(warnings.filters)
    fit_baseline(LEARNERS[name], x, y, groups, (x, y), 0)
    assert list(warnings.filters) == before


def test_the_rule_calls_where_the_rule_does():
    rule = ABCDRuleClassifier(1).fit(np.zeros((4, 2)), [0, 1, 0, 1])
    scores = np.array([[9, 1.0], [0, SUSPICIOUS], [0, HIGHLY_SUSPICIOUS - 0.01], [0, HIGHLY_SUSPICIOUS + 0.01]])
    p = rule.predict_proba(scores)[:, 1]
    assert p[1] == pytest.approx(0.25)
    assert (p > 0.5).tolist() == [False, False, False, True]
    assert rule.predict(scores).tolist() == [0, 0, 0, 1]


def test_clusters_are_named_by_their_images():
    x = np.array([[0.0], [0.1], [0.2], [9.0], [9.1]])
    named = KMeansClassifier(2).fit(x, ["a", "a", "b", "b", "b"])
    assert named.predict_proba([[0.0]])[0] == pytest.approx([3 / 5, 2 / 5])
    assert named.predict_proba([[9.0]])[0] == pytest.approx([1 / 4, 3 / 4])
    assert named.predict([[0.0], [9.0]]).tolist() == ["a", "b"]


def broken(path, content):
    path.write_bytes(content)
    return path


def test_files_that_are_not_what_they_should_be(tmp_path):
    good = skops.io.dumps({"estimator": ABCDRuleClassifier().fit(np.eye(2, len(names())), [0, 1]), "features": VERSION})
    cases = {
        "damaged": b"no zip at all",
        "damaged ": good[:-40],
        "holds no classifier": skops.io.dumps({"estimator": StandardScaler(), "features": VERSION}),
        "version 99": skops.io.dumps({"estimator": ABCDRuleClassifier(), "features": 99}),
        "no part of a classifier": skops.io.dumps({"estimator": FunctionTransformer(print), "features": VERSION}),
    }
    for words, content in cases.items():
        with pytest.raises(NevusError, match=words.strip()):
            load_estimator(broken(tmp_path / "file.skops", content))


@pytest.mark.parametrize("place", range(12))
def test_no_flipped_byte_makes_it_die(tmp_path, place):
    good = bytearray(
        skops.io.dumps({"estimator": ABCDRuleClassifier().fit(np.eye(2, len(names())), [0, 1]), "features": VERSION})
    )
    good[place * len(good) // 12] ^= 0xFF
    try:
        load_estimator(broken(tmp_path / "file.skops", bytes(good)))
    except NevusError as error:
        assert str(tmp_path) in str(error)


def test_an_archive_that_names_a_class_of_its_own_choosing(tmp_path):
    """The schema inside is rewritten to call something else: nothing of it is made."""
    held = skops.io.dumps({"estimator": ABCDRuleClassifier().fit(np.eye(2, len(names())), [0, 1]), "features": VERSION})
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(held)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "schema.json":
                data = data.replace(b'"ABCDRuleClassifier"', b'"Popen"').replace(
                    b'"nevus.models.handcrafted.estimators"', b'"subprocess"'
                )
            new.writestr(name, data)
    with pytest.raises(NevusError, match=r"subprocess\.Popen"):
        load_estimator(broken(tmp_path / "file.skops", made.getvalue()))


@functools.cache
def boosted():
    x, y, groups = sample()
    return fit_baseline(dataclasses.replace(LEARNERS["adaboost"], grid={}), x, y, groups, (x, y), 0)[0]


def crafted(change):
    """A file whose estimator was changed after it was fitted."""
    estimator = copy.deepcopy(boosted())
    change(estimator)
    return skops.io.dumps({"estimator": estimator, "features": VERSION})


def tree_of(estimator):
    return estimator.calibrated_classifiers_[0].estimator.estimator.estimators_[0].tree_


def far_child(estimator):
    tree_of(estimator).children_left[0] = 10**6


def circle(estimator):
    tree_of(estimator).children_left[0] = 0


def far_feature(estimator):
    tree_of(estimator).feature[0] = 10**6


def other_classes(estimator):
    estimator.classes_ = np.array([7, 9])


@pytest.mark.parametrize("change", [far_child, circle, far_feature, other_classes])
def test_arrays_that_would_be_read_out_of_bounds_are_refused(tmp_path, change):
    with pytest.raises(NevusError, match="no classifier of this program"):
        load_estimator(broken(tmp_path / "file.skops", crafted(change)))


def test_a_kind_of_estimator_that_is_none_of_ours(tmp_path):
    forest = RandomForestClassifier(2).fit(np.zeros((4, len(names()))), [0, 1, 0, 1])
    content = skops.io.dumps({"estimator": forest, "features": VERSION})
    with pytest.raises(NevusError, match="it is made of RandomForestClassifier"):
        load_estimator(broken(tmp_path / "file.skops", content))


def test_an_archive_that_unpacks_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr("nevus.models.handcrafted.classifier.MOST_BYTES", 1000)
    with pytest.raises(NevusError, match="unpacks to more than"):
        load_estimator(broken(tmp_path / "file.skops", crafted(lambda _: None)))
