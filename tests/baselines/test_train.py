import json

import numpy as np
import pytest

import nevus
from nevus.baselines.train import HandcraftedTrainer
from nevus.bundle.bundle import load_bundle
from nevus.data.readers.dispatch import read
from nevus.errors import NevusError
from nevus.exporting.export import export
from nevus.models.handcrafted.classifier import FILE as ESTIMATOR
from nevus.training.preparation import Preparation

UNAUDITED = Preparation(check_duplicates=False)


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "svm"
    return HandcraftedTrainer("svm", preparation=UNAUDITED).fit(read(phantoms), out), out


def test_the_run_and_the_bundle(trained):
    classifier, out = trained
    assert {path.name for path in (out / "bundle").iterdir()} == {
        "config.json",
        "README.md",
        "training_images.parquet",
        ESTIMATOR,
    }
    bundle = load_bundle(out / "bundle")
    assert bundle.spec.backbone == "handcrafted"
    assert set(bundle.provenance["config"]["chosen"]) == {"svc__C", "svc__gamma"}
    card = (out / "bundle" / "README.md").read_text()
    assert "support vector machine" in card
    assert "Research use only" in card
    rows = read(out / "manifest.parquet").split("validation")
    p = nevus.load(out / "bundle").predict_proba(rows.paths)
    assert bundle.provenance["fit"]["validation"]["accuracy"]["value"] == pytest.approx(
        float((p.argmax(1) == rows.targets).mean())
    )
    assert (classifier.predict_proba(rows.paths) == p).all()
    assert p.sum(1) == pytest.approx(np.ones(len(p)), abs=1e-5)


def test_the_same_seed_gives_the_same_and_a_finished_run_is_taken(trained, phantoms, tmp_path):
    classifier, out = trained
    again = HandcraftedTrainer("svm", preparation=UNAUDITED).fit(read(phantoms), tmp_path / "again")
    paths = read(out / "manifest.parquet").split("test").paths
    assert (again.predict_proba(paths) == classifier.predict_proba(paths)).all()
    before = (out / "bundle" / "config.json").stat().st_mtime_ns
    HandcraftedTrainer("svm", preparation=UNAUDITED).fit(read(phantoms), out, resume=True)
    assert (out / "bundle" / "config.json").stat().st_mtime_ns == before
    with pytest.raises(NevusError, match="seed was 0, is 1"):
        HandcraftedTrainer("svm", seed=1, preparation=UNAUDITED).fit(read(phantoms), out, resume=True)


def test_a_bad_file_is_left_out(phantoms, tmp_path):
    manifest = read(phantoms)
    table = manifest.table.copy()
    (tmp_path / "broken.png").write_bytes(b"none")
    table["image"] = [str(path) for path in manifest.paths]
    train = table.index[table["split"] == "train"][0]
    table.loc[train, "image"] = str(tmp_path / "broken.png")
    broken = type(manifest)(table, manifest.root, manifest.classes, manifest.name)
    HandcraftedTrainer("abcd-rule", preparation=UNAUDITED).fit(broken, tmp_path / "run")
    assert "broken.png" in (tmp_path / "run" / "skipped.txt").read_text()
    assert load_bundle(tmp_path / "run" / "bundle").provenance["data"]["skipped"] == 1


def test_faults(phantoms, tmp_path, class_folders):
    with pytest.raises(NevusError, match="Cannot use the method 'forest'"):
        HandcraftedTrainer("forest")
    three = read(class_folders({"a": 9, "b": 9, "c": 9}))
    with pytest.raises(NevusError, match="Cannot train abcd-rule on set: the ABCD rule tells two classes"):
        HandcraftedTrainer("abcd-rule", preparation=UNAUDITED).fit(three, tmp_path / "run")


def test_it_has_no_graph(trained, phantoms, tmp_path):
    from nevus.data.cache import Cache, CacheConfig

    bundle = load_bundle(trained[1] / "bundle")
    with pytest.raises(NevusError, match="has no graph"):
        export(bundle, read(phantoms), tmp_path / "out", Cache(CacheConfig()), format="onnx")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": ["a", "b", "c"], "fine_classes": ["a", "b", "c"]}, "for another number of classes"),
        ({"backbone": "bit-r26x0.5"}, "its files have no digests"),
    ],
)
def test_a_description_that_does_not_fit(trained, tmp_path, change, words):
    import shutil

    from nevus.bundle.bundle import _digest

    shutil.copytree(trained[1] / "bundle", tmp_path / "bundle")
    path = tmp_path / "bundle" / "config.json"
    about = json.loads(path.read_text())
    about["model"].update(change)
    about.pop("digest")
    path.write_text(json.dumps({**about, "digest": _digest(about)}))
    with pytest.raises(NevusError, match=words):
        load_bundle(tmp_path / "bundle").load_estimator()
