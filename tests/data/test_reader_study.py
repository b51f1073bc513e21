import numpy as np
import pandas as pd
import pytest

from nevus.data.manifest import Manifest
from nevus.data.reader_study import read_reader_study
from nevus.errors import NevusError


@pytest.fixture
def manifest(tmp_path):
    images = ["a/1.jpg", "a/2.jpg", "b/2.jpg", "b/3.png"]
    columns = {"label": ["benign", "malignant"] * 2, "group": images, "split": "test", "source": "x"}
    return Manifest(pd.DataFrame({"image": images, **columns}), tmp_path, ("benign", "malignant"), "set")


def read(tmp_path, manifest, text):
    (tmp_path / "readers.csv").write_text(text)
    return read_reader_study(tmp_path / "readers.csv", manifest)


def test_decisions_are_found_by_path_file_name_and_stem(tmp_path, manifest):
    text = """reader,image,decision
B,1,benign
A,a/1.jpg,Malignant
A,3.png,benign
A,unknown.jpg,benign
A,2.jpg,benign
"""
    found = read(tmp_path, manifest, text)
    assert [one.name for one in found] == ["A", "B"]
    assert found[0].rows.tolist() == [0, 3]  # 2.jpg is the name of two images
    assert found[0].decisions.tolist() == [1, 0]
    assert found[1].rows.tolist() == [0]
    assert found[1].decisions.tolist() == [0]


def test_results_alone_are_read(tmp_path, manifest):
    (one,) = read(tmp_path, manifest, "reader;sensitivity;specificity\nmean;0.741;0.6\n")
    assert (one.name, one.sensitivity, one.specificity) == ("mean", 0.741, 0.6)
    assert one.rows.dtype == np.int64
    assert len(one.rows) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reader,image\nA,1\n", "neither the columns reader, image, decision nor reader, sensitivity, specificity"),
        ("reader,image,decision\nA,1,mole\n", "row 2: the decision 'mole' is none of the classes benign, malignant"),
        ("reader,image,decision\nA,1,benign\nA,a/1.jpg,benign\n", "row 3: reader A decides on a/1.jpg twice"),
        ("reader,image,decision\nA,9,benign\n", "none of its images is one of set"),
        ("reader,image,decision\n,1,benign\n", "row 2: it names no reader"),
        ("reader,sensitivity,specificity\n,0.7,0.6\n", "row 2: it names no reader"),
        ("reader,sensitivity,specificity\nA,0.7,0.6\nA,0.8,0.5\n", "reader A has two rows"),
        ("reader,sensitivity,specificity\nA,74,60\n", "row 2: the sensitivity '74' is no number from 0 to 1"),
        ("reader,sensitivity,specificity\nA,0.7,high\n", "the specificity 'high' is no number from 0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, manifest, text, message):
    with pytest.raises(NevusError, match=message):
        read(tmp_path, manifest, text)
