import numpy as np
import pandas as pd
import pytest

from nevus.data.readers.dispatch import DataConfig, read
from nevus.errors import NevusError


def test_class_folders(class_folders):
    folder = class_folders({"nevus": 3, "melanoma": 2})
    (folder / "nevus" / "notes.txt").write_text("no image")
    (folder / "nevus" / ".hidden.png").write_bytes(b"")
    (folder / ".git").mkdir()
    manifest = read(folder)
    assert manifest.classes == ("nevus", "melanoma")
    assert manifest.table["label"].value_counts().to_dict() == {"nevus": 3, "melanoma": 2}
    assert manifest.splits() == ()
    assert all(path.is_file() for path in manifest.paths)
    assert manifest.table["group"].is_unique


@pytest.mark.parametrize(("name", "split"), [("Train", "train"), ("val", "validation"), ("testing", "test")])
def test_split_folders_are_known_by_the_usual_names(class_folders, name, split):
    folder = class_folders({"a": 1, "b": 1}, f"set/{name}")
    assert read(folder.parent).splits() == (split,)


def test_images_at_any_depth(tmp_path, picture):
    deep = tmp_path / "set" / "a" / "patient 1" / "Läsion" / ("x" * 200)
    deep.mkdir(parents=True)
    picture().save(deep / "ß ü.png")
    (tmp_path / "set" / "b").mkdir()
    picture().save(tmp_path / "set" / "b" / "1.PNG")
    assert len(read(tmp_path / "set")) == 2


def test_the_real_set_has_the_paper_s_counts(real):
    counts = read(real / "isic-malignant-benign").counts()
    assert counts.loc["train"].to_dict() == {"benign": 1440, "malignant": 1197}
    assert counts.loc["test"].to_dict() == {"benign": 360, "malignant": 300}


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(NevusError, match="does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(NevusError, match="has no images in class folders"):
        read(tmp_path)
    with pytest.raises(NevusError, match="it is a folder. Leave them out"):
        read(tmp_path, DataConfig(columns=("image=x",)))


@pytest.fixture
def images(tmp_path, picture):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "abcd":
        picture().save(folder / f"{name}.png")
    return folder


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "lesions.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_csv_with_bom_other_separator_and_mapping(tmp_path, images):
    path = write(tmp_path, "file;dx;lesion\r\na.png;nv;L1\r\nb;mel;L1\r\n\r\nc.png;nv;\r\n", "utf-8-sig")
    config = DataConfig(images=images, columns=("image=file", "label=dx", "group=lesion"), positive="mel")
    manifest = read(path, config)
    assert manifest.table["image"].tolist() == ["a.png", "b.png", "c.png"]
    assert manifest.table["group"].tolist() == ["L1", "L1", "c.png"]
    assert manifest.classes == ("nv", "mel")


def test_patient_is_the_group_where_none_is_named(tmp_path, images):
    path = write(tmp_path, "image,label,lesion_id,patient_id\na.png,x,L1,P1\nb.png,y,L2,P1\n")
    assert read(path, DataConfig(images=images)).table["group"].tolist() == ["P1", "P1"]


def test_parquet(tmp_path, images):
    frame = pd.DataFrame({"image": ["a.png", "b.png"], "label": ["x", "y"], "age_approx": [40.0, np.nan]})
    frame.to_parquet(tmp_path / "t.parquet")
    manifest = read(tmp_path / "t.parquet", DataConfig(images=images))
    assert manifest.table["age_approx"][0] == 40
    (tmp_path / "t.parquet").write_text("no parquet")
    with pytest.raises(NevusError, match="Cannot read .* as Parquet"):
        read(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,diagnosis\na.png,x\n", "has no column 'label' .it has: image, diagnosis.. Name it"),
        ("image,label\na.png,x\nb.png\n", "row 3: it has 1 values for 2 columns"),
        ("image,label\na.png,?\nb.png,\n", "no row has a label"),
        ("image,label\na.png,x\na.png,y\n", "row 3: the image a.png has label 'y' here and 'x' in row 2"),
        ("image,label\n../lesions.csv,x\n", "row 2: the path ../lesions.csv leaves the folder"),
        ("image,label\n/etc/passwd,x\n", "row 2: the path /etc/passwd leaves the folder"),
        ("image,label\nq.png,x\nr.png,y\n", "lists 2 images and none is in"),
        ("image,label,split\na.png,x,maybe\n", "row 2, column 'split': 'maybe' is none of the values allowed"),
        ("image,label,group\n\n\na.png,x,g\n,y,g\n", "row 5, column 'image': is empty"),
        ("image,label\na.png,x\n./a.png,y\n", "row 3: the image a.png has label 'y' here and 'x' in row 2"),
        ("image,label\na.png,x\na,y\n", "row 3: the image a.png has label 'y' here and 'x' in row 2"),
        ("image,label,label\na.png,x,y\n", "has two columns 'label'"),
        ("image,label\na.png," + "x" * 200_000 + "\n", "field larger than field limit"),
        ("image,label\n" + "n" * 300 + ".png,x\n", "none is in"),
        ("image,label\na\0.png,x\n", "none is in|line contains NUL"),
        ("image,label\n", "has no rows"),
        ("", "is empty"),
    ],
)
def test_faulty_csv_gets_one_sentence(tmp_path, images, text, words):
    with pytest.raises(NevusError, match=words) as caught:
        read(write(tmp_path, text), DataConfig(images=images))
    assert "\n" not in str(caught.value)
    assert "lesions.csv" in str(caught.value)


def test_a_csv_that_is_not_utf8_is_read_as_windows_text(tmp_path, picture, capsys):
    picture().save(tmp_path / "ä.png")
    manifest = read(write(tmp_path, "image,label\nä.png,Nävus\n", "latin-1"))
    assert manifest.table["label"].tolist() == ["Nävus"]
    assert manifest.paths[0].exists()
    assert "is read as Windows-1252" in capsys.readouterr().err


def test_a_csv_of_a_spreadsheet_in_utf16(tmp_path, picture):
    picture().save(tmp_path / "a.png")
    assert read(write(tmp_path, "image\tlabel\na.png\tx\n", "utf-16")).classes == ("x",)


def test_a_mapping_to_a_column_that_is_not_there(tmp_path, images):
    path = write(tmp_path, "image,label\na.png,x\n")
    with pytest.raises(NevusError, match=r"has no column 'dx' .it has: image, label.. Correct --columns label=dx"):
        read(path, DataConfig(images=images, columns=("label=dx",)))
    with pytest.raises(NevusError, match="not of the form name=column"):
        read(path, DataConfig(images=images, columns=("label",)))


def test_duplicate_rows_are_used_once_and_told(tmp_path, images, capsys):
    path = write(tmp_path, "image,label\na.png,x\nb.png,y\na.png,x\n")
    assert len(read(path, DataConfig(images=images))) == 2
    assert "lists 1 images twice (first in row 4)" in capsys.readouterr().err


def test_a_manifest_in_the_folder_is_read_first(phantoms):
    manifest = read(phantoms)
    assert manifest.name == "set"
    assert manifest.table["group"].nunique() < len(manifest)
    assert {"asymmetry", "border", "colors", "structures", "chance"} <= set(manifest.table.columns)


def test_each_row_has_the_widest_group_that_is_known_of_it(tmp_path, images):
    path = write(tmp_path, "image,label,patient_id,lesion_id\na.png,x,P1,L1\nb.png,y,,L2\nc.png,y,,L2\nd.png,x,,\n")
    assert read(path, DataConfig(images=images)).table["group"].tolist() == ["P1", "L2", "L2", "d.png"]


def test_columns_without_a_name_are_left_out(tmp_path, images):
    path = write(tmp_path, "image,label,,\na.png,x,,\nb.png,y,,\n")
    assert list(read(path, DataConfig(images=images)).table.columns) == [
        "image",
        "label",
        "group",
        "split",
        "source",
    ]


def test_odd_line_ends_inside_a_cell(tmp_path, images):
    path = write(tmp_path, 'image,label,note\na.png,x,"one\u2028two\x0bthree"\nb.png,y,"a\nb"\n')
    assert len(read(path, DataConfig(images=images))) == 2


def test_links_are_followed_by_the_path_as_it_is_written(tmp_path, images, class_folders):
    folder = tmp_path / "links"
    for label in ("x", "y"):
        (folder / label).mkdir(parents=True)
        (folder / label / "1.png").symlink_to(images / "a.png")
    manifest = read(folder)
    manifest.save(tmp_path / "m.parquet")
    assert read(tmp_path / "m.parquet").table.equals(manifest.table)


def test_names_that_are_not_utf8_are_left_out_and_told(class_folders, capsys):
    folder = class_folders({"a": 2, "b": 2})
    (folder / "a" / "000.png").rename(folder / "a" / "b\udcff.png")
    assert len(read(folder)) == 3
    assert "its name is not UTF-8" in capsys.readouterr().err
