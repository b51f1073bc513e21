import shutil
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import nevus
from nevus._io import sha256_file
from nevus.bundle import builtin
from nevus.bundle import bundle as bundles
from nevus.bundle import test_log as looks
from nevus.bundle.bundle import load_bundle
from nevus.bundle.classifier import Classifier
from nevus.bundle.model_card import DISCLAIMER, model_card
from nevus.bundle.training_overlap import OWN as OWN_IMAGES
from nevus.bundle.training_overlap import training_overlap
from nevus.cli.main import main
from nevus.data.public.corrected_splits import corrected_table, with_corrected_split
from nevus.data.readers.dispatch import read
from nevus.errors import NevusError


@pytest.fixture
def shelf(tmp_path, monkeypatch, bundle_folder):
    """A package with one classifier."""
    shutil.copytree(bundle_folder, tmp_path / "classifiers" / "malignant-benign")
    monkeypatch.setattr(builtin, "CLASSIFIERS", tmp_path / "classifiers")
    return tmp_path / "classifiers" / "malignant-benign"


def test_a_name_is_a_classifier_of_the_package(shelf, tmp_path, monkeypatch, bundle_folder):
    assert load_bundle("malignant-benign").folder == shelf
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bundle_folder, "malignant-benign")
    assert load_bundle("malignant-benign").folder != shelf  # one's own goes first
    with pytest.raises(NevusError, match="or the name of a built-in classifier: malignant-benign"):
        load_bundle("lesion-99")


def test_predict_works_without_a_bundle_of_ones_own(shelf, picture, tmp_path, capsys):
    picture().save(tmp_path / "photo.png")
    assert main(["predict", str(tmp_path / "photo.png")]) == 0
    out, err = capsys.readouterr()
    assert "p_malignant" in out
    said = " ".join(err.split())
    assert "is built in" in said


def test_looks_at_a_shipped_classifier_are_not_written_into_the_package(shelf):
    shutil.copy(shelf / "README.md", shelf / "kept")
    before = sorted(path.name for path in shelf.iterdir())
    looks.log_test_evaluation(load_bundle("malignant-benign"), {"n": 3})
    assert [entry["n"] for entry in looks.read_test_log(load_bundle("malignant-benign"))] == [3]
    assert sorted(path.name for path in shelf.iterdir()) == before
    assert bundles.resolve_bundle is builtin.resolve_bundle
    assert looks.is_builtin(shelf)


OWN = Path(nevus.__file__).parent
CLASSIFIERS = OWN / "pretrained" / "classifiers"
LISTS = [
    *sorted(OWN.glob("pretrained/backbones/*.images.parquet")),
    CLASSIFIERS / "lesion-7" / "training_images.parquet",
]
"""`malignant-benign` was trained on all images of its sources: its figures are those of sources left out."""


@pytest.mark.parametrize("path", LISTS, ids=lambda path: str(path.relative_to(OWN)))
def test_no_backbone_saw_a_lesion_of_a_test_split(path):
    """By the ids in the lists of images beside the weights: none of HAM10000's test fold, which holds the lesions
    of isic-malignant-benign's test split too.
    """
    seen = pd.read_parquet(path)
    assert len(seen) > 1000
    assert seen["digest"].map(len).eq(16).all()
    ids = seen["image"].str.extract(r"(ISIC_\d{7})")[0]
    fold = corrected_table("ham10000").set_index("image")
    mine = fold.loc[ids[ids.isin(fold.index)]]
    assert set(mine["split"]) <= {"train"}
    held = fold[fold["split"] == "test"]
    assert not set(mine["group"]) & set(held["group"])


@pytest.mark.parametrize("path", LISTS, ids=lambda path: str(path.relative_to(OWN)))
def test_no_image_of_a_test_split_is_in_what_is_shipped(path, real):
    """By the digests of the files."""
    seen = set(pd.read_parquet(path)["digest"])
    for data in (read(real / "isic2017"), with_corrected_split(read(real / "ham10000"))):
        files = data.split("test").paths
        assert len(files) >= 600
        assert not seen & {bytes.fromhex(sha256_file(file).removeprefix("sha256:"))[:16] for file in files}
    files = read(real / "isic-malignant-benign").split("test").paths
    assert not seen & {bytes.fromhex(sha256_file(file).removeprefix("sha256:"))[:16] for file in files}


def test_what_malignant_benign_was_trained_on_is_listed(real):
    """HAM10000 above all, which one of its networks saw as well; an evaluation there is marked."""
    bundle = load_bundle("malignant-benign")
    for name in ("ham10000", "isic2017", "pad-ufes-20"):
        manifest = read(real / name)
        assert training_overlap(bundle, manifest)[OWN_IMAGES] == len(manifest)
    assert training_overlap(bundle, read(real / "ham10000"))["the backbone bit-r26x0.5-dermoscopy"] > 5000


@pytest.mark.parametrize("name", builtin.builtin_names())
def test_a_shipped_classifier_is_whole_and_says_what_it_is(name, picture):
    found = load_bundle(name)
    assert found.license.startswith("CC BY-NC")
    card = (found.folder / "README.md").read_text()
    assert DISCLAIMER in card
    assert card == model_card(found, found.provenance["fit"]["validation"])  # the stored card is not out of date
    p = Classifier(found).predict_proba(np.asarray(picture(200, 150)))
    assert p.shape == (1, len(found.classes))
    assert "Test-time augmentation: that of each network" in card
    assert found.spec.image_size == 260
    assert (
        set(found.classes)
        == {
            "malignant-benign": {"benign", "malignant"},
            "lesion-7": {"akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"},
        }[name]
    )


def test_the_package_stays_small():
    files = [path for path in OWN.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) < 60e6  # as a wheel compresses them


def test_models_lists_the_shipped_classifiers(shelf, capsys):
    assert main(["models"]) == 0
    assert "classifier malignant-benign: benign / malignant" in capsys.readouterr().out
