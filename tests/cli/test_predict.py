import csv
import io
import json

import numpy as np
import pytest

import nevus as package


@pytest.fixture
def folder(tmp_path, picture):
    (tmp_path / "images" / "b").mkdir(parents=True)
    for seed, name in enumerate(("10.png", "9.png", "b/1.jpg")):
        picture(40, 40, seed).save(tmp_path / "images" / name)
    (tmp_path / "images" / "bad.jpg").write_text("text")
    (tmp_path / "images" / "readme.txt").write_text("no image by its name")
    return tmp_path / "images"


def test_csv_rows_in_input_order_with_numbers(nevus, folder, bundle_folder):
    status, out, err = nevus("predict", folder / "9.png", folder, "--bundle", bundle_folder, "--format", "csv")
    assert status == 3
    assert "1 of 5 images could not be used" in err
    assert "Research use only" in err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["image", "label", "p_benign", "p_malignant", "error", "decision", "set", "flag"]
    names = [row["image"].removeprefix(str(folder) + "/") for row in rows]
    assert names == ["9.png", "10.png", "9.png", "bad.jpg", "b/1.jpg"]
    assert "is no JPEG" in rows[3]["error"]
    assert rows[3]["label"] == rows[3]["p_benign"] == ""
    good = [row for row in rows if not row["error"]]
    p = package.load(bundle_folder).predict_proba([row["image"] for row in good])
    assert np.allclose([[float(r["p_benign"]), float(r["p_malignant"])] for r in good], p, atol=1e-6)
    assert [r["label"] for r in good] == [("benign", "malignant")[i] for i in p.argmax(1)]


def test_json_is_one_array(nevus, folder, bundle_folder):
    status, out, _ = nevus("predict", folder, "--bundle", bundle_folder, "--format", "json")
    assert status == 3
    rows = json.loads(out)
    assert [set(row) for row in rows] == [set(package.load(bundle_folder).predict_frame([]).columns)] * 4
    assert all(isinstance(row["p_benign"], float) for row in rows if row["error"] is None)
    assert [row["p_benign"] for row in rows if row["error"]] == [None]


def test_table(nevus, folder, bundle_folder):
    status, out, _ = nevus("predict", folder, "--bundle", bundle_folder)
    assert status == 3
    lines = out.splitlines()
    assert lines[0].split() == ["decision", "p_benign", "p_malignant", "set", "image"]
    assert sum("bad.jpg" in line for line in lines) == 1
    assert len(lines) == 5


def test_both_engines_say_the_same(nevus, folder, bundle_folder):
    said = {}
    for engine in ("onnx", "openvino", "torch", "auto"):
        words = ["predict", folder, "--bundle", bundle_folder, "--format", "json", "--engine", engine]
        said[engine] = [row["p_malignant"] for row in json.loads(nevus(*words)[1]) if row["error"] is None]
    assert len(said["torch"]) == 3
    assert said["auto"] == said["onnx"]
    assert all(abs(a - b) < 1e-4 for a, b in zip(said["onnx"], said["torch"], strict=True))
    assert all(abs(a - b) < 1e-4 for a, b in zip(said["onnx"], said["openvino"], strict=True))


def test_to_a_file(nevus, folder, bundle_folder, tmp_path):
    target = tmp_path / "out" / "p.csv"
    arguments = ["predict", folder / "9.png", "--bundle", bundle_folder, "--format", "csv", "--out", target]
    status, out, _ = nevus(*arguments)
    assert (status, out) == (0, "")
    assert len(target.read_text().splitlines()) == 2
    assert [p.name for p in target.parent.iterdir()] == ["p.csv"]


def test_missing_files_and_empty_folders_are_rows(nevus, folder, bundle_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    arguments = ["predict", tmp_path / "no.png", tmp_path / "empty", folder / "9.png"]
    status, out, _ = nevus(*arguments, "--bundle", bundle_folder, "--format", "json")
    assert status == 3
    assert [row["error"] is None for row in json.loads(out)] == [False, False, True]


def test_nothing_to_do_and_no_bundle(nevus, tmp_path, folder, bundle_folder):
    assert nevus("predict", "--bundle", bundle_folder)[0] == 2
    status, _, err = nevus("predict", folder, "--bundle", tmp_path / "nowhere")
    assert status == 2
    assert "Cannot read the bundle" in err


def test_names_that_are_not_utf8(nevus, folder, bundle_folder):
    odd = folder / "b\udcff.png"
    (folder / "9.png").rename(odd)
    for form in ("csv", "json"):
        status, _, err = nevus("predict", odd, "--bundle", bundle_folder, "--format", form, "--out", folder / "o")
        assert status == 0, err
    assert json.loads((folder / "o").read_text())[0]["image"] == str(odd)


def test_an_image_is_not_written_over(nevus, folder, bundle_folder):
    before = (folder / "9.png").read_bytes()
    for target in (folder / "9.png", folder / "new.JPG"):
        status, _, err = nevus("predict", folder, "--bundle", bundle_folder, "--out", target)
        assert status == 2
        assert "by its name it is an image" in err
    assert (folder / "9.png").read_bytes() == before


def test_a_name_that_no_file_can_have_is_a_row(nevus, folder, bundle_folder):
    odd = "x" * 300 + ".jpg"
    status, out, _ = nevus("predict", odd, folder / "9.png", "--bundle", bundle_folder, "--format", "json")
    assert status == 3
    assert [row["error"] is None for row in json.loads(out)] == [False, True]


def test_weights_that_are_not_finite_are_one_sentence(nevus, folder, bundle_folder, tmp_path):
    from nevus.bundle.bundle import load_bundle, save_bundle

    bundle = load_bundle(bundle_folder)
    network = bundle.load_network()
    network.head.weight.data.fill_(float("nan"))
    save_bundle(bundle, tmp_path / "nan", network, "card", onnx=False)
    status, _, err = nevus("predict", folder / "9.png", "--bundle", tmp_path / "nan")
    assert status == 2
    assert "head.weight has values that are not finite" in err


@pytest.mark.long
def test_memory_stays_flat(bundle_folder, tmp_path, picture):
    """Private memory after 2,000 images is that after 200, give or take 40 MB."""
    import subprocess
    import sys

    picture(300, 300).save(tmp_path / "a.png")
    code = (
        "import sys, psutil, nevus\n"
        "c = nevus.load(sys.argv[1])\n"
        "for n, _ in enumerate(c.stream(sys.argv[2] for _ in range(2000))):\n"
        "    if n in (200, 1999): print(psutil.Process().memory_full_info().uss)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, bundle_folder, tmp_path / "a.png"], check=True, capture_output=True, text=True
    )
    early, late = map(int, done.stdout.split())
    assert late - early < 40e6
