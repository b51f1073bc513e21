"""Tables as people and archives write them: separators, encodings, names of images, labels."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from nevus.data.public.ham10000 import HAM10000
from nevus.data.readers.dispatch import ARCHIVES, DataConfig, read
from nevus.data.table_file import csv_columns, read_csv
from nevus.errors import NevusError

HEAD = "lesion_id,image_id,dx,dx_type,age,sex,localization"


def images(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, "JPEG" if path.suffix.lower() == ".jpg" else "PNG")


def ham(folder, text, name="HAM10000_metadata.csv", encoding="utf-8"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding=encoding)
    images(folder, "HAM10000_images_part_1/ISIC_1.jpg", "HAM10000_images_part_2/ISIC_2.JPG")
    return folder


ROWS = [HEAD, "HAM_1,ISIC_1,nv,histo,50,male,back", "HAM_2,ISIC_2,mel,histo,,female,Rücken"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_a_layouts_table_with_any_separator_name_and_encoding(tmp_path, separator, name, encoding):
    manifest = read(ham(tmp_path / "set", "\n".join(ROWS).replace(",", separator), name, encoding))
    assert manifest.name == "ham10000"
    assert manifest.table["label"].tolist() == ["nv", "mel"]
    assert manifest.table["anatom_site_general"].tolist() == ["back", "Rücken"]
    assert all(path.exists() for path in manifest.paths)


def test_ham10000_names_its_four_sources(tmp_path):
    rows = [ROWS[0] + ",dataset", ROWS[1] + ",rosendahl", ROWS[2] + ",vidir_modern"]
    manifest = read(ham(tmp_path / "set", "\n".join(rows)))
    assert manifest.table["source"].tolist() == ["ham10000:rosendahl", "ham10000:vidir_modern"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n".join(row.rsplit(",", 1)[0] for row in ROWS), "no column 'localization'"),
        ("\n".join([*ROWS, "HAM_3,ISIC_3"]), "row 4: it has 2 values for 7 columns"),
        ("\n".join([*ROWS, "HAM_3,ISIC_3,nv,histo,1,male,back"]), "lists the image ISIC_3, which is not there"),
        ("\n".join([HEAD, "HAM_1,ISIC_1,,histo,50,male,back"]), "no image in its table has a label"),
    ],
)
def test_a_faulty_table_of_a_layout_is_one_sentence(tmp_path, text, words):
    with pytest.raises(NevusError, match=words):
        read(ham(tmp_path / "set", text))


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\xff\xfe\x00", b"\0\1\2" * 99, b"a;b;c\n", "käse\n".encode("latin-1")]
)
@pytest.mark.parametrize(
    "name", ["metadata.csv", "HAM10000_metadata.csv", "labels.csv", "train.csv", "fitzpatrick17k.csv"]
)
def test_recognition_of_a_layout_never_fails(tmp_path, content, name):
    """Class folders may have any table beside them."""
    images(tmp_path / "set", "benign/1.png", "malignant/2.png")
    (tmp_path / "set" / name).write_bytes(content)
    assert not any(archive.recognize(tmp_path / "set") for archive in ARCHIVES.values())
    assert read(tmp_path / "set").classes == ("benign", "malignant")


def test_a_recognized_layout_says_why(tmp_path, capsys):
    read(ham(tmp_path / "set", "\n".join(ROWS)))
    assert "has the table of ham10000 and is read as that" in " ".join(capsys.readouterr().err.split())
    images(tmp_path / "set", "mel/a.png", "nv/b.png")
    for part in (1, 2):
        for path in (tmp_path / "set" / f"HAM10000_images_part_{part}").iterdir():
            path.unlink()
        (tmp_path / "set" / f"HAM10000_images_part_{part}").rmdir()
    assert read(tmp_path / "set", DataConfig(layout="none")).classes == ("nv", "mel")


def test_masks_beside_images_are_not_taken_for_them(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "HAM10000_metadata.csv").write_text("\n".join(ROWS))
    images(folder, "GroundTruth/ISIC_1.png", "GroundTruth/ISIC_2.png", "images/ISIC_1.jpg", "images/ISIC_2.jpg")
    assert read(folder).table["image"].tolist() == ["images/ISIC_1.jpg", "images/ISIC_2.jpg"]


def test_two_files_of_an_id_are_refused(tmp_path):
    folder = ham(tmp_path / "set", "\n".join(ROWS))
    images(folder, "copies/ISIC_1.png")
    with pytest.raises(NevusError, match=r"ISIC_1\.(jpg|png) and .*ISIC_1\.(jpg|png) both fit"):
        read(folder)
    (tmp_path / "own.csv").write_text("image,label\nset/copies/ISIC_1,x\nset/both/a,y\n")
    images(tmp_path, "set/both/a.png", "set/both/a.jpg")
    with pytest.raises(NevusError, match=r"a\.jpg and a\.png both fit"):
        read(tmp_path / "own.csv")


def test_a_layout_whose_image_folder_is_a_link(tmp_path):
    folder = ham(tmp_path / "set", "\n".join(ROWS))
    (folder / "HAM10000_images_part_1").rename(tmp_path / "disk")
    (folder / "HAM10000_images_part_1").symlink_to(tmp_path / "disk")
    assert all(path.exists() for path in read(folder).paths)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("a", "a.JPG"),
        ("a.jpg", "a.JPG"),
        ("a.JPG", "a.jpg"),
        ("a", "a.Jpg"),
        ("sub\\a.jpg", "sub/a.jpg"),
        ("sub/a", "sub/a.PNG"),
        (unicodedata.normalize("NFC", "läsion.jpg"), unicodedata.normalize("NFD", "läsion.jpg")),
        (unicodedata.normalize("NFD", "läsion"), unicodedata.normalize("NFC", "läsion.JPG")),
    ],
)
@pytest.mark.parametrize("layout", [False, True])
def test_names_of_images_in_tables(tmp_path, written, stored, layout):
    images(tmp_path / "set", stored)
    if layout:
        (tmp_path / "set" / "HAM10000_metadata.csv").write_text(f"{HEAD}\nHAM_1,{written},nv,histo,50,male,back\n")
        manifest = read(tmp_path / "set")
    else:
        (tmp_path / "set" / "table.csv").write_text(f"image,label\n{written},x\n")
        manifest = read(tmp_path / "set" / "table.csv")
    assert manifest.paths[0].exists()
    assert manifest.table["image"][0] == stored


@pytest.mark.parametrize("missing", ["NaN", "nan", "NA", "None", "?", "n/a", "null", ""])
def test_missing_labels_are_left_out_and_listed(tmp_path, missing, capsys):
    images(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "t.csv").write_text(f"image,label\na.png,benign\nb.png,{missing}\nc.png,malignant\n")
    manifest = read(tmp_path / "t.csv")
    assert manifest.classes == ("benign", "malignant")
    assert manifest.table["image"].tolist() == ["a.png", "c.png"]
    assert manifest.left_out == (("b.png", f"no label: '{missing}'"),)
    assert "Left out of t: 1 (no label" in capsys.readouterr().err


def test_indeterminate_diagnoses_of_the_archive_are_listed(tmp_path):
    images(tmp_path / "set", "images/ISIC_1.jpg", "images/ISIC_2.jpg", "images/ISIC_3.jpg", "images/ISIC_4.jpg")
    (tmp_path / "set" / "metadata.csv").write_text(
        "isic_id,diagnosis_1\nISIC_1,Benign\nISIC_2,Malignant\nISIC_3,Indeterminate\nISIC_4,\n"
    )
    manifest = read(tmp_path / "set")
    assert len(manifest) == 2
    assert dict(manifest.left_out) == {"ISIC_3": "no definite label", "ISIC_4": "no definite label"}


@pytest.mark.parametrize(
    ("labels", "positive", "notice"),
    [
        (("1", "2"), "2", True),
        (("0", "1"), "1", True),
        (("yes", "no"), "yes", True),
        (("a", "b"), "b", True),
        (("gutartig", "bösartig"), "gutartig", True),
        (("benign", "malignant"), "malignant", False),
        (("nevus", "melanoma"), "melanoma", False),
    ],
)
def test_the_console_says_which_class_is_positive_where_labels_do_not(tmp_path, labels, positive, notice, capsys):
    images(tmp_path, "a.png", "b.png")
    (tmp_path / "t.csv").write_text(
        "image,label\n" + "".join(f"{n}.png,{x}\n" for n, x in zip("ab", labels, strict=True))
    )
    assert read(tmp_path / "t.csv").classes[1] == positive
    error = " ".join(capsys.readouterr().err.split())
    assert ("Choose with --positive" in error) == notice
    other = next(label for label in labels if label != positive)
    assert read(tmp_path / "t.csv", DataConfig(positive=other)).classes[1] == other
    assert not capsys.readouterr().err


def test_columns_of_a_file_that_is_no_table(tmp_path):
    assert csv_columns(None) == ()
    assert csv_columns(tmp_path / "missing") == ()
    (tmp_path / "t.csv").write_text('\ufeff"a b";c\n1;2\n', encoding="utf-8")
    assert csv_columns(tmp_path / "t.csv") == ("a b", "c")
    table, rows = read_csv(tmp_path / "t.csv")
    assert table.to_dict("list") == {"a b": ["1"], "c": ["2"]}
    assert rows == ["row 2"]


def test_the_readers_name_is_that_of_the_set():
    assert HAM10000.name in ARCHIVES


def test_labels_that_differ_in_case_only_are_refused(tmp_path):
    images(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "t.csv").write_text("image,label\na.png,Benign\nb.png,benign\nc.png,malignant\n")
    with pytest.raises(NevusError, match=r"'Benign' and 'benign' .* --labels Benign=benign"):
        read(tmp_path / "t.csv")
    assert read(tmp_path / "t.csv", DataConfig(labels=("Benign=benign",))).classes == ("benign", "malignant")


def test_an_image_that_a_layout_lists_twice_is_used_once(tmp_path, capsys):
    manifest = read(ham(tmp_path / "set", "\n".join([*ROWS, ROWS[1]])))
    assert len(manifest) == 2
    assert "lists 1 images twice" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(NevusError, match=r"ISIC_1\.jpg has label 'mel' here and 'nv' in row 1"):
        read(ham(tmp_path / "other", "\n".join([*ROWS, ROWS[1].replace("nv", "mel")])))


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("image,label\ra.png,x\rb.png,y\r", ["x", "y"]),  # line ends of old Macs
        ("image,label\r\na.png,x\r\nb.png,y\r\n", ["x", "y"]),
        ("image,label,\na.png,x,\nb.png,y,\n", ["x", "y"]),  # a column without a name
        (" image , label \n a.png , x \n b.png , y \n", ["x", "y"]),
        ('image,label,note\na.png,x,"two\nlines"\nb.png,y,z\n', ["x", "y"]),
        ('"image";"label"\n"a.png";"x;1"\n"b.png";"y"\n', ["x;1", "y"]),
        ("image\tlabel\na.png\tx,1\nb.png\ty\n", ["x,1", "y"]),
    ],
)
def test_texts_as_other_programs_write_them(tmp_path, text, labels):
    images(tmp_path, "a.png", "b.png")
    (tmp_path / "t.csv").write_bytes(text.encode())
    assert read(tmp_path / "t.csv").table["label"].tolist() == labels


def test_ids_keep_their_zeros_and_get_no_decimals(tmp_path):
    import pandas as pd

    images(tmp_path, "007.png", "08.png", "9.png")
    (tmp_path / "t.csv").write_text("image,label,group\n007,x,001\n08,y,01\n")
    table = read(tmp_path / "t.csv").table
    assert table["image"].tolist() == ["007.png", "08.png"]
    assert table["group"].tolist() == ["001", "01"]
    frame = pd.DataFrame({"image": ["007", "08", "9"], "label": list("xyx"), "lesion_id": [1.0, 2.0, None]})
    frame.to_parquet(tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet").table["group"].tolist() == ["1", "2", "9.png"]


def test_files_that_are_no_regular_files(tmp_path):
    import os

    from nevus.data.images import decode
    from nevus.errors import ImageError

    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    for name in ("fifo.jpg", "zero.jpg", "dangling.jpg"):
        with pytest.raises(ImageError, match=name):
            decode(tmp_path / name)


def test_pixels_without_a_known_range_are_named(tmp_path):
    from nevus.data.images import decode
    from nevus.errors import ImageError

    for name, values in (("float", np.random.default_rng(0).random((40, 40))), ("wide", np.full((40, 40), 70_000))):
        kind = np.float32 if name == "float" else np.int32
        Image.fromarray(values.astype(kind)).save(tmp_path / f"{name}.tif")
        with pytest.raises(ImageError, match="no known range: save it with 8 or 16 bits"):
            decode(tmp_path / f"{name}.tif")
