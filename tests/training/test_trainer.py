import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import nevus
from nevus.bundle.bundle import TRAINING_IMAGES, load_bundle
from nevus.data.manifest import ordered_classes
from nevus.data.readers.dispatch import read
from nevus.errors import NevusError
from nevus.models.model import build_backbone
from nevus.models.registry import backbone_spec
from nevus.runtime.device import Device
from nevus.training import linear_probe, record
from nevus.training.config import DatasetStats
from nevus.training.losses import class_weights
from nevus.training.overrides import make_config
from nevus.training.preparation import Preparation, dataset_stats
from nevus.training.trainer import Trainer

QUICK = {
    "tuning": "full",
    "image_size": 32,
    "resize_size": 40,
    "batch_size": 8,
    "steps": 6,
    "warmup_steps": 1,
    "eval_interval": 3,
    "precision": "fp32",
    "feature_stages": 0,
    "tta": "none",
}
PROBE = {
    "tuning": "linear-probe",
    "resize_size": None,
    "warmup_steps": None,
    "steps": 30,
    "lr": 1.0,
    "eval_interval": 10,
}


def trainer(**overrides):
    values = {name: value for name, value in {**QUICK, **overrides}.items() if value is not None}
    return Trainer(backbone="bit-r26x0.5", seed=2, overrides=values, preparation=Preparation(check_duplicates=False))


def fit(data, out, resume=False, **overrides):
    return trainer(**overrides).fit(read(data), out, resume=resume)


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "full"
    return fit(phantoms, out), out


def weights(folder):
    return load_bundle(folder).load_network().state_dict()


def test_the_run_folder_is_complete(trained, phantoms):
    _, out = trained
    names = ("config.json", "train.toml", "manifest.parquet", "metrics.jsonl", "checkpoint.safetensors", "skipped.txt")
    for name in names:
        assert (out / name).is_file()
    config = json.loads((out / "config.json").read_text())
    assert config["config"]["steps"] == 6
    assert config["overrides"]["image_size"] == 32
    again = read(out / "manifest.parquet")
    assert again.splits() == ("train", "validation", "test")
    cut = again.table[again.table["split"] != "test"]  # the test split is the set's own
    assert set(cut["image_type"]) <= {"dermoscopic", "clinical"}  # recognized from the pixels
    assert not again.table.loc[again.table["split"] == "test", "image_type"].any()  # test images are not read
    assert cut.groupby("group")["split"].nunique().max() == 1


def test_the_bundle_predicts_what_was_recorded(trained):
    _, out = trained
    provenance = load_bundle(out / "bundle").provenance
    metrics = provenance["fit"]["validation"]
    rows = read(out / "manifest.parquet").split("validation")
    p = nevus.load(out / "bundle").predict_proba(rows.paths)
    assert metrics["accuracy"]["value"] == pytest.approx(float((p.argmax(1) == rows.targets).mean()))
    loss = -np.log(p[np.arange(len(rows)), rows.targets]).mean()
    assert metrics["cross_entropy"]["value"] == pytest.approx(loss, abs=1e-5)
    assert provenance["data"]["digest"] == read(out / "manifest.parquet").digest
    assert len(provenance["history"]) == 2
    card = (out / "bundle" / "README.md").read_text()
    assert "Research use only" in card
    assert set(provenance["data"]["columns"]) >= {"fitzpatrick_skin_type"}  # phantoms have a skin type
    assert "none is estimated from pixels" in card


def test_the_bundle_holds_an_index_of_its_training_images(trained):
    import pandas as pd

    _, out = trained
    index = pd.read_parquet(out / "bundle" / TRAINING_IMAGES)
    rows = read(out / "manifest.parquet").split("train")
    assert sorted(index["image"]) == sorted(f"{path.parent.name}/{path.name}" for path in rows.paths)
    assert index["digest"].map(len).eq(16).all()


def test_every_engine_gives_the_same_probabilities(trained):
    _, out = trained
    paths = read(out / "manifest.parquet").paths[:5]
    onnx, openvino, torch_ = (
        nevus.load(out / "bundle", engine=name).predict_proba(paths) for name in ("onnx", "openvino", "torch")
    )
    np.testing.assert_allclose(onnx, torch_, atol=1e-4)
    np.testing.assert_allclose(openvino, torch_, atol=1e-4)


def test_same_seed_same_weights(trained, phantoms, tmp_path):
    _, out = trained
    fit(phantoms, tmp_path / "again")
    assert all(torch.equal(v, weights(out / "bundle")[k]) for k, v in weights(tmp_path / "again/bundle").items())


def test_a_linear_probe_changes_the_head_alone(phantoms, tmp_path):
    fit(phantoms, tmp_path / "run", **{**PROBE, "steps": 100, "standardize_features": True})
    after, start = weights(tmp_path / "run" / "bundle"), build_backbone("bit-r26x0.5", seed=2).state_dict()
    assert all(torch.equal(after[f"features.backbone.{key}"], value) for key, value in start.items())
    assert set(after) == {f"features.backbone.{key}" for key in start} | {"head.weight", "head.bias"}
    assert load_bundle(tmp_path / "run" / "bundle").provenance["fit"]["training_loss"] < np.log(2)


@pytest.mark.parametrize(
    ("pooling", "stages", "width"), [("avg", 3, 256 + 512 + 1024 + 1024), ("stats", 2, 3 * (512 + 1024) + 1024)]
)
def test_feature_stages_are_saved_with_the_bundle(phantoms, tmp_path, pooling, stages, width):
    classifier = fit(phantoms, tmp_path / "run", **{**PROBE, "feature_stages": stages, "pooling": pooling})
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert (bundle.spec.feature_stages, bundle.spec.pooling) == (stages, pooling)
    head = bundle.load_network().state_dict()["head.weight"]
    assert head.shape == (2, width)
    assert head[:, :256].abs().max() > 0  # an early stage has an influence
    paths = read(phantoms).paths[:3]
    again = nevus.load(tmp_path / "run" / "bundle").predict_proba(paths)
    assert np.allclose(again, classifier.predict_proba(paths))


@pytest.mark.parametrize("tuning", ["linear-probe", "full", "lp-ft"])
def test_a_bundle_averages_over_the_views_that_it_was_validated_with(phantoms, tmp_path, tuning):
    probe = PROBE if tuning == "linear-probe" else {"tuning": tuning}
    fit(phantoms, tmp_path / "run", **{**probe, "tta": "crop-color"})
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert bundle.tta == "crop-color"
    rows = read(tmp_path / "run" / "manifest.parquet").split("validation")
    p = nevus.load(tmp_path / "run" / "bundle").predict_proba(rows.paths)
    once = nevus.load(tmp_path / "run" / "bundle", tta="none").predict_proba(rows.paths)
    recorded = bundle.provenance["fit"]["validation"]["cross_entropy"]["value"]
    assert recorded == pytest.approx(-np.log(p[np.arange(len(rows)), rows.targets]).mean(), abs=1e-5)
    assert np.abs(p - once).max() > 1e-6


@pytest.mark.parametrize("tuning", ["linear-probe", "full"])
def test_grouped_labels_are_averaged_as_the_bundle_does(phantoms, tmp_path, tuning):
    rows = read(phantoms)
    table = rows.table.copy()
    table.loc[table.index % 2 == 0, "label"] = table["label"].where(table["label"] != "benign", "nv")
    manifest = replace(rows, table=table, classes=ordered_classes(table["label"]))
    probe = {**PROBE, "lr": 3.0} if tuning == "linear-probe" else {}
    grouped = replace(
        trainer(**probe, tta="crop-color"),
        group_labels=("benign=benign,nv", "malignant=malignant"),
        class_prior=("nv=0.5",),
    )
    grouped.fit(manifest, tmp_path / "run")
    val = read(tmp_path / "run" / "manifest.parquet").split("validation")
    p = nevus.load(tmp_path / "run" / "bundle").predict_proba(val.paths)
    bundle = load_bundle(tmp_path / "run" / "bundle")
    recorded = bundle.provenance["fit"]["validation"]["cross_entropy"]["value"]
    true = (val.table["label"] == "malignant").to_numpy().astype(int)
    assert recorded == pytest.approx(-np.log(p[np.arange(len(val)), true]).mean(), abs=1e-5)
    assert "0.5 x nv" in (tmp_path / "run" / "bundle" / "README.md").read_text()


def test_a_linear_probe_records_the_precision_of_its_features(phantoms, tmp_path, monkeypatch):
    """On any CPU: with bfloat16, `auto` trains a network in it, but computes the features of a probe in float32."""
    monkeypatch.setattr(record, "device", lambda _: Device(torch.device("cpu"), True))
    for name, extra, expected in (("probe", PROBE, "fp32"), ("full", {}, "bf16")):
        fit(phantoms, tmp_path / name, **{**extra, "steps": 2, "precision": "auto"})
        recorded = json.loads((tmp_path / name / "fit.json").read_text())["machine"]["precision"]
        assert recorded == expected


def test_a_linear_probe_is_trained_on_the_image_the_views_or_their_mean(phantoms, tmp_path, monkeypatch):
    shown, held, real = [], [], linear_probe.fit_linear_probe

    def seen(features, targets, validation, *args, **more):
        shown.append(features)
        held.append(validation)
        return real(features, targets, validation, *args, **more)

    monkeypatch.setattr(linear_probe, "fit_linear_probe", seen)
    for probe_on in ("image", "views", "tta-mean"):
        fit(phantoms, tmp_path / probe_on, **PROBE, tta="flip", probe_on=probe_on)
        bundle = load_bundle(tmp_path / probe_on / "bundle")
        assert (bundle.tta, bundle.provenance["config"]["probe_on"]) == ("flip", probe_on)
    image, views, means = shown
    assert (len(image), len(views), len(means)) == (1, 2, 1)
    np.testing.assert_allclose(image[0], views[0], rtol=1e-5, atol=1e-6)  # the first view of flip is the image
    np.testing.assert_allclose(means[0], views.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(held[0], held[1])  # validation uses all views in any case
    np.testing.assert_array_equal(held[0], held[2])


STILL = {
    "crop_scale": (1.0, 1.0),
    "hflip": False,
    "rot90": False,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
}


def test_augmented_copies_that_change_nothing_train_the_same_probe(phantoms, tmp_path):
    words = {**PROBE, "steps": 60}
    fit(phantoms, tmp_path / "whole", **words)
    fit(phantoms, tmp_path / "still", **{**words, "augmented_copies": 2, "resize_size": 32}, **STILL)
    fit(phantoms, tmp_path / "moving", **{**words, "augmented_copies": 2, "resize_size": 40})
    whole, still, moving = (weights(tmp_path / name / "bundle") for name in ("whole", "still", "moving"))
    assert torch.allclose(whole["head.weight"], still["head.weight"], atol=1e-4)
    assert not torch.allclose(whole["head.weight"], moving["head.weight"], atol=1e-3)
    assert load_bundle(tmp_path / "moving" / "bundle").provenance["config"]["augmented_copies"] == 2


@pytest.mark.parametrize("way", ["linear-probe", "copies", "full", "lp-ft"])
def test_killed_between_steps_and_resumed(phantoms, tmp_path, way, monkeypatch):
    from nevus.training import loop

    probe = {**PROBE, "steps": 6, "eval_interval": 3}
    extra = {"linear-probe": probe, "copies": {**probe, "augmented_copies": 2}}.get(way, {"tuning": way})
    fit(phantoms, tmp_path / "whole", **extra)
    calls, real = [], loop.gradients

    def breaking(*args):
        calls.append(1)
        if len(calls) == 7:  # two of them measure the time
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(loop, "gradients", breaking)
    with pytest.raises(KeyboardInterrupt):
        fit(phantoms, tmp_path / "broken", **extra)
    monkeypatch.undo()
    assert not (tmp_path / "broken" / "bundle").exists()
    fit(phantoms, tmp_path / "broken", resume=True, **extra)
    one, other = weights(tmp_path / "whole" / "bundle"), weights(tmp_path / "broken" / "bundle")
    assert all(torch.equal(one[k], other[k]) for k in one)


def test_a_complete_run_is_not_repeated(trained, phantoms, capsys):
    _, out = trained
    before = (out / "bundle" / "config.json").stat().st_mtime_ns
    fit(phantoms, out, resume=True)
    assert "is complete" in capsys.readouterr().err
    assert (out / "bundle" / "config.json").stat().st_mtime_ns == before
    with pytest.raises(NevusError, match="holds a run already"):
        fit(phantoms, out)
    with pytest.raises(NevusError, match=r"config.lr was .* is 0.5"):
        fit(phantoms, out, resume=True, lr=0.5)


def test_an_existing_run_is_refused_before_the_duplicate_check(trained, phantoms, monkeypatch):
    from nevus.training import preparation

    _, out = trained
    monkeypatch.setattr(preparation, "group_duplicates", lambda *_, **__: pytest.fail("the check ran"))
    with pytest.raises(NevusError, match="holds a run already"):
        replace(trainer(), preparation=Preparation()).fit(read(phantoms), out)


def test_unreadable_training_images_are_left_out_and_listed(class_folders, tmp_path):
    folder = class_folders({"a": 14, "b": 14})
    (folder / "a" / "003.png").write_bytes(b"broken")
    fit(folder, tmp_path / "run")
    assert "003.png" in (tmp_path / "run" / "skipped.txt").read_text()
    assert load_bundle(tmp_path / "run" / "bundle").provenance["data"]["skipped"] == 1


def test_class_weights_have_mean_one(phantoms):
    manifest = read(phantoms)
    config = make_config("best", DatasetStats(60, 1, 32), {"class_weights": "balanced"})
    found = class_weights(manifest.targets, len(manifest.classes), config).numpy()
    counts = np.bincount(manifest.targets)
    assert (found * counts).sum() == pytest.approx(60)
    assert found[0] * counts[0] == pytest.approx(found[1] * counts[1])
    plain = make_config("best", DatasetStats(60, 1, 32))
    assert class_weights(manifest.targets, len(manifest.classes), plain).tolist() == [1, 1]


def test_three_classes(class_folders, tmp_path):
    classifier = fit(class_folders({"a": 12, "b": 12, "c": 12}), tmp_path / "run")
    assert classifier.classes == ("a", "b", "c")


def test_the_default_preset_stores_its_views_and_stages(phantoms):
    spec, config = Trainer(backbone="bit-r26x0.5-generic").plan(
        read(phantoms).split("train").with_classes(("benign", "malignant"))
    )
    assert (config.preset, config.tuning, config.tta) == ("best", "lp-ft", "d4")
    assert (spec.feature_stages, spec.pooling, spec.image_size) == (4, "stats", 160)


def test_a_network_without_stages_gets_none(phantoms):
    stats = dataset_stats(read(phantoms), backbone_spec("inception-v3-keras"))
    assert make_config("best", stats).feature_stages == min(4, stats.stages)


def test_unknown_backbone(phantoms, tmp_path):
    with pytest.raises(NevusError, match="there is no .* 'vgg'"):
        Trainer(backbone="vgg").fit(read(phantoms), tmp_path / "run")


def test_a_run_writes_a_file_that_trains_the_same(trained, phantoms, tmp_path):
    from nevus.cli.train import Command

    _, out = trained
    again = Command(data=(phantoms,), out=tmp_path / "again", config=out / "train.toml").trainer()
    assert again.overrides == trainer().overrides
    assert (again.seed, again.preset, again.backbone) == (2, "best", "bit-r26x0.5")
