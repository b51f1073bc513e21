"""Cross-validation against scikit-learn, by lesion and by source."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gmean
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

import nevus
from nevus.cli.main import main
from nevus.cross_validation import _metrics, group_folds, source_folds
from nevus.data.readers.dispatch import read
from nevus.errors import NevusError
from nevus.metrics.conformal import class_thresholds
from nevus.phantoms.dataset import PhantomConfig, write

FAST = ["--tuning", "linear-probe", "--set", "image_size=32", "steps=50", "--no-check-duplicates"]
FAST += ["--bootstrap-samples", "50"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """96 phantoms as a table with two images a lesion and three sources; lesions 0 and 1 are in two of them."""
    folder = tmp_path_factory.mktemp("cv") / "set"
    table = write(PhantomConfig(n=96, image_size=48, test=0, seed=4), folder, workers=1).reset_index(drop=True)
    order = table.sort_values("label", kind="stable").index.to_numpy()
    lesion = np.empty(96, int)
    lesion[order] = np.arange(96) // 2
    source = np.array(["a", "b", "c"])[lesion % 3]
    for shared in (0, 1):
        rows = np.flatnonzero(lesion == shared)
        source[rows] = ["a", "b"]
    listed = pd.DataFrame(
        {"image": table["image"], "label": table["label"], "group": [f"l{n}" for n in lesion], "source": source}
    )
    path = folder / "listed.csv"
    listed.to_csv(path, index=False)
    return path


def test_folds_keep_lesions_together_and_cover_every_image(data):
    manifest = read(data)
    folds = group_folds(manifest, 4, seed=0)
    held = [set(fold.manifest.split("test").table["image"]) for fold in folds]
    assert sorted(image for part in held for image in part) == sorted(manifest.table["image"])
    for fold in folds:
        assert fold.manifest.table.groupby("group")["split"].nunique().max() == 1
        assert len(set(fold.manifest.split("test").table["label"])) == 2


def test_sources_are_left_out_with_their_lesions(data):
    manifest = read(data)
    folds = {fold.name: fold for fold in source_folds(manifest)}
    assert list(folds) == ["a", "b", "c"]
    assert [folds[name].dropped for name in "abc"] == [2, 2, 0]
    for name, fold in folds.items():
        table = fold.manifest.table
        assert set(table.loc[table["split"] == "test", "source"]) == {name}
        assert name not in set(table.loc[table["split"] == "train", "source"])
        assert table.groupby("group")["split"].nunique().max() == 1


def test_what_cannot_be_cut(data, class_folders):
    with pytest.raises(NevusError, match="Give --folds from 2 to"):
        group_folds(read(data), 40, seed=0)
    with pytest.raises(NevusError, match="has one source only"):
        source_folds(read(class_folders({"benign": 3, "malignant": 3})))


def test_the_command_is_right_and_goes_on(data, tmp_path, capsys):
    command = ["crossval", str(data), "--folds", "3", *FAST, "--out", str(tmp_path / "cv")]
    assert main(command) == 0
    out = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "cv" / "predictions.csv")
    assert len(table) == 96
    assert table["image"].is_unique
    metrics = pd.read_csv(tmp_path / "cv" / "metrics.csv").set_index(["fold", "metric"])["value"]
    y, p = (table["label"] == "malignant").to_numpy(int), table["p_malignant"].to_numpy()
    assert metrics["pooled", "auroc"] == pytest.approx(roc_auc_score(y, p))
    assert metrics["pooled", "accuracy"] == pytest.approx(accuracy_score(y, p > 0.5))
    folds = []
    for name, part in table.groupby("fold"):
        folds.append(roc_auc_score(part["label"] == "malignant", part["p_malignant"]))
        assert metrics[str(name), "auroc"] == pytest.approx(folds[-1])
    assert f"{np.mean(folds):.3f}" in out
    assert "Research use only" in (tmp_path / "cv" / "crossval.html").read_text()
    assert table["threshold"].isna().all()  # too few cases for one, and so no metrics at an operating point
    assert ("pooled", "sensitivity_at_operating_point") not in metrics.index
    # A fold is deleted, as if the command had been interrupted: the others are used again, and the result is the same.
    import shutil

    bundles = {n: (tmp_path / "cv" / "folds" / n / "bundle" / "config.json").stat().st_mtime_ns for n in "13"}
    shutil.rmtree(tmp_path / "cv" / "folds" / "2")
    assert main(command) == 0
    assert bundles == {n: (tmp_path / "cv" / "folds" / n / "bundle" / "config.json").stat().st_mtime_ns for n in "13"}
    again = pd.read_csv(tmp_path / "cv" / "predictions.csv")
    assert np.allclose(again["p_malignant"], table["p_malignant"], atol=1e-5)
    # Other folds do not mix with these.
    assert main([*command[:3], "2", *command[4:]]) == 2
    assert "of other data or folds" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("images", [1, 2])
def test_metrics_at_the_thresholds_are_recalls(images):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"group": [f"l{n // images}" for n in range(60)], "p_malignant": rng.random(60)})
    table["label"] = np.where(np.arange(60) // images % 3 == 0, "malignant", "benign")
    table = table.assign(p_benign=1 - table["p_malignant"], error=None, threshold=0.3)
    table["called"] = np.where(table["p_malignant"] >= 0.3, "malignant", "benign")
    found = _metrics(table, ("benign", "malignant"), 200)
    for what, name in (("sensitivity", "malignant"), ("specificity", "benign")):
        one = found[f"{what}_at_operating_point"]
        assert one.value == pytest.approx(recall_score(table["label"], table["called"], pos_label=name))
        assert one.ci_low < one.value < one.ci_high
        assert one.method == ("wilson" if images == 1 else "bootstrap")


def test_by_source_and_with_handcrafted_features(data, tmp_path):
    out = tmp_path / "sources"
    words = ["crossval", str(data), "--by", "source", "--method", "abcd-rule", "--no-check-duplicates"]
    assert main([*words, "--bootstrap-samples", "50", "--out", str(out)]) == 0
    assert json.loads((out / "crossval.json").read_text())["by"] == "source"
    table = pd.read_csv(out / "predictions.csv")
    assert (table["fold"] == table["source"]).all()


def test_flags_that_a_method_does_not_use_are_refused(data, tmp_path, capsys):
    words = ["crossval", str(data), "--method", "abcd-rule", "--preset", "fast", "--out", str(tmp_path / "cv")]
    assert main(words) == 2
    assert "Cannot use --preset with --method abcd-rule" in " ".join(capsys.readouterr().err.split())


def test_a_test_split_is_not_used(tmp_path):
    folder = tmp_path / "set"
    write(PhantomConfig(n=80, image_size=48, seed=4), folder, workers=1)
    assert main(["crossval", str(folder), "--folds", "2", *FAST, "--out", str(tmp_path / "cv")]) == 0
    used = pd.read_csv(tmp_path / "cv" / "predictions.csv")["image"]
    assert not used.str.contains("test/").any()
    assert len(used) == len(read(folder)) - len(read(folder).split("test"))


def test_the_folds_become_one_bundle_whose_rule_is_fitted_out_of_fold(data, tmp_path, capsys):
    out = tmp_path / "cv"
    command = ["crossval", str(data), "--folds", "3", *FAST, "--ensemble", "--out", str(out)]
    assert main(command) == 0
    ensemble = nevus.load(out / "bundle")
    folds = [nevus.load(out / "folds" / name / "bundle") for name in "123"]
    paths = read(data).paths[:6]
    expected = gmean([fold.predict_proba(paths) for fold in folds], 0)
    expected /= expected.sum(1, keepdims=True)
    # The rule: of the predictions out of fold, not of the ensemble's own on its training images.
    table = pd.read_csv(out / "predictions.csv")
    p = np.log(table[["p_benign", "p_malignant"]].to_numpy())
    calibration = ensemble.bundle.rule.calibration
    if calibration is not None:
        expected = calibration.apply(np.log(expected))
    assert np.allclose(ensemble.predict_proba(paths), expected, atol=1e-4)
    y = (table["label"] == "malignant").to_numpy(int)
    groups = pd.factorize(table["group"])[0]
    p = calibration.apply(p) if calibration is not None else np.exp(p)
    assert list(ensemble.bundle.rule.set_thresholds) == pytest.approx(list(class_thresholds(y, p, groups)), abs=1e-6)
    assert len(pd.read_parquet(out / "bundle" / "decision_images.parquet")) == 96
    # Again: the bundle is there, and nothing is done twice.
    before = (out / "bundle" / "config.json").stat().st_mtime_ns
    assert main(command) == 0
    assert (out / "bundle" / "config.json").stat().st_mtime_ns == before
    capsys.readouterr()
    assert main([*command[:2], "--method", "abcd-rule", "--ensemble", "--out", str(tmp_path / "no")]) == 2
    assert "it has no model.onnx" in " ".join(capsys.readouterr().err.split())
