import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import nevus
from nevus.bundle.bundle import load_bundle
from nevus.data.manifest import ordered_classes
from nevus.data.readers.dispatch import read
from nevus.errors import NevusError
from nevus.runtime.device import Device
from nevus.training.config import DatasetStats
from nevus.training.losses import class_weights
from nevus.training.overrides import Overrides, make_config
from nevus.training.preparation import Preparation
from nevus.training.trainer import BiT

QUICK = {"side": 32, "resize": 40, "batch": 8, "steps": 6, "warmup": 1, "evaluate_every": 3, "precision": "fp32"}


def fit(data, out, mode="full", resume=False, **changes):
    method = BiT(backbone="bit-r26x0.5", mode=mode, seed=2, changes=Overrides(**{**QUICK, **changes}))
    return method.fit(read(data), out, resume=resume)


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "full"
    return fit(phantoms, out), out


def weights(folder):
    return load_bundle(folder).network.state_dict()


def test_the_run_holds_what_it_should(trained, phantoms):
    _, out = trained
    for name in ("config.json", "manifest.parquet", "metrics.jsonl", "checkpoint.safetensors", "skipped.txt"):
        assert (out / name).is_file()
    config = json.loads((out / "config.json").read_text())
    assert config["recipe"]["steps"] == 6
    assert config["changes"]["side"] == 32
    again = read(out / "manifest.parquet")
    assert again.splits() == ("train", "validation", "test")
    cut = again.table[again.table["split"] != "test"]  # the test split is the set's own
    assert cut.groupby("group")["split"].nunique().max() == 1


def test_the_bundle_gives_what_was_judged(trained):
    _, out = trained
    provenance = load_bundle(out / "bundle").provenance
    fit_figures = provenance["fit"]["validation"]
    rows = read(out / "manifest.parquet").split("validation")
    p = nevus.load(out / "bundle").predict_proba(rows.paths)
    assert fit_figures["accuracy"]["value"] == pytest.approx(float((p.argmax(1) == rows.targets).mean()))
    loss = -np.log(p[np.arange(len(rows)), rows.targets]).mean()
    assert fit_figures["cross_entropy"]["value"] == pytest.approx(loss, abs=1e-5)
    assert provenance["data"]["digest"] == read(out / "manifest.parquet").digest
    assert len(provenance["history"]) == 2
    assert "Research use only" in (out / "bundle" / "README.md").read_text()


def test_same_seed_same_weights(trained, phantoms, tmp_path):
    _, out = trained
    fit(phantoms, tmp_path / "again")
    assert all(torch.equal(v, weights(out / "bundle")[k]) for k, v in weights(tmp_path / "again/bundle").items())


def test_head_trains_the_head_alone(phantoms, tmp_path):
    from nevus.models.registry import build_backbone

    fit(phantoms, tmp_path / "head", "head", resize=None, steps=100, lr=1.0, standardize=True)
    found, start = weights(tmp_path / "head" / "bundle"), build_backbone("bit-r26x0.5", classes=2, seed=2).state_dict()
    changed = {k for k in found if not torch.equal(found[k], start[k])}
    assert changed == {"head.fc.weight", "head.fc.bias"}
    fit_of = load_bundle(tmp_path / "head" / "bundle").provenance["fit"]
    assert fit_of["training_loss"] < np.log(2)


def test_taps_are_saved_with_the_bundle_and_used_again(phantoms, tmp_path):
    from nevus.models.registry import build_backbone

    changes = Overrides(side=32, steps=50, lr=1.0, batch=8, evaluate_every=25)
    method = BiT(
        backbone="bit-r26x0.5", mode="head", taps=3, seed=2, changes=changes, preparation=Preparation(audit=False)
    )
    classifier = method.fit(read(phantoms), tmp_path / "run")
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert bundle.taps == 3
    found = bundle.network.state_dict()
    assert found["head.weight"].shape == (2, 256 + 512 + 1024 + 1024)
    assert found["head.weight"][:, :256].abs().max() > 0  # an early stage has a say
    start = build_backbone("bit-r26x0.5", classes=0, seed=2).state_dict()
    assert all(torch.equal(found[f"tapped.trunk.{key}"], value) for key, value in start.items())
    paths = read(phantoms).paths[:3]
    assert np.allclose(
        nevus.load(tmp_path / "run" / "bundle").predict_proba(paths), classifier.predict_proba(paths)
    )


def test_the_spread_is_saved_with_the_bundle_and_used_again(phantoms, tmp_path):
    changes = Overrides(side=32, steps=50, lr=1.0, batch=8, evaluate_every=25)
    method = BiT(
        backbone="bit-r26x0.5",
        mode="head",
        taps=2,
        spread=True,
        changes=changes,
        preparation=Preparation(audit=False),
    )
    classifier = method.fit(read(phantoms), tmp_path / "run")
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert (bundle.taps, bundle.spread) == (2, True)
    found = bundle.network.state_dict()
    assert found["head.weight"].shape == (2, 3 * (512 + 1024) + 1024)
    assert found["head.weight"][:, 512:1536].abs().max() > 0  # deviations and maxima have a say
    paths = read(phantoms).paths[:3]
    assert np.allclose(
        nevus.load(tmp_path / "run" / "bundle").predict_proba(paths), classifier.predict_proba(paths)
    )


@pytest.mark.parametrize("mode", ["head", "full"])
def test_a_bundle_answers_with_the_mean_that_was_asked_for_and_judged(phantoms, tmp_path, mode):
    words = {"resize": None, "steps": 30, "lr": 1.0, "evaluate_every": 10} if mode == "head" else {}
    fit(phantoms, tmp_path / "run", mode, mean_of=4, **words)
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert bundle.views == 4
    rows = read(tmp_path / "run" / "manifest.parquet").split("validation")
    p = nevus.load(tmp_path / "run" / "bundle").predict_proba(rows.paths)
    once = nevus.load(tmp_path / "run" / "bundle", views=1).predict_proba(rows.paths)
    said = bundle.provenance["fit"]["validation"]["cross_entropy"]["value"]
    assert said == pytest.approx(-np.log(p[np.arange(len(rows)), rows.targets]).mean(), abs=1e-5)
    assert np.abs(p - once).max() > 1e-4


@pytest.mark.parametrize("mode", ["head", "full"])
def test_summed_diagnoses_are_averaged_as_the_bundle_does(phantoms, tmp_path, mode):
    rows = read(phantoms)
    table = rows.table.copy()
    table.loc[table.index % 2 == 0, "label"] = table["label"].where(table["label"] != "benign", "nv")
    manifest = replace(rows, table=table, classes=ordered_classes(table["label"]))
    words = {"steps": 30, "lr": 3.0, "evaluate_every": 10} if mode == "head" else {}
    changes = Overrides(**{**QUICK, "resize": None if mode == "head" else 40, **words, "mean_of": 4})
    answer = ("benign=benign,nv", "malignant=malignant")
    BiT(backbone="bit-r26x0.5", mode=mode, seed=2, changes=changes, answer=answer).fit(manifest, tmp_path / "run")
    held = read(tmp_path / "run" / "manifest.parquet").split("validation")
    p = nevus.load(tmp_path / "run" / "bundle").predict_proba(held.paths)
    said = load_bundle(tmp_path / "run" / "bundle").provenance["fit"]["validation"]["cross_entropy"]["value"]
    true = (held.table["label"] == "malignant").to_numpy().astype(int)
    assert said == pytest.approx(-np.log(p[np.arange(len(held)), true]).mean(), abs=1e-5)


def test_the_run_of_a_head_says_what_its_features_were_computed_in(phantoms, tmp_path, monkeypatch):
    """On any CPU: where bfloat16 is there, `auto` would train a network in it, but not a head's features."""
    from nevus.training import fit as finish

    monkeypatch.setattr(finish, "device", lambda _: Device(torch.device("cpu"), True))
    for mode, expected in (("head", "fp32"), ("full", "bf16")):
        fit(phantoms, tmp_path / mode, mode, resize=None if mode == "head" else 40, steps=2, precision="auto")
        told = json.loads((tmp_path / mode / "fit.json").read_text())["machine"]["precision"]
        assert told == expected


def test_a_head_is_trained_on_every_view_of_which_it_is_to_give_the_mean(phantoms, tmp_path):
    words = {"resize": None, "steps": 60, "lr": 1.0, "evaluate_every": 60}
    for number in (1, 4):
        fit(phantoms, tmp_path / str(number), "head", mean_of=number, **words)
    one, four = (weights(tmp_path / name / "bundle")["head.fc.weight"] for name in ("1", "4"))
    assert not torch.allclose(one, four, atol=1e-3)


def test_a_head_may_be_trained_on_the_means_themselves(phantoms, tmp_path, monkeypatch):
    from nevus.training import fit as fitting

    shown, fit_linear_probe = {}, fitting.fit_linear_probe

    def seen(features, *args, **more):
        shown[features.shape[0]] = features
        return fit_linear_probe(features, *args, **more)

    monkeypatch.setattr(fitting, "fit_head", seen)
    words = {"resize": None, "steps": 60, "lr": 1.0, "evaluate_every": 60, "mean_of": 6}
    fit(phantoms, tmp_path / "each", "head", **words)
    fit(phantoms, tmp_path / "means", "head", on_means=True, **words)
    assert set(shown) == {6, 1}
    np.testing.assert_allclose(shown[1][0], shown[6].mean(0), rtol=1e-5, atol=1e-6)
    bundle = load_bundle(tmp_path / "means" / "bundle")
    assert (bundle.views, bundle.provenance["recipe"]["on_means"]) == (6, True)
    rows = read(tmp_path / "means" / "manifest.parquet").split("validation")
    p = nevus.load(tmp_path / "means" / "bundle").predict_proba(rows.paths)
    said = bundle.provenance["fit"]["validation"]["cross_entropy"]["value"]
    assert said == pytest.approx(-np.log(p[np.arange(len(rows)), rows.targets]).mean(), abs=1e-5)


@pytest.mark.parametrize(("mode", "mean_of"), [("head", 1), ("full", 6)])
def test_means_that_are_not_trained_on_are_refused(mode, mean_of):
    changes = Overrides(mean_of=mean_of, on_means=True)
    with pytest.raises(NevusError, match="--on-means"):
        make_config("default", DatasetStats(100, 1e5, 128), mode, changes=changes)


def test_a_mean_over_five_views_is_refused():
    with pytest.raises(NevusError, match="correct --mean-of"):
        make_config("default", DatasetStats(100, 1e5, 128), "head", changes=Overrides(mean_of=5))


STILL = {"crop": (1.0, 1.0), "mirror": False, "turns": False, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}


def test_views_that_change_nothing_train_the_same_head(phantoms, tmp_path):
    words = {"resize": 32, "steps": 60, "lr": 1.0, "evaluate_every": 20}
    fit(phantoms, tmp_path / "whole", "head", **{**words, "resize": None})
    fit(phantoms, tmp_path / "still", "head", views=2, **words, **STILL)
    fit(phantoms, tmp_path / "moving", "head", views=2, **{**words, "resize": 40})
    whole, still, moving = (weights(tmp_path / name / "bundle") for name in ("whole", "still", "moving"))
    assert torch.allclose(whole["head.fc.weight"], still["head.fc.weight"], atol=1e-4)
    assert not torch.allclose(whole["head.fc.weight"], moving["head.fc.weight"], atol=1e-3)
    assert load_bundle(tmp_path / "moving" / "bundle").provenance["recipe"]["views"] == 2


def test_a_head_on_whole_images_records_no_views():
    for name in ("default", "paper", "hyperrule"):
        made = make_config(name, DatasetStats(100, 1e5, 128), "head")
        assert made.resize == made.side
        assert (made.crop, made.mirror, made.turns, made.brightness) == ((1, 1), False, False, 0)
        moving = make_config(name, DatasetStats(100, 1e5, 128), "head", changes=Overrides(views=1))
        assert moving.resize > moving.side


def test_what_views_cannot_do_is_refused():
    facts = DatasetStats(100, 1e5, 128)
    for field, value in {"brightness": 0.3, "crop": (0.5, 1.0), "resize": 150, "turns": True}.items():
        changes = {field: value}
        with pytest.raises(NevusError, match=f"--{field} does nothing.*--views"):
            make_config("default", facts, "head", changes=Overrides(**changes))
        assert make_config("default", facts, "head", changes=Overrides(**changes, views=1)).views == 1
    with pytest.raises(NevusError, match="--views is for mode head"):
        make_config("default", facts, "full", changes=Overrides(views=1))
    with pytest.raises(NevusError, match="correct --views"):
        make_config("default", facts, "head", changes=Overrides(views=-1))


@pytest.mark.parametrize("mode", ["head", "views", "full"])
def test_killed_between_steps_and_resumed(phantoms, tmp_path, mode, monkeypatch):
    from nevus.training import loop

    extra = {"head": {"resize": None}, "views": {"views": 2}, "full": {}}[mode]
    mode = "full" if mode == "full" else "head"
    fit(phantoms, tmp_path / "whole", mode, **extra)
    calls, real = [], loop.gradients

    def breaking(*args):
        calls.append(1)
        if len(calls) == 7:  # two of them measure the time
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(loop, "gradients", breaking)
    with pytest.raises(KeyboardInterrupt):
        fit(phantoms, tmp_path / "broken", mode, **extra)
    monkeypatch.undo()
    assert not (tmp_path / "broken" / "bundle").exists()
    fit(phantoms, tmp_path / "broken", mode, resume=True, **extra)
    one, other = weights(tmp_path / "whole" / "bundle"), weights(tmp_path / "broken" / "bundle")
    assert all(torch.equal(one[k], other[k]) for k in one)


def test_a_complete_run_is_not_repeated(trained, phantoms, capsys):
    _, out = trained
    before = (out / "bundle" / "bundle.json").stat().st_mtime_ns
    fit(phantoms, out, resume=True)
    assert "is complete" in capsys.readouterr().err
    assert (out / "bundle" / "bundle.json").stat().st_mtime_ns == before
    with pytest.raises(NevusError, match="holds a run already"):
        fit(phantoms, out)
    with pytest.raises(NevusError, match=r"recipe.lr was .* is 0.5"):
        fit(phantoms, out, resume=True, lr=0.5)


def test_unreadable_training_images_are_left_out_and_listed(class_folders, tmp_path):
    folder = class_folders({"a": 14, "b": 14})
    (folder / "a" / "003.png").write_bytes(b"broken")
    fit(folder, tmp_path / "run")
    assert "003.png" in (tmp_path / "run" / "skipped.txt").read_text()
    assert load_bundle(tmp_path / "run" / "bundle").provenance["data"]["skipped"] == 1


def test_class_weights_have_mean_one(phantoms):
    manifest = read(phantoms)
    recipe = make_config("default", DatasetStats(60, 1, 32), "full", changes=Overrides(class_weights="balanced"))
    found = class_weights(manifest.targets, len(manifest.classes), recipe).numpy()
    counts = np.bincount(manifest.targets)
    assert (found * counts).sum() == pytest.approx(60)
    assert found[0] * counts[0] == pytest.approx(found[1] * counts[1])
    plain = make_config("default", DatasetStats(60, 1, 32), "full")
    assert class_weights(manifest.targets, len(manifest.classes), plain).tolist() == [1, 1]


def test_three_classes(class_folders, tmp_path):
    classifier = fit(class_folders({"a": 12, "b": 12, "c": 12}), tmp_path / "run")
    assert classifier.classes == ("a", "b", "c")


def test_unknown_trunk(phantoms, tmp_path):
    with pytest.raises(NevusError, match="there is no trunk 'vgg'"):
        BiT(backbone="vgg").fit(read(phantoms), tmp_path / "run")
