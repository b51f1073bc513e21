import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

QUICK = ["--set", "tuning=full", "image_size=32", "batch_size=8", "steps=4", "warmup_steps=1", "eval_interval=2"]
QUICK += ["precision=fp32", "tta=none", "feature_stages=0"]


def test_the_whole_job(nevus, phantoms, tmp_path):
    run = tmp_path / "run"
    status, _, err = nevus("train", phantoms, "--out", run, *QUICK)
    assert status == 0, err
    assert "training accuracy" in err
    assert "gap" in err
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "test-set evaluation, once all choices are made: nevus evaluate" in err

    words = err.split("test-set evaluation, once all choices are made: nevus ")[1].split("\n")[0].split()
    status, out, err = nevus(*words)
    assert status == 0, err
    assert "accuracy" in out
    about = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert about["split"] == "test"
    assert len((run / "bundle" / "test_log.jsonl").read_text().splitlines()) == 1

    status, out, _ = nevus("predict", phantoms / "test", "--bundle", run / "bundle", "--format", "json")
    assert status == 0
    assert len(json.loads(out)) == about["n"]


def test_presets(nevus, phantoms, tmp_path):
    for name in ("best", "fast", "hyperrule", "paper"):
        arguments = ["--preset", name, "--tuning", "linear-probe", "--seed", 3]
        arguments += ["--set", "image_size=32", "steps=5", "batch_size=16"]
        status, _, err = nevus("train", phantoms, "--out", tmp_path / name, *arguments)
        assert status == 0, err
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert config["config"]["preset"] == name
        assert config["overrides"] == {"image_size": 32, "steps": 5, "batch_size": 16, "tuning": "linear-probe"}
        assert config["seed"] == 3


def test_a_dry_run_shows_every_preset_with_its_time(nevus, phantoms):
    status, out, err = nevus("train", phantoms, "--backbone", "bit-r26x0.5", "--dry-run", *QUICK)
    assert status == 0, err
    for words in ("best", "expected time here", "weight_decay", "lr_milestones"):
        assert words in out


def test_settings_of_a_file_and_flags_over_it(nevus, phantoms, tmp_path):
    (tmp_path / "s.toml").write_text('preset = "fast"\nseed = 4\n[overrides]\nimage_size = 32\nsteps = 5\n')
    words = ["train", phantoms, "--config", tmp_path / "s.toml", "--seed", 5, "--set", "steps=6"]
    status, _, err = nevus(*words, "--out", tmp_path / "run")
    assert status == 0, err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["config"]["preset"], config["seed"], config["config"]["steps"]) == ("fast", 5, 6)
    again = ["train", phantoms, "--config", tmp_path / "run" / "train.toml", "--out", tmp_path / "again"]
    assert nevus(*again)[0] == 0
    both = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("run", "again")]
    assert both[0] == both[1]
    (tmp_path / "s.toml").write_text("speed = 3\n")
    status, _, err = nevus(*words, "--out", tmp_path / "other")
    assert status == 2
    assert "no place for 'speed'" in one_sentence(err)


def test_labels_can_be_renamed(nevus, phantoms, tmp_path):
    words = ["--labels", "benign=nevus", "malignant=melanoma", "--positive", "melanoma"]
    status, _, err = nevus("train", phantoms, "--out", tmp_path / "run", *words, *QUICK)
    assert status == 0, err
    back = ["--labels", "benign=nevus", "malignant=melanoma"]
    bundle = tmp_path / "run" / "bundle"
    status, _out, err = nevus("evaluate", phantoms, "--bundle", bundle, "--out", tmp_path / "e", *back)
    assert status == 0, err
    status, _, err = nevus("evaluate", phantoms, "--bundle", bundle, "--out", tmp_path / "f", "--labels", "nv=nevus")
    assert status == 2
    assert "no image has it" in one_sentence(err)


def test_a_license_can_be_stated(nevus, class_folders, tmp_path):
    folder = class_folders({"a": 14, "b": 14})
    words = ["--weights-license", "CC BY 4.0 (our clinic)", "--backbone", "bit-r26x0.5", *QUICK]
    status, _, err = nevus("train", folder, "--out", tmp_path / "run", *words)
    assert status == 0, err
    assert "license of the weights: CC BY 4.0 (our clinic)" in err


def test_help_shows_at_most_fifteen_flags(nevus):
    from nevus.cli._help import visible_flags
    from nevus.cli.train import Command

    assert len(visible_flags(Command)) <= 15
    out = nevus("train", "--help")[1]
    for title in ("Data", "Model", "Optimization", "Output"):
        assert f"\n{title}\n" in out
    assert "--cache.folder" not in out
    every = nevus("train", "--help-all")[1]
    assert "--cache.folder" in every
    assert "label_smoothing" in every


def test_a_run_in_the_way_and_resume(nevus, phantoms, tmp_path):
    assert nevus("train", phantoms, "--out", tmp_path / "run", *QUICK)[0] == 0
    status, _, err = nevus("train", phantoms, "--out", tmp_path / "run", *QUICK)
    assert status == 2
    assert "holds a run already. Add --resume" in err
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
        ({}, "has no images in class folders"),
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
        words = ["--backbone", "bit-r26x0.5", *QUICK]
        assert nevus("train", SMALL_SET, "--out", tmp_path / "run", *words)[0] == 0  # all is imported now
        with unprivileged():
            status, _, err = nevus("train", SMALL_SET, "--out", outside / "run", *words)
        assert status == 2
        assert "Cannot write into" in one_sentence(err)
    finally:
        outside.chmod(0o755)
        shutil.rmtree(outside)


SMALL_SET = Path(tempfile.gettempdir()) / f"nevus-small-set-{os.getpid()}"


@pytest.fixture(autouse=True, scope="module")
def small_set():
    """A set that every user may read, since pytest's folders are its owner's."""
    from nevus.phantoms.dataset import PhantomConfig, write

    write(PhantomConfig(n=40, image_size=32), SMALL_SET, workers=1)
    yield
    shutil.rmtree(SMALL_SET)


def test_a_loss_that_is_not_finite(nevus, phantoms, tmp_path):
    status, _, err = nevus(
        "train", phantoms, "--out", tmp_path / "run", *QUICK, "--set", "lr=1e30", "--set", "clip_grad_norm=0"
    )
    assert status == 2
    assert "the loss is" in one_sentence(err)
    assert "Lower lr" in err


def test_numbers_that_make_no_sense(nevus, phantoms, tmp_path):
    cases = {"--seed": ("--seed", -1), "--split-seed": ("--split-seed", -1), "--epochs": ("--epochs", "nan")}
    cases |= {"epochs": ("--epochs", -1), "lr": ("--set", "lr=nan"), "no number": ("--set", "lr=three")}
    cases |= {"Did you mean batch_size": ("--set", "batchsize=3")}
    for words, flags in cases.items():
        status, _, err = nevus("train", phantoms, "--out", tmp_path / "run", *flags)
        assert status == 2, flags
        assert words in one_sentence(err).replace("give a number", "no number")


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
    assert out.splitlines()[0] == "image,label,p_benigne Läsion,p_maligne Läsion ☠,error,decision,set,flag"
