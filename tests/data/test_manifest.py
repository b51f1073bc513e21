from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nevus.data.manifest import Manifest, checked, ordered_classes
from nevus.data.readers.dispatch import read
from nevus.errors import NevusError


def table(**columns):
    n = max(len(v) for v in columns.values())
    rows = {
        "image": [f"{i}.jpg" for i in range(n)],
        "label": ["a", "b"] * n,
        "group": [f"g{i}" for i in range(n)],
        "split": [""] * n,
        "source": ["s"] * n,
    }
    rows = {key: value[:n] for key, value in rows.items()}
    return pd.DataFrame({**rows, **columns})


def test_faults_name_row_and_column():
    with pytest.raises(NevusError) as caught:
        checked(table(label=["a", "", "b"], split=["train", "train", "holdout"]), name="t.csv")
    assert "row 2, column 'label': is empty" in str(caught.value)
    assert "row 3, column 'split': 'holdout' is none of the values allowed" in str(caught.value)


def test_isic_columns_are_checked():
    with pytest.raises(NevusError, match=r"row 2, column 'age_approx': '200.0' is out of range"):
        checked(table(age_approx=[30.0, 200.0]), name="t.csv")
    with pytest.raises(NevusError, match=r"row 2, column 'age_approx': 'old' is no number"):
        checked(table(age_approx=["30", "old"]), name="t.csv")
    with pytest.raises(NevusError, match=r"row 1, column 'fitzpatrick_skin_type': 'VII'"):
        checked(table(fitzpatrick_skin_type=["VII", None]), name="t.csv")
    good = checked(table(age_approx=["30", None], fitzpatrick_skin_type=["I", None]), name="t.csv")
    assert good["age_approx"][0] == 30


def test_many_faults_are_counted():
    with pytest.raises(NevusError, match="and 7 more faults"):
        checked(table(label=[""] * 10), name="t.csv")


def test_round_trip(tmp_path):
    made = Manifest(checked(table(label=["a", "b", "a"]), name="t"), tmp_path, ("b", "a"), "skin")
    for name in ("a.jpg", "0.jpg", "1.jpg", "2.jpg"):
        (tmp_path / name).touch()
    made.save(tmp_path / "elsewhere" / "t.parquet")
    again = read(tmp_path / "elsewhere" / "t.parquet")
    assert again.table.equals(made.table)
    assert (again.classes, again.name, again.digest) == (made.classes, "skin", made.digest)
    assert again.root == tmp_path.absolute()


@given(st.permutations(range(6)))
def test_digest_does_not_depend_on_row_order(order):
    whole = table(label=list("abcabc"))
    one = Manifest(whole, Path(), ("a", "b", "c"), "s")
    other = Manifest(whole.iloc[list(order)], Path(), ("a", "b", "c"), "s")
    assert one.digest == other.digest


@pytest.mark.parametrize("column", ["image", "label", "group", "split", "source"])
def test_digest_depends_on_every_column_that_matters(column):
    whole = table(label=["a", "b"])
    changed = whole.copy()
    changed.loc[0, column] = "other"
    assert Manifest(whole, Path(), (), "s").digest != Manifest(changed, Path(), (), "s").digest


def test_positive_class_is_last_of_two():
    assert ordered_classes(["malignant", "benign"]) == ("benign", "malignant")
    assert ordered_classes(["melanoma", "nevus"]) == ("nevus", "melanoma")
    assert ordered_classes(["x", "y"]) == ("x", "y")
    assert ordered_classes(["x", "y"], positive="x") == ("y", "x")
    assert ordered_classes(["nv", "mel", "bcc"]) == ("bcc", "mel", "nv")
    with pytest.raises(NevusError, match="no image has this label"):
        ordered_classes(["x", "y"], positive="z")


def test_targets_follow_the_classes_and_name_an_unknown_label():
    made = Manifest(table(label=["a", "b", "c"]), Path(), ("b", "a"), "s")
    with pytest.raises(NevusError, match=r"s: the label 'c' of 2.jpg is none of the classes b, a"):
        _ = made.targets
    assert made.with_classes(("c", "b", "a")).targets.tolist() == [2, 1, 0]


def test_a_missing_split_is_told():
    made = Manifest(table(split=["train", "test"]), Path(), ("a", "b"), "s")
    assert len(made.split("test")) == 1
    assert len(made.split("all")) == 2
    with pytest.raises(NevusError, match="has no split 'validation'"):
        made.split("validation")
