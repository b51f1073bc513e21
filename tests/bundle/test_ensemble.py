import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from scipy.stats import gmean
from tests.bundle.test_decision import RULE
from tests.helpers import small_network

import nevus
from nevus.bundle.bundle import TRAINING_IMAGES, Bundle, load_bundle, save_bundle
from nevus.bundle.ensemble import disagreement
from nevus.bundle.explain import explain
from nevus.bundle.training_overlap import training_overlap
from nevus.cli.main import main
from nevus.data.images import decode
from nevus.data.preprocess import resize_square
from nevus.data.readers.dispatch import read
from nevus.models.label_groups import LabelGroups
from nevus.models.spec import ModelSpec


def member(folder, *, spec=None, tta="none", scale=0.5, training_images=None):
    spec = spec or ModelSpec("bit-r26x0.5", ("benign", "malignant"), image_size=32)
    data = {
        "name": folder.name,
        "digest": "sha256:0",
        "sources": ["phantom"],
        "counts": {"train": {"benign": 1, "malignant": 1}},
        "protocol": "random split",
        "audit": None,
    }
    config = {"preset": "fast", "tuning": "full", "steps": 1, "batch_size": 1}
    about = {"data": data, "fit": {}, "history": [], "config": config, "seed": 0, "backbone_weights": "none"}
    rule = replace(RULE, calibration=replace(RULE.calibration, scale=(scale, scale)))
    bundle = Bundle(spec, {**about, "versions": {"nevus": "1"}}, "CC0", tta, rule)
    return save_bundle(bundle, folder, small_network(spec), "# card\n", training_images=training_images)


@pytest.fixture
def ensemble(tmp_path, phantoms):
    """Made from the command line; the members differ by calibration and test-time augmentation."""
    member(tmp_path / "a")
    member(tmp_path / "b", tta="flip", scale=0.1)
    words = ["ensemble", str(tmp_path / "a"), str(tmp_path / "b"), "--data", str(phantoms), "--split", "all"]
    assert main([*words, "--out", str(tmp_path / "both")]) == 0
    return tmp_path / "both"


def test_probabilities_are_the_geometric_mean_of_the_members(ensemble, phantoms, tmp_path):
    """Oracle: the members on their own."""
    paths = read(phantoms).paths[:6]
    own = [nevus.load(tmp_path / name).predict_proba(paths) for name in "ab"]
    both = nevus.load(ensemble)
    found = list(both.stream(paths))
    mean = np.mean(own, axis=0)
    pooled = gmean(own, axis=0)
    pooled /= pooled.sum(1, keepdims=True)
    assert np.stack([softmax(one.logits) for one in found]) == pytest.approx(pooled, abs=1e-5)
    assert [one.disagreement for one in found] == pytest.approx(
        [abs(a[k] - b[k]) for a, b, k in zip(*own, mean.argmax(1), strict=True)], abs=1e-5
    )
    rule = both.bundle.rule
    expected = rule.probabilities(np.log(pooled))
    assert np.stack([one.probabilities for one in found]) == pytest.approx(expected, abs=1e-5)


def test_the_bundle_says_what_it_is_made_of(ensemble, phantoms, tmp_path):
    bundle = load_bundle(ensemble)
    assert [one["bundle"] for one in bundle.provenance["members"]] == [load_bundle(tmp_path / n).digest for n in "ab"]
    assert "an ensemble of 2 networks" in (ensemble / "README.md").read_text()
    assert bundle.license == "CC0"
    assert training_overlap(bundle, read(phantoms)) == {"the decision rule": 60}


def test_disagreement_is_shown(ensemble, phantoms, capsys):
    image = str(read(phantoms).paths[0])
    for format in ("csv", "json", "table"):
        assert main(["predict", image, "--bundle", str(ensemble), "--format", format]) == 0
        out = capsys.readouterr().out
        assert "disagreement" in out
        if format == "json":
            (row,) = json.loads(out)
            assert 0 <= row["disagreement"] <= 1
    assert list(nevus.load(ensemble).predict_frame([image]))[-1] == "disagreement"


def test_an_ensemble_is_evaluated_and_explained(ensemble, phantoms, tmp_path):
    words = [str(phantoms), "--bundle", str(ensemble), "--out", str(tmp_path / "e"), "--bootstrap-samples", "100"]
    assert main(["evaluate", *words]) == 0
    image = str(read(phantoms).paths[0])
    assert main(["explain", image, "--bundle", str(ensemble), "--out", str(tmp_path / "x")]) == 0
    assert (tmp_path / "x" / "index.html").is_file()


def test_members_of_several_sizes_and_label_groups_are_explained_exactly(phantoms, tmp_path):
    """The map and the constant add up to the margin of the ensemble, which is the mean of the members' margins."""
    groups = LabelGroups(("a", "b", "c"), ("benign", "malignant"), ((0, 2), (1,)), (1.0, 1.0, 0.5))
    grouped = ModelSpec("bit-r26x0.5", ("benign", "malignant"), 2, label_groups=groups, image_size=32)
    member(tmp_path / "grouped", spec=grouped, tta="flip", scale=0.2)
    member(tmp_path / "large", spec=ModelSpec("bit-r26x0.5", ("benign", "malignant"), image_size=48))
    words = ["ensemble", str(tmp_path / "grouped"), str(tmp_path / "large"), "--data", str(phantoms), "--split", "all"]
    assert main([*words, "--out", str(tmp_path / "mixed")]) == 0
    classifier, paths = nevus.load(tmp_path / "mixed"), read(phantoms).paths[:3]
    assert classifier.bundle.spec.image_size == 48
    predicted = list(classifier.stream(paths))
    for one, prediction in zip(explain(classifier, paths, "malignant"), predicted, strict=True):
        assert one.method == "exact"
        assert one.map.shape == (48, 48)
        assert one.map.sum() + one.constant == pytest.approx(one.margin)
        assert one.margin == pytest.approx(prediction.logits[1] - prediction.logits[0], abs=1e-4)
        assert one.prediction.disagreement == pytest.approx(prediction.disagreement, abs=1e-5)
    # It is the mean of the members' own maps, each times its calibration's scale.
    square = resize_square(decode(paths[0]), 48)
    images = {"grouped": resize_square(square, 32), "large": square}
    both = [next(explain(nevus.load(tmp_path / name), [image], "malignant")) for name, image in images.items()]
    scales = [load_bundle(tmp_path / name).rule.calibration.scale[0] for name in ("grouped", "large")]
    found = next(explain(classifier, [square], "malignant")).map.sum()
    assert found == pytest.approx(np.mean([k * one.map.sum() for k, one in zip(scales, both, strict=True)]))


def test_what_does_not_fit_together_is_refused(ensemble, phantoms, tmp_path, capsys):
    member(tmp_path / "other", spec=ModelSpec("bit-r26x0.5", ("benign", "suspicious"), image_size=32))
    manifest = read(phantoms)
    digest = bytes.fromhex(nevus._io.sha256_file(manifest.paths[0]).removeprefix("sha256:"))[:16]
    listed = pd.DataFrame({"image": ["x.png"], "lesion_id": [""], "digest": [digest], "hash": [b"0" * 18]})
    member(tmp_path / "seen", training_images=listed)
    assert (tmp_path / "seen" / TRAINING_IMAGES).is_file()
    first, rest = str(tmp_path / "a"), ["--data", str(phantoms), "--split", "all", "--out", str(tmp_path / "new")]
    for other, message in (
        ([first], "a bundle is named twice"),
        ([], "it needs two bundles at least"),
        ([str(tmp_path / "other")], "Leave one out"),
        ([str(ensemble)], "has no model.onnx"),
        ([str(tmp_path / "seen")], "1 of the 60 images were used to train"),
    ):
        assert main(["ensemble", first, *other, *rest]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert main(["ensemble", first, str(tmp_path / "b"), *rest, "--positive", "benign"]) == 2
    one_class = ["--data", str(phantoms / "test" / "benign"), "--split", "all", "--out", str(tmp_path / "new")]
    assert main(["ensemble", first, str(tmp_path / "b"), *one_class]) == 2
    image = str(manifest.paths[0])
    assert main(["predict", image, "--bundle", str(ensemble), "--tta", "flip"]) == 2
    assert main(["predict", image, "--bundle", str(ensemble), "--engine", "torch"]) == 2
    assert main(["export", str(ensemble), "--out", str(tmp_path / "exported")]) == 2
    assert not (tmp_path / "new").exists()


def test_disagreement_is_the_range_of_the_most_probable_class():
    p = np.array([[[0.9, 0.1], [0.4, 0.6]], [[0.5, 0.5], [0.1, 0.9]], [[0.7, 0.3], [0.2, 0.8]]])
    assert disagreement(p) == pytest.approx([0.4, 0.3])
