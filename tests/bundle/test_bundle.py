import json
import shutil

import numpy as np
import pytest
import torch
from tests.helpers import small_bundle, small_network

from nevus.bundle import test_log as log
from nevus.bundle.bundle import load_bundle, save_bundle
from nevus.errors import NevusError
from nevus.licenses import license_of


@pytest.fixture
def copy(bundle_folder, tmp_path):
    return shutil.copytree(bundle_folder, tmp_path / "bundle")


def test_round_trip(bundle_folder):
    bundle = load_bundle(bundle_folder)
    assert bundle.classes == ("benign", "malignant")
    assert bundle.spec.preprocess.image_size == 32
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert bundle.load_network()(x).shape == (2, 2)
    assert bundle.digest.startswith("sha256:")


def test_it_holds_no_pickle(bundle_folder):
    assert sorted(p.name for p in bundle_folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.onnx",
        "model.safetensors",
    ]
    assert (bundle_folder / "model.safetensors").stat().st_mode & 0o044


def test_what_was_saved_is_not_written_over(bundle_folder):
    with pytest.raises(NevusError, match="exists already"):
        save_bundle(load_bundle(bundle_folder), bundle_folder, small_network(load_bundle(bundle_folder).spec), "card")


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx", "config.json", "README.md"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_bundle_is_refused_in_one_sentence(copy, name, damage):
    path = copy / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.unlink()
    with pytest.raises(NevusError) as caught:
        load_bundle(copy)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


def rewritten(copy, **changes):
    """config.json with other values, digest made right: a foreign or newer one."""
    from nevus.bundle.bundle import _digest

    about = json.loads((copy / "config.json").read_text())
    about.pop("digest")
    about.update(changes)
    (copy / "config.json").write_text(json.dumps({**about, "digest": _digest(about)}))


MODEL = {
    "backbone": "bit-r26x0.5",
    "classes": ["benign", "malignant"],
    "feature_stages": 0,
    "pooling": "avg",
    "fine_classes": ["benign", "malignant"],
    "label_groups": None,
    "class_prior": None,
    "image_size": 32,
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "other"}, "is no bundle of nevus"),
        ({"version": 1}, "has format version 1"),
        ({"version": 99}, "has format version 99"),
        ({"model": {**MODEL, "image_size": 0}}, "not between 16 and 4096"),
        ({"model": {**MODEL, "classes": ["a", "a"]}}, "two different classes"),
        ({"model": {key: MODEL[key] for key in ("backbone", "classes")}}, "is inconsistent"),
        ({"model": []}, "its model or provenance is missing"),
        ({"files": {"../../etc/passwd": "sha256:0"}}, "its files have no digests"),
        ({"files": []}, "its files have no digests"),
        ({"provenance": None}, "its model or provenance is missing"),
        ({"tta": "five"}, "no policy 'five'"),
        ({"license": None}, "its license is no text"),
    ],
)
def test_a_foreign_bundle_is_refused(copy, changes, words):
    rewritten(copy, **changes)
    with pytest.raises(NevusError, match=words):
        load_bundle(copy)


@pytest.mark.parametrize("model", [{"backbone": "bit-r999x1"}, {"classes": ["a", "b", "c"]}, {"feature_stages": 2}])
def test_weights_of_another_network_are_refused(copy, model):
    rewritten(copy, model={**MODEL, **model})
    with pytest.raises(NevusError):
        load_bundle(copy).load_network()


def test_model_onnx_gives_logits_features_and_evidence(tmp_path):
    """The documented outputs, against PyTorch."""
    from nevus.models.label_groups import LabelGroups
    from nevus.runtime.engines import OnnxEngine

    groups = LabelGroups.parse(["benign=nv,bkl", "malignant=mel"], ("bkl", "mel", "nv"), ["bkl=0.1"])
    bundle = small_bundle(tmp_path / "b", feature_stages=2, pooling="stats", label_groups=groups)
    engine = OnnxEngine(bundle.onnx)
    assert engine.output_names == ("logits", "features", "fine_logits", "evidence_1", "evidence_2", "evidence_3")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    found = engine.outputs(pixels, engine.output_names)
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    with torch.inference_mode():
        network = bundle.load_network()
        logits, features, evidence = network.outputs(x)
        fine = network(x)
    total = sum(one.sum((2, 3)) for one in evidence) + network.head.bias.detach()
    np.testing.assert_allclose(total, fine, atol=1e-3 * float(fine.abs().max()))
    for mine, theirs in zip(found, [logits, features, fine, *evidence], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-3 * float(theirs.abs().max()))


def test_half_precision_weights_are_computed_in_float32(tmp_path):
    bundle = small_bundle(tmp_path / "half", half=True)
    full = small_bundle(tmp_path / "full")
    size = [(one.folder / "model.safetensors").stat().st_size for one in (bundle, full)]
    assert size[0] < 0.51 * size[1]
    assert all(v.dtype == torch.float32 for v in bundle.load_network().state_dict().values())


def test_the_front_matter_of_a_card_is_yaml():
    import yaml

    from nevus.bundle.builtin import builtin_names

    for name in builtin_names():
        card = (load_bundle(name).folder / "README.md").read_text()
        _, front, body = card.split("---\n", 2)
        about = yaml.safe_load(front)
        assert about["license"] == "other"
        assert about["pipeline_tag"] == "image-classification"
        assert "Research use only" in body


def test_a_folder_that_is_no_bundle(tmp_path):
    with pytest.raises(NevusError, match="Cannot read the bundle"):
        load_bundle(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(NevusError, match="is no bundle of nevus"):
        load_bundle(tmp_path)


def test_evaluations_are_logged_beside_the_digests(copy):
    bundle = load_bundle(copy)
    log.log_test_evaluation(bundle, {"n": 3})
    log.log_test_evaluation(bundle, {"n": 4})
    assert [entry["n"] for entry in log.read_test_log(bundle)] == [3, 4]
    with (copy / "test_log.jsonl").open("a") as file:
        file.write("{half\n")
    assert len(log.read_test_log(bundle)) == 3  # a damaged line still was a look
    assert load_bundle(copy).digest == bundle.digest


def test_license_follows_the_data():
    assert "CC BY-NC" in license_of(["ham10000"])
    assert license_of(["my-clinic"]).startswith("not known")
    assert "demo" in license_of(["phantom"])
    mixed = license_of(["phantoms + private", "phantoms", "private"])
    assert "demo" in mixed
    assert "not known" in mixed
    assert "not known" not in license_of(["both", "ham10000", "phantoms"])
    begun = license_of(["phantom"], "a backbone, CC BY-NC 4.0 (HAM10000); Apache-2.0")
    assert "CC BY-NC 4.0 (HAM10000)" not in license_of(["phantom"])
    archive = "CC BY-NC 4.0 (ISIC archive terms; the set contains images of HAM10000)"
    goes_on = license_of(["isic2017"], f"a backbone, CC BY-NC 4.0 (HAM10000); {archive}; Apache-2.0")
    assert all(one in goes_on for one in (archive, "CC BY-NC 4.0 (HAM10000)", "ISIC 2017"))
    assert "CC BY-NC 4.0 (HAM10000)" in begun
    assert "CC BY-NC" in license_of(["phantom"], "timm's, cc-by-nc-4.0")
    assert np.char.count(license_of(["ham10000", "isic2017"]), ";") == 1
