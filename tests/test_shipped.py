import shutil

import pytest

from nevus import bundle as bundles
from nevus import looks, shipped
from nevus.bundle import load_bundle
from nevus.cli.main import main
from nevus.errors import NevusError
from nevus.looks import evaluations, log_evaluation


@pytest.fixture
def shelf(tmp_path, monkeypatch, bundle_folder):
    """A package with one classifier."""
    shutil.copytree(bundle_folder, tmp_path / "classifiers" / "malignant-benign")
    monkeypatch.setattr(shipped, "CLASSIFIERS", tmp_path / "classifiers")
    return tmp_path / "classifiers" / "malignant-benign"


def test_a_name_is_a_classifier_of_the_package(shelf, tmp_path, monkeypatch, bundle_folder):
    assert load_bundle("malignant-benign").folder == shelf
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bundle_folder, "malignant-benign")
    assert load_bundle("malignant-benign").folder != shelf  # one's own goes first
    with pytest.raises(NevusError, match="or the name of one that comes with nevus: malignant-benign"):
        load_bundle("lesion-99")


def test_predict_works_without_a_bundle_of_ones_own(shelf, picture, tmp_path, capsys):
    picture().save(tmp_path / "photo.png")
    assert main(["predict", str(tmp_path / "photo.png")]) == 0
    out, err = capsys.readouterr()
    assert "p_malignant" in out
    assert "comes with nevus; licence" in err


def test_looks_at_a_shipped_classifier_are_not_written_into_the_package(shelf):
    shutil.copy(shelf / "README.md", shelf / "kept")
    before = sorted(path.name for path in shelf.iterdir())
    log_evaluation(load_bundle("malignant-benign"), {"n": 3})
    assert [entry["n"] for entry in evaluations(load_bundle("malignant-benign"))] == [3]
    assert sorted(path.name for path in shelf.iterdir()) == before
    assert bundles.folder_of is shipped.folder_of
    assert looks.is_shipped(shelf)
