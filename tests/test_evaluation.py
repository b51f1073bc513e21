import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics as sk

import nevus
from nevus._io import sha256_file
from nevus.bundle.bundle import TRAINING_IMAGES
from nevus.bundle.decision import DecisionRule
from nevus.bundle.test_log import read_test_log, read_test_result
from nevus.bundle.training_overlap import training_overlap
from nevus.bundle.wording import test_result_sentence as result_sentence
from nevus.data.perceptual_hash import AUDIT_IMAGE_SIZE, pack_bits, perceptual_hash
from nevus.data.preprocess import Preprocess
from nevus.data.readers.dispatch import read
from nevus.errors import NevusError
from nevus.evaluation import evaluate
from nevus.metrics.operating_points import OperatingPoint
from nevus.report.evaluation import worst_mistakes, write_evaluation
from nevus.report.evaluation_text import warnings_of


@pytest.fixture
def classifier(bundle_folder, tmp_path):
    return nevus.load(shutil.copytree(bundle_folder, tmp_path / "bundle"))


def test_figures_are_those_of_the_predictions(classifier, phantoms):
    manifest = read(phantoms)
    found = evaluate(classifier, manifest, "all", replicates=100)
    p = classifier.predict_proba(manifest.paths)
    y = manifest.targets
    assert np.allclose(found.p, p, atol=1e-6)
    assert found.metrics["accuracy"].value == sk.accuracy_score(y, p.argmax(1))
    assert found.metrics["auroc"].value == pytest.approx(sk.roc_auc_score(y, p[:, 1]))
    assert found.counts.tp + found.counts.fn == (y == 1).sum()
    assert (found.matrix == sk.confusion_matrix(y, p.argmax(1))).all()


def test_only_a_look_at_test_is_logged(classifier, phantoms):
    manifest = read(phantoms)
    evaluate(classifier, manifest, "train", replicates=100)
    assert read_test_log(classifier.bundle) == []
    evaluate(classifier, manifest, "test", replicates=100)
    evaluate(classifier, manifest, "all", replicates=100)
    log = read_test_log(classifier.bundle)
    assert [entry["split"] for entry in log] == ["test", "all"]
    assert log[0]["data"]["digest"] == manifest.split("test").digest


def test_the_command_evaluates_at_another_sensitivity(phantoms, tmp_path):
    from nevus.cli.main import main

    few = str(phantoms / "test")
    words = ["evaluate", few, "--split", "all", "--bundle", "malignant-benign", "--bootstrap-samples", "100"]
    found = {}
    for value in ("0.8", "0.95"):
        out = tmp_path / value
        assert main([*words, "--sensitivity", value, "--out", str(out)]) == 0
        metrics = pd.read_csv(out / "metrics.csv").set_index("metric")["value"]
        table = pd.read_csv(out / "predictions.csv")
        rule = nevus.load("malignant-benign", sensitivity=float(value)).bundle.rule
        positive = table["p_malignant"] >= rule.operating_point.threshold
        sick = table["label"] == "malignant"
        assert metrics["sensitivity_at_operating_point"] == pytest.approx(positive[sick].mean())
        assert metrics["specificity_at_operating_point"] == pytest.approx((~positive)[~sick].mean())
        found[value] = metrics
    assert found["0.8"]["specificity_at_operating_point"] >= found["0.95"]["specificity_at_operating_point"]


def test_the_cost_of_the_operating_point_on_test_is_kept(classifier, phantoms):
    point = OperatingPoint(0.4, 0.95, 0.95, 30, 0, None)
    classifier.bundle = replace(classifier.bundle, rule=DecisionRule(operating_point=point))
    evaluate(classifier, read(phantoms), "train", replicates=100)
    assert result_sentence(classifier.bundle) == ""
    found = evaluate(classifier, read(phantoms), "test", replicates=100)
    flagged = found.p[:, 1] >= 0.4
    result = read_test_result(classifier.bundle)
    assert result["sensitivity"]["value"] == pytest.approx(flagged[found.y == 1].mean())
    assert result["specificity"]["value"] == pytest.approx((~flagged)[found.y == 0].mean())
    assert f"sensitivity {flagged[found.y == 1].mean():.1%}" in result_sentence(classifier.bundle)


def test_the_bundle_s_class_order_counts(classifier, phantoms):
    manifest = read(phantoms)
    turned = manifest.with_classes(("malignant", "benign"))
    one, other = (evaluate(classifier, m, "train", replicates=100) for m in (manifest, turned))
    assert one.metrics["auroc"].value == other.metrics["auroc"].value


def test_unknown_labels_and_splits_are_told(classifier, class_folders):
    with pytest.raises(NevusError, match="the label 'naevus' of .* is none of the classes benign, malignant"):
        evaluate(classifier, read(class_folders({"naevus": 2, "malignant": 2})), "all")
    with pytest.raises(NevusError, match="has no split 'test'"):
        evaluate(classifier, read(class_folders({"benign": 2, "malignant": 2}, "other")), "test")


def test_bad_images_are_left_out_and_counted(classifier, class_folders, tmp_path):
    folder = class_folders({"benign": 4, "malignant": 4})
    (folder / "benign" / "001.png").write_bytes(b"broken")
    found = evaluate(classifier, read(folder), "all", replicates=100)
    assert len(found.manifest) == 7
    assert found.as_dict()["n"] == 7
    write_evaluation(found, classifier, tmp_path / "out")
    assert "1 images could not be used" in (tmp_path / "out" / "evaluation.html").read_text()
    for path in folder.rglob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(NevusError, match="Cannot use any of the 8 images"):
        evaluate(classifier, read(folder), "all")


def test_files(classifier, phantoms, tmp_path):
    found = evaluate(classifier, read(phantoms), "test", replicates=100)
    page = write_evaluation(found, classifier, tmp_path / "out").read_text()
    about = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert about["metrics"]["accuracy"]["value"] == found.metrics["accuracy"].value
    assert about["n"] == len(found.manifest)
    assert about["data"]["digest"] == read(phantoms).split("test").digest
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert list(table.columns) == ["image", "label", "predicted", "p_benign", "p_malignant", "decision", "flag"]
    assert (table["predicted"] == table["label"]).mean() == found.metrics["accuracy"].value
    # self-contained: nothing is loaded from another host
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert page.count("<script") == 1  # sorts tables; nothing of the data is in it
    assert "<script src" not in page
    assert "Research use only" in page
    for words in (
        "ROC curve",
        "Precision-recall",
        "Confusion matrix",
        "Histogram",
        "Wrong decisions",
        "Methods",
        " missed; ",
    ):
        assert words in page
    metrics = pd.read_csv(tmp_path / "out" / "metrics.csv").set_index("metric")
    assert metrics["value"]["accuracy"] == found.metrics["accuracy"].value
    assert "\\toprule" in (tmp_path / "out" / "metrics.tex").read_text()
    for name in ("roc-curve", "confusion-matrix"):
        assert (tmp_path / "out" / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert "<text" in (tmp_path / "out" / "figures" / f"{name}.svg").read_text()
    paragraph = (tmp_path / "out" / "methods.txt").read_text()
    assert about["data"]["digest"] in paragraph
    assert about["bundle"]["digest"] in paragraph


def test_undefined_figures_are_null_in_json(classifier, class_folders, tmp_path):
    found = evaluate(classifier, read(class_folders({"benign": 3})), "all", replicates=100)
    write_evaluation(found, classifier, tmp_path / "out")
    about = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert about["metrics"]["auroc"]["value"] is None
    assert about["metrics"]["sensitivity"] == {
        "value": None,
        "n": 0,
        "ci_low": None,
        "ci_high": None,
        "method": "wilson",
        "bootstrap": [None, None],
    }
    assert "undefined" in (tmp_path / "out" / "evaluation.html").read_text()


def test_worst_mistakes_are_wrong_and_sorted(classifier, phantoms):
    found = evaluate(classifier, read(phantoms), "all", replicates=100)
    sheets = worst_mistakes(found)
    called = found.p.argmax(1)
    wrong = [int(((found.y == c) & (called != c)).sum()) for c in (0, 1)]
    assert sum(wrong) > 0
    assert [len(tiles) for _, tiles in sheets] == [min(24, n) for n in reversed(wrong)]  # missed ones first
    assert sheets[0][0].startswith("Missed malignant")
    for _, tiles in sheets:
        sure = [int(t.lines[1].split("(")[1].rstrip("%)")) for t in tiles]
        assert sure == sorted(sure, reverse=True)


def test_names_are_escaped(classifier, class_folders, tmp_path, picture):
    folder = class_folders({"benign": 2, "malignant": 2})
    for label in ("benign", "malignant"):
        picture().save(folder / label / "<script>alert(1)<!--.png")
    found = evaluate(classifier, read(folder), "all", replicates=100)
    page = write_evaluation(found, classifier, tmp_path / "out").read_text()
    assert page.count("<script>") == 1
    assert "alert(1)<" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("odd", ["a[link=b]", "o[red]k", r"d$\frac$", "bar|bar", 'quote"comma,'])
def test_odd_labels_are_shown_as_they_are(class_folders, tmp_path, capsys, odd):
    """Brackets are rich's markup, dollars matplotlib's mathematics, bars Markdown's cells."""
    from nevus.cli.main import main

    folder = class_folders({odd: 14, "other": 14, "third": 14})
    run = [
        "train",
        str(folder),
        "--out",
        str(tmp_path / "run"),
        "--preset=fast",
        "--set",
        "image_size=32",
        "--set",
        "steps=3",
    ]
    assert main(run) == 0
    words = ["evaluate", str(folder), "--split=all", "--bundle", str(tmp_path / "run" / "bundle")]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert f"recall of {odd}" in shown.out
    assert "were used for training: metrics on them are no estimate for new images" in " ".join(shown.err.split())
    assert "Training images are among these images" in (tmp_path / "out" / "evaluation.html").read_text()
    assert not (tmp_path / "run" / "bundle" / "test_log.jsonl").exists()


def test_a_classifier_that_adds_diagnoses_up_is_judged_on_them_too(class_folders, tmp_path):
    """The command that training prints must work: its manifest names the diagnoses."""
    from nevus.cli.main import main

    folder = class_folders({"nv": 14, "mel": 14, "bcc": 14})
    run = [
        "train",
        str(folder),
        "--out",
        str(tmp_path / "run"),
        "--preset=fast",
        "--set",
        "image_size=32",
        "--set",
        "steps=3",
    ]
    assert main([*run, "--group-labels", "benign=nv", "malignant=mel,bcc", "--class-prior", "bcc=0.5"]) == 0
    assert "- malignant is the sum of 0.5 x bcc + mel" in (tmp_path / "run" / "bundle" / "README.md").read_text()
    table, bundle = str(tmp_path / "run" / "manifest.parquet"), str(tmp_path / "run" / "bundle")
    words = ["evaluate", table, "--split", "test", "--bundle", bundle, "--out", str(tmp_path / "out")]
    assert main(words) == 0
    held = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    counts = read(tmp_path / "run" / "manifest.parquet").split("test").table["label"].value_counts()
    assert held["n"] == counts.sum()
    assert held["metrics"]["specificity"]["n"] == counts["nv"]
    assert held["metrics"]["sensitivity"]["n"] == counts["mel"] + counts["bcc"]
    words = ["export", bundle, "--out", str(tmp_path / "small"), "--precision", "int8", "--data", table]
    assert main(words) == 0


def test_what_is_there_is_not_written_over(classifier, phantoms, tmp_path, capsys):
    from nevus.cli.main import main

    bundle = str(classifier.bundle.folder)
    words = ["evaluate", str(phantoms), "--split=train", "--bootstrap-samples=100", "--bundle", bundle, "--out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "predictions.csv").write_text("years of work")
    assert main([*words, str(tmp_path / "mine")]) == 2
    assert "predictions.csv there is of another bundle or program" in capsys.readouterr().err
    assert (tmp_path / "mine" / "predictions.csv").read_text() == "years of work"
    assert main([*words, str(tmp_path / "own")]) == 0
    assert main([*words, str(tmp_path / "own")]) == 0
    assert main([*words, str(tmp_path / "own"), "--positive", "benign"]) == 2
    assert main([*words, str(tmp_path / "own"), "--bootstrap-samples", "0"]) == 2
    assert main([*words, str(tmp_path / "own"), "--seed", "-1"]) == 2


def digest_of(path):
    return bytes.fromhex(sha256_file(path).removeprefix("sha256:"))[:16]


def listed_in(classifier, folder, table):
    """The classifier's bundle with another index of training images."""
    shutil.copytree(classifier.bundle.folder, folder)
    table.to_parquet(folder / TRAINING_IMAGES)
    return replace(classifier.bundle, folder=folder)


def test_training_images_in_an_evaluation_are_counted_by_file_and_id(classifier, phantoms, tmp_path):
    test = read(phantoms).split("test")
    digests = [b"0" * 16, digest_of(test.paths[0])]
    listed = pd.DataFrame(
        {
            "image": ["x/ISIC_0000001.jpg", "x/y.jpg"],
            "lesion_id": ["", "L1"],
            "digest": digests,
            "hash": [b"0" * 18] * 2,
        }
    )
    bundle = listed_in(classifier, tmp_path / "listed", listed)
    assert training_overlap(bundle, test) == {"the classifier": 1}
    lesions = test.with_table(test.table.assign(lesion_id=["", "L1", *[""] * (len(test) - 2)]))
    assert training_overlap(bundle, lesions) == {"the classifier": 2}
    none = listed_in(classifier, tmp_path / "none", listed.iloc[:1])
    assert training_overlap(none, test) == {}


def test_a_training_image_is_found_whatever_its_digest_ends_in(classifier, tmp_path):
    """pandas takes bytes that end in a zero for other values."""
    (tmp_path / "data" / "benign").mkdir(parents=True)
    path, number = tmp_path / "data" / "benign" / "a.png", 0
    while number == 0 or digest_of(path)[-1]:
        number += 1
        Image.new("RGB", (20, 20), (number % 256, number // 256, 0)).save(path)
    index = pd.DataFrame({"image": ["x/y.jpg"], "lesion_id": [""], "digest": [digest_of(path)], "hash": [b"0" * 18]})
    bundle = listed_in(classifier, tmp_path / "listed", index)
    assert training_overlap(bundle, read(tmp_path / "data")) == {"the classifier": 1}


def test_copies_of_training_images_in_an_evaluation_are_counted(classifier, phantoms, tmp_path):
    """A copy is turned, smaller and compressed; a damaged file is no copy, and stops nothing."""
    paths = read(phantoms).paths
    names, hashes = [], []
    for number in range(4):
        hashes.append(pack_bits(perceptual_hash(Preprocess(AUDIT_IMAGE_SIZE).pixels(paths[number]))[None])[0])
        names.append(f"x/{number}.jpg")
    index = pd.DataFrame({"image": names, "lesion_id": "", "digest": [b"0" * 16] * 4, "hash": hashes})
    bundle = listed_in(classifier, tmp_path / "listed", index)
    folder = tmp_path / "data" / "benign"
    folder.mkdir(parents=True)
    for number in (0, 1, 2, len(paths) - 1):
        with Image.open(paths[number]) as image:
            turned = image.convert("RGB").transpose(Image.Transpose.ROTATE_90)
        turned.resize((turned.width * 3 // 4, turned.height * 3 // 4)).save(folder / f"{number}.jpg", quality=70)
    (folder / "damaged.jpg").write_bytes((folder / "0.jpg").read_bytes()[:200])
    copied = read(tmp_path / "data")
    assert training_overlap(bundle, copied) == {}
    assert training_overlap(bundle, copied, copies=True) == {"the classifier": 3}


def test_a_data_set_of_training_images_alone_is_no_external_test(classifier, phantoms):
    found = evaluate(classifier, replace(read(phantoms), name="another set"), "test", replicates=100)
    n = len(found.y)
    for overlap, external in (
        ({}, True),
        ({"the classifier": n - 1}, True),
        ({"the decision rule": n}, True),
        ({"the classifier": n}, False),
        ({"the backbone bit-r26x0.5-dermoscopy": n}, False),
    ):
        listed = replace(found, about={**found.about, "training_overlap": overlap})
        assert any("external test" in sentence for sentence in warnings_of(listed, classifier)) == external
    skipped = replace(listed, skipped=("Cannot read 'a.jpg': it is empty (0 bytes). Get the file again.",))
    assert any("external test" in sentence for sentence in warnings_of(skipped, classifier))


def test_subgroups_prevalence_and_readers(classifier, phantoms, tmp_path, capsys):
    """From the command line: each appears in every file and on the page."""
    from nevus.cli.main import main

    manifest = read(phantoms)
    ages = np.where(np.arange(len(manifest)) % 2, "40", "75")
    table = manifest.table.assign(sex=["f", "m", "m"] * (len(manifest) // 3), age_approx=ages)
    path = tmp_path / "manifest.parquet"
    manifest.with_table(table).save(path)
    lines = [
        f"{name},{image},{label}"
        for name in ("Dr A", "Dr <B>")
        for image, label in zip(table["image"], table["label"], strict=True)
    ]
    (tmp_path / "readers.csv").write_text("\n".join(["reader,image,decision", *lines]) + "\n")
    words = ["evaluate", str(path), "--split=all", "--bootstrap-samples=100", "--out", str(tmp_path / "out")]
    words += ["--bundle", str(classifier.bundle.folder), "--prevalence", "0.02"]
    assert main([*words, "--by", "sex", "age_group", "image_type", "--readers", str(tmp_path / "readers.csv")]) == 0
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert {(one["column"], one["value"]) for one in found["subgroups"]} >= {
        ("sex", "f"),
        ("sex", "m"),
        ("age_group", "30 to 49"),
        ("age_group", "70 or more"),
    }
    assert any(one["column"] == "image_type" for one in found["subgroups"])
    subgroups = pd.read_csv(tmp_path / "out" / "subgroups.csv")
    assert subgroups.loc[subgroups["column"] == "sex", "n"].sum() == len(manifest)
    assert found["decisions"]["prevalence"] == 0.02
    assert [one["reader"]["sensitivity"]["value"] for one in found["readers"]] == [1.0, 1.0]
    assert found["readers"][0]["n"] == len(manifest)
    predictions = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert predictions.columns[:3].tolist() == ["image", "label", "predicted"]
    assert {"decision", "flag"} <= set(predictions.columns)
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "for a prevalence of 2.0 %" in page or not found["decisions"]["at_threshold"]
    assert "Dr &lt;B&gt;" in page
    assert "157 dermatologists, sensitivity 0.741" in page
    capsys.readouterr()
    assert main([*words, "--by", "shoe_size"]) == 2
    assert "Cannot evaluate by 'shoe_size'" in capsys.readouterr().err
    assert main([*words, "--readers", str(path)]) == 2
    assert main([*words[:-1], "2"]) == 2


def test_decisions_and_warnings_are_in_every_output(phantoms, tmp_path, capsys):
    """A rule that promises too much: its operating point, coverage and warnings are in files, page and terminal."""
    from tests.bundle.test_decision import RULE, bundle_with

    from nevus.cli.main import main

    strict = replace(RULE, set_thresholds=(0.999, 0.999), operating_point=replace(RULE.operating_point, threshold=0.99))
    bundle = bundle_with(strict, tmp_path / "b")
    out = tmp_path / "out"
    words = ["evaluate", str(phantoms), "--split=all", "--bootstrap-samples=100", "--bundle", str(bundle.folder)]
    assert main([*words, "--out", str(out), "--prevalence", "0.1"]) == 0
    shown = capsys.readouterr()
    found = json.loads((out / "evaluation.json").read_text())
    broken = [warning for warning in found["warnings"] if "operating point promises a sensitivity of 95%" in warning]
    assert len(broken) == 1
    assert broken[0] in " ".join(shown.err.split())
    assert "sensitivity at operating point" in shown.out
    metrics = pd.read_csv(out / "metrics.csv").set_index("metric")["value"]
    predictions = pd.read_csv(out / "predictions.csv")
    malignant = predictions["label"] == "malignant"
    called = predictions["p_malignant"] >= 0.99
    assert metrics["sensitivity_at_operating_point"] == pytest.approx(called[malignant].mean())
    assert metrics["coverage:malignant"] == pytest.approx(
        predictions.loc[malignant, "set"].str.contains("malignant").mean()
    )
    methods = (out / "methods.txt").read_text()
    assert "a threshold of 0.9900" in methods
    assert "for a prevalence of 0.1" in methods
    page = (out / "evaluation.html").read_text()
    assert f"At the operating point: {int(called[malignant].sum())} of {int(malignant.sum())} malignant" in page
