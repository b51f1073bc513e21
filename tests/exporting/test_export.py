import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nevus.bundle.bundle import load_bundle
from nevus.bundle.classifier import Classifier
from nevus.cli.main import main
from nevus.data.cache import Cache, CacheConfig
from nevus.data.readers.dispatch import read
from nevus.data.splits import SplitConfig, with_splits
from nevus.data.transforms import normalize
from nevus.errors import NevusError
from nevus.exporting import export as module
from nevus.exporting.export import export
from nevus.exporting.formats import reader


@pytest.fixture
def trained(bundle_folder, phantoms, tmp_path):
    """A folder as training leaves it: a bundle, and the manifest with its splits."""
    folder = tmp_path / "run"
    shutil.copytree(bundle_folder, folder / "bundle")
    with_splits(read(phantoms), SplitConfig()).save(folder / "manifest.parquet")
    return folder


@pytest.fixture
def cache(tmp_path):
    made = Cache(CacheConfig(tmp_path / "cache"))
    yield made
    made.close()


def probabilities(bundle, paths):
    """By the bundle's own network, without any engine."""
    preprocess = bundle.spec.preprocess
    x = normalize(np.stack([preprocess.pixels(path) for path in paths]), preprocess)
    with torch.inference_mode():
        return bundle.load_network()(x).softmax(1).numpy()


@pytest.mark.parametrize("format", ["onnx", "openvino", "torch"])
def test_every_format_gives_the_bundle_s_probabilities_for_any_number_of_images(
    trained, phantoms, cache, tmp_path, format
):
    bundle, manifest = load_bundle(trained / "bundle"), read(phantoms)
    done = export(bundle, manifest, tmp_path / "out", cache, format=format)
    paths = manifest.split("test").paths[:5]
    expected = probabilities(bundle, paths)
    run = reader(done.path)
    pixels = np.stack([bundle.spec.preprocess.pixels(path) for path in paths])
    for n in (1, 5):
        assert np.abs(run(pixels[:n]) - expected[:n]).max() < 5e-4
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert about["checked"]["largest_difference"] < 5e-4
    assert about["classes"] == list(bundle.classes)
    assert about["bundle"]["digest"] == bundle.digest
    assert "Not a medical device" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("format", "tta"),
    [
        ("onnx", "crop-color"),
        ("onnx", "invariant"),
        ("openvino", "invariant"),
        ("openvino", "flip"),
        ("openvino", "all"),
        ("torch", "crop-color"),
        ("onnx", "all"),
    ],
)
def test_test_time_augmentation_is_part_of_the_graph(trained, phantoms, cache, tmp_path, format, tta):
    bundle, manifest = replace(load_bundle(trained / "bundle"), tta=tta), read(phantoms)
    done = export(bundle, manifest, tmp_path / "out", cache, format=format)
    paths = manifest.split("test").paths[:3]
    pixels = np.stack([bundle.spec.preprocess.pixels(path) for path in paths])
    found = reader(done.path)(pixels)
    assert np.abs(found - Classifier(bundle).predict_proba(paths)).max() < 1e-3
    assert np.abs(reader(done.path)(pixels[:1]) - found[:1]).max() < 1e-3
    assert not np.allclose(found, Classifier(bundle, tta="none").predict_proba(paths), atol=1e-3)
    assert json.loads((tmp_path / "out" / "export.json").read_text())["tta"] == tta
    assert f"augmentation `{tta}`" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("format", ["onnx", "openvino", "torch"])
def test_int8_says_what_it_costs_on_validation(trained, phantoms, cache, tmp_path, format):
    import onnx

    bundle, manifest = load_bundle(trained / "bundle"), read(trained / "manifest.parquet")
    done = export(bundle, manifest, tmp_path / "out", cache, format=format, precision="int8")
    rows = manifest.split("validation")
    pixels = np.stack([bundle.spec.preprocess.pixels(path) for path in rows.paths])
    found = reader(done.path)(pixels)
    right = found.argmax(1) == rows.with_classes(bundle.classes).targets
    assert done.accuracy is not None
    assert done.accuracy["n"] == len(rows)
    assert np.isclose(done.accuracy["after"], right.mean())
    before = (probabilities(bundle, rows.paths).argmax(1) == rows.with_classes(bundle.classes).targets).mean()
    assert np.isclose(done.accuracy["before"], before)
    assert np.isclose(done.accuracy["difference"], right.mean() - before)
    if np.isfinite(done.accuracy["ci_low"]):  # else no image changed its class
        assert done.accuracy["ci_low"] <= done.accuracy["difference"] <= done.accuracy["ci_high"]
        assert done.accuracy["ci_low"] < done.accuracy["ci_high"]
    assert f"{100 * done.accuracy['difference']:+.1f} points (" in done.sentence()
    if format == "torch":
        whole = export(bundle, manifest, tmp_path / "whole", cache, format="torch").path
        assert done.path.stat().st_size < 0.4 * whole.stat().st_size
        plain, small = (np.log(p[:, 1] / p[:, 0]) for p in (probabilities(bundle, rows.paths), found))
        assert 0.8 < np.corrcoef(plain, small)[0, 1] < 1 - 1e-9
    if format == "onnx":
        kinds = {node.op_type for node in onnx.load(done.path).graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
        whole = export(bundle, manifest, tmp_path / "whole", cache, format="onnx").path
        assert done.path.stat().st_size < 0.4 * whole.stat().st_size


def test_int8_keeps_a_linear_probe_on_features_of_several_stages(phantoms, cache, tmp_path):
    """Their ranges differ by stage: a head in 8 bits calls all images the same."""
    words = ["train", str(phantoms), "--preset", "fast", "--set", "image_size=64", "steps=100", "precision=fp32"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    bundle, manifest = load_bundle(tmp_path / "run" / "bundle"), read(tmp_path / "run" / "manifest.parquet")
    assert bundle.spec.feature_stages == 4
    done = export(bundle, manifest, tmp_path / "out", cache, format="onnx", precision="int8")
    paths = manifest.split("train").paths
    pixels = np.stack([bundle.spec.preprocess.pixels(path) for path in paths])
    plain, small = (np.log(p[:, 1] / p[:, 0]) for p in (probabilities(bundle, paths), reader(done.path)(pixels)))
    assert np.corrcoef(plain, small)[0, 1] > 0.95


def test_an_export_that_differs_is_not_written(trained, phantoms, cache, tmp_path, monkeypatch):
    bundle, manifest = load_bundle(trained / "bundle"), read(phantoms)

    def wrong(path):
        run = reader(path)
        return lambda pixels: run(pixels) + np.float32(0.01)

    monkeypatch.setattr(module, "reader", wrong)
    with pytest.raises(NevusError, match=r"differs from the bundle by 0.01.*nothing was written"):
        export(bundle, manifest, tmp_path / "out", cache, format="onnx")
    assert list((tmp_path / "out").iterdir()) == []
    export(bundle, manifest, tmp_path / "out", cache, format="onnx", bound=0.1)
    assert (tmp_path / "out" / "model.onnx").exists()


def test_the_test_split_is_not_looked_at(trained, phantoms, cache, tmp_path, monkeypatch):
    seen = []
    decode = module.decode_dataset

    def watched(rows, *others, **words):
        seen.append(set(rows.table["split"]))
        return decode(rows, *others, **words)

    monkeypatch.setattr(module, "decode_dataset", watched)
    bundle, manifest = load_bundle(trained / "bundle"), read(phantoms)
    export(bundle, manifest, tmp_path / "out", cache, format="onnx", precision="int8")
    assert seen
    assert all("test" not in splits for splits in seen)
    with pytest.raises(NevusError, match="test images only"):
        export(bundle, manifest.split("test"), tmp_path / "none", cache, format="onnx")


def test_command(trained, phantoms, tmp_path, capsys):
    bundle = str(trained / "bundle")
    assert main(["export", bundle, "--out", str(tmp_path / "out"), "--format", "openvino"]) == 0
    said = capsys.readouterr()
    assert "largest difference from the bundle" in said.out
    assert "Not a medical device" in said.err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "model.xml",
        "model.bin",
        "export.json",
        "README.md",
    }


def test_a_photograph_through_the_exported_graph(trained, phantoms, cache, tmp_path):
    """As the README of an export says: squeeze the image to the square, nothing else."""
    bundle, manifest = load_bundle(trained / "bundle"), read(phantoms)
    run = reader(export(bundle, manifest, tmp_path / "out", cache, format="onnx").path)
    path = manifest.paths[0]
    image_size = bundle.spec.preprocess.image_size
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize((image_size, image_size), Image.Resampling.BILINEAR))
    assert np.allclose(run(pixels[None]), probabilities(bundle, [path]), atol=5e-4)
