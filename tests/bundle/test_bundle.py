import json
import shutil

import numpy as np
import pytest
import torch

from nevus.bundle.bundle import license_of, load_bundle, save_bundle
from nevus.bundle.test_log import test_evaluations, log_test_evaluation
from nevus.errors import NevusError


@pytest.fixture
def copy(bundle_folder, tmp_path):
    return shutil.copytree(bundle_folder, tmp_path / "bundle")


def test_round_trip(bundle_folder):
    bundle = load_bundle(bundle_folder)
    assert bundle.classes == ("benign", "malignant")
    assert bundle.preprocess.side == 32
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert bundle.network(x).shape == (2, 2)
    assert bundle.digest.startswith("sha256:")


def test_it_holds_no_pickle(bundle_folder):
    assert sorted(p.name for p in bundle_folder.iterdir()) == ["README.md", "bundle.json", "weights.safetensors"]
    assert (bundle_folder / "weights.safetensors").stat().st_mode & 0o044


def test_what_was_saved_is_not_written_over(bundle_folder):
    with pytest.raises(NevusError, match="exists already"):
        save_bundle(load_bundle(bundle_folder), bundle_folder, "card")


@pytest.mark.parametrize("name", ["weights.safetensors", "bundle.json", "README.md"])
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
    """bundle.json with other values, digest made right: a foreign or newer one."""
    from nevus.bundle.bundle import _digest

    about = json.loads((copy / "bundle.json").read_text())
    about.pop("digest")
    about.update(changes)
    (copy / "bundle.json").write_text(json.dumps({**about, "digest": _digest(about)}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "other"}, "is no bundle of this program"),
        ({"version": 99}, "has format version 99"),
        ({"classes": ["a", "b", "c"]}, "does not fit together"),
        ({"preprocess": {"side": 32}}, "does not fit together"),
        ({"files": {"../../etc/passwd": "sha256:0"}}, "its files have no digests"),
        ({"files": []}, "its files have no digests"),
        ({"provenance": None}, "its provenance or trunk is missing"),
        ({"classes": ["a", "a"]}, "a class twice"),
        ({"preprocess": {"side": 0, "mean": [0.5] * 3, "std": [0.5] * 3}}, "no number of pixels"),
        ({"preprocess": {"side": 32, "mean": [0.5], "std": [0.5] * 3}}, "its mean is not three numbers"),
        ({"preprocess": {"side": 32, "mean": [0.5] * 3, "std": [0.5, 0.5, 0]}}, "its std is not positive"),
        ({"backbone": "bit-r999x1"}, "there is no trunk"),
    ],
)
def test_a_foreign_bundle_is_refused(copy, changes, words):
    rewritten(copy, **changes)
    with pytest.raises(NevusError, match=words):
        load_bundle(copy)


def test_a_folder_that_is_no_bundle(tmp_path):
    with pytest.raises(NevusError, match="is no bundle"):
        load_bundle(tmp_path)
    (tmp_path / "bundle.json").write_text("[]")
    with pytest.raises(NevusError, match="is no bundle of this program"):
        load_bundle(tmp_path)


def test_evaluations_are_logged_beside_the_digests(copy):
    bundle = load_bundle(copy)
    log_test_evaluation(bundle, {"n": 3})
    log_test_evaluation(bundle, {"n": 4})
    assert [entry["n"] for entry in test_evaluations(bundle)] == [3, 4]
    with (copy / "evaluations.jsonl").open("a") as file:
        file.write("{half\n")
    assert len(test_evaluations(bundle)) == 3  # a damaged line still was a look
    assert load_bundle(copy).digest == bundle.digest


def test_license_follows_the_data():
    assert "CC BY-NC" in license_of(["ham10000"])
    assert license_of(["my-clinic"]).startswith("not known")
    assert "demo" in license_of(["phantom"])
    mixed = license_of(["phantoms + private", "phantoms", "private"])
    assert "demo" in mixed
    assert "not known" in mixed
    assert "not known" not in license_of(["both", "ham10000", "phantoms"])
    begun = license_of(["phantom"], "a trunk, CC BY-NC 4.0 (HAM10000); Apache-2.0")
    assert "CC BY-NC 4.0 (HAM10000)" not in license_of(["phantom"])
    archive = "CC BY-NC 4.0 (ISIC archive terms; the set contains images of HAM10000)"
    goes_on = license_of(["isic2017"], f"a trunk, CC BY-NC 4.0 (HAM10000); {archive}; Apache-2.0")
    assert all(one in goes_on for one in (archive, "CC BY-NC 4.0 (HAM10000)", "ISIC 2017"))
    assert "CC BY-NC 4.0 (HAM10000)" in begun
    assert "CC BY-NC" in license_of(["phantom"], "timm's, cc-by-nc-4.0")
    assert np.char.count(license_of(["ham10000", "isic2017"]), ";") == 1
