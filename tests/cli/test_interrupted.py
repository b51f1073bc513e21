"""Killed, terminated, out of space: nothing is lost, and the end is the same, bit for bit."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.processes import nevus

from nevus.bundle.bundle import load_bundle

QUICK = ["--set", "image_size=32", "batch_size=8", "steps=30", "warmup_steps=2", "eval_interval=2", "precision=fp32"]
QUICK += ["tta=none", "feature_stages=0"]


def words(data, out, mode):
    return ["train", data, "--out", out, "--tuning", mode, "--resume", *QUICK]


def start(data, out, mode, log=None):
    return nevus(log or out.parent / "log", *words(data, out, mode))


def finish(process, status=0):
    """Wait for the end; what it said."""
    assert process.wait() == status, process.output()
    return process.output()


def lines(out):
    path = out / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def weights(out):
    return load_file(out / "bundle" / "model.safetensors")


@pytest.fixture(scope="module")
def whole(phantoms, tmp_path_factory):
    runs = tmp_path_factory.mktemp("whole")
    for mode in ("full", "linear-probe"):
        finish(start(phantoms, runs / mode, mode))
    return runs


@pytest.mark.parametrize("mode", ["full", "linear-probe"])
def test_killed_at_several_points_and_resumed(phantoms, tmp_path, whole, mode):
    out = tmp_path / "run"
    killed = 0
    for least in (1, 12, 25):
        process = start(phantoms, out, mode)
        while process.poll() is None and lines(out) < least:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        if (out / "bundle").exists():
            load_bundle(out / "bundle")  # whole, by its digests
    assert killed
    finish(start(phantoms, out, mode))
    expected, found = weights(whole / mode), weights(out)
    assert all(torch.equal(expected[k], found[k]) for k in expected)


def test_a_first_run_whose_kernels_are_not_compiled_yet_ends_with_the_same_weights(phantoms, tmp_path, whole):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "numba"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "nevus", *map(str, words(phantoms, tmp_path / "run", "full"))]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert list((tmp_path / "numba").rglob("*.nbi"))
    expected, found = weights(whole / "full"), weights(tmp_path / "run")
    assert all(torch.equal(expected[k], found[k]) for k in expected)


def test_sigterm_is_told_and_lets_the_folder_go(phantoms, tmp_path, whole):
    for attempt in range(6):  # a training so short may be over before the signal comes
        out = tmp_path / f"run{attempt}"
        process = start(phantoms, out, "full")
        while process.poll() is None and lines(out) < 3:
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        if process.wait():
            break
    assert process.wait() == 143
    err = process.output()
    assert "nevus: Terminated. Files that were written are complete" in err
    assert "Traceback" not in err
    finish(start(phantoms, out, "full"))
    expected, found = weights(whole / "full"), weights(out)
    assert all(torch.equal(expected[k], found[k]) for k in expected)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 24 MB: room for a run's beginning, not for its checkpoint beside its best weights."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "none", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_told_and_nothing_is_lost(phantoms, small_disk, tmp_path, whole):
    out = small_disk / "run"
    err = finish(start(phantoms, out, "full", tmp_path / "log"), status=2)
    assert "Traceback" not in err
    told = [line for line in err.splitlines() if line.startswith("nevus:")]
    assert len(told) == 1
    assert "No space left" in err
    assert not list(out.rglob("*.part"))
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    finish(start(phantoms, out, "full"))
    expected, found = weights(whole / "full"), weights(out)
    assert all(torch.equal(expected[k], found[k]) for k in expected)


def test_the_bundle_is_whole_or_not_there(phantoms, tmp_path, whole):
    """A bundle's half that a kill left behind is swept away by the next one."""
    out = tmp_path / "run"
    shutil.copytree(whole / "linear-probe", out)
    shutil.rmtree(out / "bundle")
    half = Path(out / ".bundle.part")
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    finish(start(phantoms, out, "linear-probe"))
    assert not half.exists()
    assert os.listdir(out / "bundle")
