import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

QUICK = ["--side=32", "--batch=8", "--steps=4", "--warmup=1", "--evaluate-every=2", "--precision=fp32"]


def test_the_whole_job(nevus, phantoms, tmp_path):
    run = tmp_path / "run"
    status, _, err = nevus("train", phantoms, "--out", run, *QUICK)
    assert status == 0, err
    assert "training accuracy" in err
    assert "gap" in err
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "once you are done choosing: nevus evaluate" in err

    words = err.split("once you are done choosing: nevus ")[1].split("\n")[0].split()
    status, out, err = nevus(*words)
    assert status == 0, err
    assert "accuracy" in out
    about = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert about["split"] == "test"
    assert len((run / "bundle" / "evaluations.jsonl").read_text().splitlines()) == 1

    status, out, _ = nevus("predict", phantoms / "test", "--bundle", run / "bundle", "--format", "json")
    assert status == 0
    assert len(json.loads(out)) == about["n"]


def test_head_mode_and_recipes(nevus, phantoms, tmp_path):
    for name in ("default", "hyperrule", "paper"):
        arguments = ["--mode", "head", "--recipe", name, "--side", 32, "--steps", 5, "--batch", 16, "--seed", 3]
        status, _, err = nevus("train", phantoms, "--out", tmp_path / name, *arguments)
        assert status == 0, err
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert config["recipe"]["name"] == name
        assert config["changes"] == {"side": 32, "steps": 5, "batch": 16}
        assert config["seed"] == 3


def test_a_run_in_the_way_and_resume(nevus, phantoms, tmp_path):
    assert nevus("train", phantoms, "--out", tmp_path / "run", *QUICK)[0] == 0
    status, _, err = nevus("train", phantoms, "--out", tmp_path / "run", *QUICK)
    assert status == 2
    assert "holds a run already; add --resume" in err
    assert nevus("train", phantoms, "--out", tmp_path / "run", *QUICK, "--resume")[0] == 0
    status, _, err = nevus("train", phantoms, "--out", tmp_path / "run", *QUICK, "--resume", "--seed", 9)
    assert status == 2
    assert "seed was 0, is 9" in err


def one_sentence(err):
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("nevus:")]
    assert len(lines) == 1, err
    return lines[0]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, "holds no images in class folders"),
        ({"a": 20}, "has one class only"),
        ({"a": 40, "b": 1}, "the class 'b' has 1 independent images"),
    ],
)
def test_folders_that_cannot_be_trained_on(nevus, class_folders, tmp_path, counts, words):
    (tmp_path / "set").mkdir(exist_ok=True)
    folder = class_folders(counts)
    status, _, err = nevus("train", folder, "--out", tmp_path / "run", *QUICK)
    assert status == 2
    assert words in one_sentence(err)
    assert not (tmp_path / "run" / "config.json").exists()


def test_missing_data(nevus, tmp_path):
    status, _, err = nevus("train", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert status == 2
    assert "does not exist" in one_sentence(err)


@contextlib.contextmanager
def unprivileged():
    """Be a user whom permissions bind, as root is bound by none.

    A checkout may be private to its owner: what is to be imported or read from it must have been before.
    """
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_output_folder(nevus, tmp_path):
    # not below pytest's own folder, which only its owner may enter
    outside = Path(tempfile.mkdtemp())
    try:
        outside.chmod(0o555)
        # Random weights: the package's own lie in this checkout, which may be private to its owner.
        words = ["--trunk", "bit-r26x0.5", *QUICK]
        assert nevus("train", SMALL_SET, "--out", tmp_path / "run", *words)[0] == 0  # all is imported now
        with unprivileged():
            status, _, err = nevus("train", SMALL_SET, "--out", outside / "run", *words)
        assert status == 2
        assert "cannot be written" in one_sentence(err)
    finally:
        outside.chmod(0o755)
        shutil.rmtree(outside)


SMALL_SET = Path(tempfile.gettempdir()) / f"nevus-small-set-{os.getpid()}"


@pytest.fixture(autouse=True, scope="module")
def small_set():
    """A set that every user may read, since pytest's folders are its owner's."""
    from nevus.phantoms.dataset import PhantomConfig, write

    write(PhantomConfig(n=40, side=32), SMALL_SET, workers=1)
    yield
    shutil.rmtree(SMALL_SET)


def test_a_loss_that_is_not_finite(nevus, phantoms, tmp_path):
    status, _, err = nevus("train", phantoms, "--out", tmp_path / "run", *QUICK, "--lr", "1e30", "--clip", "0")
    assert status == 2
    assert "the loss is" in one_sentence(err)
    assert "lower the learning rate" in err


def test_numbers_that_make_no_sense(nevus, phantoms, tmp_path):
    for flags in (["--seed", -1], ["--split.seed", -1], ["--epochs", "nan"], ["--epochs", -1], ["--lr", "nan"]):
        status, _, err = nevus("train", phantoms, "--out", tmp_path / "run", *flags)
        assert status == 2, flags
        assert flags[0] in one_sentence(err)


def test_an_image_bomb_in_the_training_set_is_left_out(nevus, class_folders, tmp_path):
    from PIL import Image

    folder = class_folders({"a": 12, "b": 12})
    Image.new("1", (20_000, 20_000)).save(folder / "a" / "bomb.png")
    status, _, err = nevus("train", folder, "--out", tmp_path / "run", *QUICK)
    assert status == 0, err
    assert "bomb.png" in (tmp_path / "run" / "skipped.txt").read_text()


def test_a_csv_with_a_mapping(nevus, phantoms, tmp_path):
    import pandas as pd

    table = pd.read_csv(phantoms / "manifest.csv")[["image", "label", "group"]]
    table.columns = ["datei", "diagnose", "läsion"]
    table.to_csv(tmp_path / "lesions.csv", index=False, sep=";", encoding="utf-8-sig")
    columns = ["--columns", "image=datei", "label=diagnose", "group=läsion"]
    status, _, err = nevus(
        "train", tmp_path / "lesions.csv", "--images", phantoms, *columns, "--out", tmp_path / "run", *QUICK
    )
    assert status == 0, err
    status, _, err = nevus("train", tmp_path / "lesions.csv", "--images", phantoms, "--out", tmp_path / "other")
    assert status == 2
    assert "has no column 'image'" in one_sentence(err)


def test_non_ascii_and_very_long_paths(nevus, class_folders, tmp_path):
    folder = class_folders({"benigne Läsion": 12, "maligne Läsion ☠": 12})
    deep = tmp_path / ("ö" * 100) / ("x" * 200) / "set"
    deep.parent.mkdir(parents=True)
    folder.rename(deep)
    status, _, err = nevus("train", deep, "--out", tmp_path / "run ü", *QUICK)
    assert status == 0, err
    status, out, _ = nevus("predict", deep, "--bundle", tmp_path / "run ü" / "bundle", "--format", "csv")
    assert status == 0
    assert out.splitlines()[0] == "image,label,p_benigne Läsion,p_maligne Läsion ☠,error"
