"""The wheel, installed with its base dependencies alone, predicts."""

import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import httpx
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_there_are_at_most_ten_base_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(project["dependencies"]) <= 10
    assert not {"torch", "timm", "scikit-learn"} & {d.partition(">")[0] for d in project["dependencies"]}


def test_the_wheel_is_small_and_names_its_licenses(wheel):
    assert wheel.stat().st_size < 60e6
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
        about = files.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert "License-Expression: Apache-2.0 AND CC-BY-NC-4.0" in about
    assert any(name.endswith("NOTICE") for name in names)
    assert "nevus/py.typed" in names
    assert not [name for name in names if name.endswith((".jpg", ".jpeg"))]


def test_it_predicts_with_base_dependencies_alone(wheel, picture, tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    constraints = ["-c", str(ROOT / "constraints.txt")]
    done = subprocess.run([*install, *constraints, str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = subprocess.run([str(python), "-c", "import torch"], capture_output=True, check=False)
    assert found.returncode != 0  # it did not come along
    picture(60, 50).save(tmp_path / "photo.png")
    words = [str(tmp_path / "venv" / "bin" / "nevus"), "predict", str(tmp_path / "photo.png")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "p_malignant" in done.stdout
    # What else the base package promises: evaluation and heat maps.
    for label in ("benign", "malignant"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for seed in range(3):
            picture(60, 50, seed + 3 * len(label)).save(tmp_path / "set" / label / f"{seed}.png")
    shared = ["--bundle", "malignant-benign", "--out"]
    for more in (
        ["evaluate", str(tmp_path / "set"), "--split", "all", *shared, str(tmp_path / "evaluation")],
        ["explain", str(tmp_path / "photo.png"), *shared, str(tmp_path / "maps")],
    ):
        done = subprocess.run([words[0], *more], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    # Without its extra the service says what is missing; with it, it runs, still without PyTorch.
    command = [str(tmp_path / "venv" / "bin" / "nevus"), "serve", "--port", "0"]
    command += ["--database", f"sqlite:///{tmp_path / 'register.sqlite'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'pip install "nevus[serve]"' in " ".join(done.stderr.split())
    done = subprocess.run([*install, *constraints, f"{wheel}[serve]"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    served(command, tmp_path / "serve.log")
    assert subprocess.run([str(python), "-c", "import torch"], capture_output=True, check=False).returncode != 0


def served(command, log):
    """Start the service, and read its page and its script."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        until = time.monotonic() + 60
        while "page: http" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        url = log.read_text().partition("page: ")[2].split()[0]
        for path in ("/", "/static/app.js", "/v1/model"):
            answer = httpx.get(url + path, timeout=30)
            assert answer.status_code == 200
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_the_pages_are_rendered_from_the_committed_tables():
    from reproduce import render

    assert render.results_page() == render.PAGE.read_text("utf-8")
    assert render.readme_page() == render.README.read_text("utf-8")


def test_the_results_are_small_and_every_row_says_where_it_is_from():
    from reproduce.render import PAGE, RESULTS

    assert len(PAGE.read_bytes()) <= 20_000
    assert max(line.count("|") - 1 for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")) <= 8
    assert sum(path.stat().st_size for path in RESULTS.iterdir()) < 200_000
    history = pd.read_csv(RESULTS / "selection_history.csv")
    assert len(history) >= 86
    assert history[["setting", "date", "data", "data_digest", "n", "accuracy", "auroc"]].notna().all(axis=None)
    headline = pd.read_csv(RESULTS / "headline.csv")
    assert {"best", "fast"} <= set(headline["preset"])
    assert headline[["machine", "seed", "date", "bundle", "data_digest"]].notna().all(axis=None)
