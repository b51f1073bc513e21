import os

import pytest

from nevus.cli.main import main
from nevus.data.readers.dispatch import read
from nevus.data.walker import BAD_NAME, HIDDEN, LOOP, NO_IMAGE, LeftOut, found_images, walk_images
from nevus.errors import NevusError


@pytest.fixture
def folder(tmp_path, picture):
    for label in ("benign", "malignant"):
        for number in range(12):
            path = tmp_path / "set" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(seed=50 * (label == "benign") + number).save(path)
    return tmp_path / "set"


def test_what_is_left_out_is_counted_and_listed(folder, picture, capsys):
    for name in (".ipynb_checkpoints", ".Trash"):
        (folder / "benign" / name).mkdir()
        picture().save(folder / "benign" / name / "a.png")
    (folder / "benign" / "notes.txt").write_text("x")
    (folder / "benign" / "raw.psd").write_text("x")
    picture().save(folder / "benign" / "b\udcff.png")
    picture().save(folder / "loose.png")
    manifest = read(folder)
    assert len(manifest) == 24
    reasons = {os.path.basename(path): reason for path, reason in manifest.left_out}
    assert reasons == {
        ".ipynb_checkpoints": HIDDEN,
        ".Trash": HIDDEN,
        "notes.txt": NO_IMAGE,
        "raw.psd": NO_IMAGE,
        "b\\udcff.png": BAD_NAME,
        "loose.png": "an image in no class folder",
    }
    error = " ".join(capsys.readouterr().err.split())
    assert "Left out of set: 2 (" in error
    assert "2 (hidden)" in error


def test_links_are_followed_and_loops_end(folder, tmp_path, picture):
    (tmp_path / "elsewhere").mkdir()
    picture(seed=99).save(tmp_path / "elsewhere" / "linked.png")
    (folder / "benign" / "more").symlink_to(tmp_path / "elsewhere")
    (folder / "malignant" / "again").symlink_to(folder)
    (folder / "malignant" / "itself").symlink_to(folder / "malignant")
    (folder / "third").symlink_to(tmp_path / "elsewhere")
    manifest = read(folder)
    assert "benign/more/linked.png" in manifest.table["image"].tolist()
    assert set(manifest.classes) == {"benign", "malignant", "third"}
    left_out = LeftOut()
    assert len(list(walk_images(folder / "malignant", left_out))) < 30
    assert LOOP in {reason for _, reason in left_out.entries}


def test_predict_and_training_take_the_same_files(folder, picture, tmp_path, capsys):
    (folder / "benign" / ".ipynb_checkpoints").mkdir()
    picture().save(folder / "benign" / ".ipynb_checkpoints" / "a.png")
    (folder / "benign" / "readme.md").write_text("x")
    predicted = [path.relative_to(folder).as_posix() for path in found_images([folder], LeftOut())]
    assert sorted(predicted) == sorted(read(folder).table["image"])
    assert main(["predict", str(folder), "--format", "csv", "--out", str(tmp_path / "p.csv")]) == 0
    assert "Left out of the folders: 1 (" in capsys.readouterr().err
    listed = (tmp_path / "p.skipped.txt").read_text()
    assert "readme.md: no image by its name" in listed
    assert ".ipynb_checkpoints: hidden" in listed


def test_left_out_files_are_in_skipped_txt_of_a_run(folder, tmp_path):
    (folder / "benign" / "notes.txt").write_text("x")
    words = ["--no-check-duplicates", "--preset", "fast", "--set", "image_size=32", "steps=2"]
    assert main(["train", str(folder), "--out", str(tmp_path / "run"), *words]) == 0
    assert "notes.txt: no image by its name" in (tmp_path / "run" / "skipped.txt").read_text()


def test_parts_of_a_set_are_no_classes(tmp_path, picture):
    for name in ("HAM10000_images_part_1", "HAM10000_images_part_2"):
        (tmp_path / "set" / name).mkdir(parents=True)
        picture().save(tmp_path / "set" / name / "ISIC_1.jpg")
    with pytest.raises(NevusError, match=r"HAM10000_images_part_1 and HAM10000_images_part_2 .* for classes"):
        read(tmp_path / "set")
    for name in ("grade 1", "grade 2"):
        (tmp_path / "grades" / name).mkdir(parents=True)
        picture().save(tmp_path / "grades" / name / "1.jpg")
    assert read(tmp_path / "grades").classes == ("grade 1", "grade 2")


def test_the_one_folder_of_all_images_is_no_class_where_there_is_a_table(tmp_path, picture):
    (tmp_path / "set" / "images").mkdir(parents=True)
    picture().save(tmp_path / "set" / "images" / "1.jpg")
    assert read(tmp_path / "set").classes == ("images",)
    (tmp_path / "set" / "labels.csv").write_text("image,label\nimages/1.jpg,benign\n")
    with pytest.raises(NevusError, match=r"Cannot take images .* Give the table, as in .*labels\.csv"):
        read(tmp_path / "set")
    assert read(tmp_path / "set" / "labels.csv").classes == ("benign",)
