"""Hostile names, odd environments, threads and full disks."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from nevus._progress import console, ignored_warnings, silenced
from nevus.auditing.duplicates import descriptors as descriptors_module
from nevus.bundle.bundle import load_bundle
from nevus.cli.main import main
from nevus.data.quality import image_issue
from nevus.errors import ImageError, NevusError, printable
from nevus.models.checkpoint import read_backbone, save_backbone
from nevus.models.model import build_backbone
from nevus.models.npz import read_npz

QUICK = ["--no-check-duplicates", "--preset", "fast", "--set", "image_size=32", "steps=2"]
EVIL = "a\x1b[31m\nmalignant  0.99.png"


def test_control_characters_of_names_are_escaped_everywhere(picture, tmp_path, capsys):
    picture().save(tmp_path / EVIL)
    (tmp_path / ("bad" + EVIL)).write_bytes(b"x")
    assert main(["predict", str(tmp_path)]) == 3
    out, error = capsys.readouterr()
    for text in (out, error):
        assert "\x1b" not in text
    rows = [line for line in out.splitlines() if "a\\x1b[31m\\nmalignant" in line]
    assert len(rows) == 2
    assert not any(line.startswith("malignant  0.99") for line in out.splitlines())
    assert "\x1b" not in str(ImageError(EVIL))


def test_printable_text_is_unchanged():
    for text in ("Läsion 3 (ok).jpg", "日本語", "a\u00a0b"):
        assert printable(text) == text
    assert printable("a\u202eb") == "a\\u202eb"  # right-to-left override
    assert printable("a\udcff") == "a\\udcff"


def test_a_silent_thread_does_not_silence_others(capsys):
    inside, done = threading.Event(), threading.Event()

    def work():
        with silenced():
            console.print("hidden")
            inside.set()
            done.wait(10)

    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(work)
        inside.wait(10)
        console.print("shown")
        done.set()
        job.result()
    console.print("after")
    error = capsys.readouterr().err
    assert "hidden" not in error
    assert "shown" in error
    assert "after" in error


def test_warning_filters_are_restored_whatever_threads_do():
    import warnings

    before = list(warnings.filters)

    def work(_):
        for _ in range(200):
            with ignored_warnings():
                warnings.warn("nobody sees this", stacklevel=1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert warnings.filters == before


def test_a_user_id_without_name_and_home(phantoms, tmp_path):
    """As in a container that was started with another user id."""
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "USER", "LOGNAME", "NEVUS_CACHE")}
    code = (
        "import pwd, sys\n"
        "def unknown(_):\n"
        "    raise KeyError('getpwuid(): uid not found')\n"
        "pwd.getpwuid = unknown\n"
        "from nevus.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    for words in (["models"], ["train", phantoms, "--out", tmp_path / "run", *QUICK]):
        command = [sys.executable, "-c", code, *map(str, words)]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_weights_that_are_not_finite_are_refused(tmp_path, phantoms):
    network = build_backbone("bit-r26x0.5", classes=0, seed=0)
    with torch.no_grad():
        network.stem.conv.weight[0, 0, 0, 0] = float("nan")
    save_backbone(network, tmp_path / "nan.safetensors", {}, half=False)
    with pytest.raises(NevusError, match=r"nan\.safetensors': stem\.conv\.weight has values that are not finite"):
        read_backbone(tmp_path / "nan.safetensors")


def test_a_web_page_in_place_of_weights(tmp_path):
    (tmp_path / "w.npz").write_bytes(b"<!doctype html><html>404</html>")
    with pytest.raises(NevusError, match="it is a web page, as a failed download leaves"):
        read_npz(tmp_path / "w.npz")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--method", "bit-bn", "--set", "batch_size=1"], "too few for batch normalization"),
        (["--method", "bit-bn", "--set", "batch_size=9", "micro_batch_size=4"], "too few for batch normalization"),
        (["--backbone", "timm/inception_v3"], "Cannot train this network at image_size=32"),
    ],
)
def test_sizes_that_a_network_cannot_take_are_one_sentence(phantoms, tmp_path, capsys, words, reason):
    command = ["train", str(phantoms), "--out", str(tmp_path / "run"), "--no-check-duplicates", "--tuning", "full"]
    own = [word for word in words if word != "--set" and "=" not in word]
    changes = ["--set", "image_size=32", "steps=2", *(word for word in words if "=" in word)]
    assert main([*command, *own, "--weights", "random", *changes]) == 2
    error = capsys.readouterr().err
    assert reason in " ".join(error.split())
    assert "Traceback" not in error


def test_resuming_with_replaced_images_is_refused(class_folders, picture, tmp_path, capsys):
    folder = class_folders({"benign": 20, "malignant": 20})
    command = ["train", str(folder), "--out", str(tmp_path / "run"), *QUICK]
    assert main(command) == 0
    (tmp_path / "run" / "bundle" / "config.json").rename(tmp_path / "config.json")
    import shutil

    shutil.rmtree(tmp_path / "run" / "bundle")
    capsys.readouterr()
    row = (tmp_path / "run" / "images.sha256").read_text().splitlines()[0].partition("  ")[2]
    picture(40, 40, 7).save(folder / row)
    assert main([*command, "--resume"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "1 images were replaced since it began" in error
    assert row in error


def test_the_bundle_names_the_positive_class(class_folders, tmp_path):
    folder = class_folders({"1": 20, "2": 20})
    assert main(["train", str(folder), "--positive", "1", "--out", str(tmp_path / "run"), *QUICK]) == 0
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert bundle.classes == ("2", "1")
    assert json.loads((tmp_path / "run" / "bundle" / "config.json").read_text())
    assert bundle.provenance["data"]["positive_class"] == "1"
    assert "positive class: 1" in (tmp_path / "run" / "bundle" / "README.md").read_text()


def test_the_audit_flags_black_images_and_large_flat_regions(picture):
    pixels = np.array(picture(160, 160))
    assert image_issue(pixels) == ""
    assert image_issue((pixels // 16).astype(np.uint8)) == "nearly black"
    half = pixels.copy()
    half[80:] = 128
    assert image_issue(half).startswith("a large flat region")
    for value in (0, 255):  # a black or white frame is no damage
        framed = np.full((200, 200, 3), value, np.uint8)
        framed[20:180, 20:180] = pixels
        assert "flat" not in image_issue(framed)


def test_a_full_disk_under_the_descriptors_is_one_sentence(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(descriptors_module.os, "posix_fallocate", full)
    with pytest.raises(NevusError, match="No space left on device .1 MB are needed"):
        descriptors_module._allocated(tmp_path / "d", (1000, 1000))


def test_the_estimator_takes_paths_in_any_container(class_folders, tmp_path):
    import copy
    import pickle

    import pandas as pd
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import cross_val_score

    from nevus import load
    from nevus.sklearn import BiTClassifier

    folder = class_folders({"benign": 16, "malignant": 16})
    paths = sorted(str(path) for path in folder.rglob("*.png"))
    y = np.array([Path(path).parent.name for path in paths])
    overrides = {"tta": "none", "feature_stages": 0}
    quick = BiTClassifier(
        "bit-r26x0.5-generic", preset="fast", image_size=32, steps=2, overrides=overrides, validation_fraction=0.3
    )
    containers = {
        "list": paths,
        "array": np.array(paths),
        "objects": np.array([Path(path) for path in paths], object),
        "column": pd.Series(paths),
        "tuple": tuple(paths),
    }
    expected = quick.fit(paths, y).predict_proba(paths)
    for name, X in containers.items():
        assert np.array_equal(quick.predict_proba(X), expected), name
        assert 0 <= quick.score(X, y) <= 1
    for name in ("objects", "column"):
        fitted = BiTClassifier(**quick.get_params()).fit(containers[name], y)
        assert np.array_equal(fitted.predict_proba(paths), expected), name
    assert len(cross_val_score(quick, np.array(paths), y, cv=2)) == 2
    for copied in (pickle.loads(pickle.dumps(quick)), copy.deepcopy(quick)):
        assert np.array_equal(copied.predict_proba(np.array(paths)), expected)
    quick.save(tmp_path / "bundle")
    classifier = load(tmp_path / "bundle")
    for X in containers.values():
        assert np.allclose(classifier.predict_proba(X)[:, 1], expected[:, 1], atol=1e-6)
    calibrated = CalibratedClassifierCV(quick, cv=2, n_jobs=2).fit(np.array(paths), y)
    assert calibrated.predict_proba(np.array(paths)).shape == (32, 2)
