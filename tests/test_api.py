import json

import numpy as np
import pytest

import nevus
from nevus.training.preparation import Preparation

QUICK = {"image_size": 32, "steps": 10, "batch_size": 16, "backbone": "bit-r26x0.5"}


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory):
    out = tmp_path_factory.mktemp("api") / "run"
    plain = Preparation(check_duplicates=False)
    return nevus.train(phantoms, preset="fast", out=out, seed=3, preparation=plain, **QUICK), out


def test_train_takes_settings_and_fields(trained):
    _, out = trained
    config = json.loads((out / "config.json").read_text())
    assert (config["config"]["preset"], config["config"]["steps"], config["seed"]) == ("fast", 10, 3)
    with pytest.raises(nevus.NevusError, match="no such field"):
        nevus.train(out / "manifest.parquet", learning_rate=1)


def test_evaluate_takes_a_classifier_or_a_bundle(trained, phantoms):
    classifier, out = trained
    one = nevus.evaluate(classifier, phantoms, "train", bootstrap_samples=100)
    other = nevus.evaluate(out / "bundle", phantoms, "train", bootstrap_samples=100)
    assert one.metrics["auroc"] == other.metrics["auroc"]


def test_export_checks_what_it_writes(trained, phantoms, tmp_path):
    _, out = trained
    done = nevus.export(out / "bundle", phantoms, tmp_path / "out", format="openvino")
    assert done.path.name == "model.xml"
    assert done.difference < 1e-3


def test_find_duplicates_names_pairs(picture, tmp_path):
    image = picture(200, 150, 4)
    for name, one in {"a.png": image, "b.png": image, "c.jpg": image, "d.png": picture(200, 150, 9)}.items():
        one.save(tmp_path / name)
    table = nevus.find_duplicates(sorted(tmp_path.iterdir()))
    pairs = {(row.a.rsplit("/", 1)[1], row.b.rsplit("/", 1)[1]) for row in table.itertuples()}
    assert ("a.png", "b.png") in pairs
    assert not any("d.png" in pair for pair in pairs)
    with pytest.raises(nevus.NevusError, match="there are no images"):
        nevus.find_duplicates([])


def test_audit_takes_folders(phantoms):
    found = nevus.audit(phantoms)
    assert found.counts()["images"] == 60


def test_a_training_without_a_folder_is_usable(phantoms, picture):
    plain = Preparation(check_duplicates=False)
    classifier = nevus.train(phantoms, preset="fast", preparation=plain, **QUICK)
    assert np.isclose(classifier.predict_proba(picture()).sum(), 1)


def test_explain_takes_a_classifier_and_images(trained, picture):
    classifier, _ = trained
    (one,) = nevus.explain(classifier, picture(60, 50))
    assert one.target == "malignant"
    assert one.map.shape == (32, 32)
    assert one.map.sum() + one.constant == pytest.approx(one.margin, abs=1e-3)
    with pytest.raises(nevus.NevusError, match="the classes are benign, malignant"):
        list(nevus.explain(classifier, [picture()], "mole"))


def test_evaluate_takes_subgroups_and_a_prevalence(trained, phantoms):
    found = nevus.evaluate(
        trained[0], phantoms, "train", bootstrap_samples=100, by=["fitzpatrick_skin_type"], prevalence=0.02
    )
    assert {one.column for one in found.subgroups} == {"fitzpatrick_skin_type"}
    assert found.decisions.prevalence == 0.02
