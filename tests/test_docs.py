"""Every command and every Python block of README and docs is executed, page by page, as it stands."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from scripts.links import broken_links
from tests.processes import run_trial

from nevus.cli.main import main
from nevus.comparison import runner
from nevus.training import presets

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.M | re.S)
WITH_BLOCKS = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]
# `make demo` and `make test` build their own environment; the first has a test of its own.
LONG = re.compile(r"^make |^git clone|\.\./shared", re.M)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """What the how-to pages speak of: class folders, a csv with photos, a trained bundle."""
    from nevus.phantoms.dataset import PhantomConfig, write

    here = tmp_path_factory.mktemp("docs")
    table = write(PhantomConfig(n=48, image_size=48, test=0), here / "drawn", workers=1)
    shutil.copytree(here / "drawn" / "train", here / "lesions")
    (here / "photos").mkdir()
    for image in table["image"][:40]:
        shutil.copy(here / "drawn" / image, here / "photos")
    listed = table[["image", "label", "group"]][:40].copy()
    listed["image"] = [Path(name).name for name in listed["image"]]
    listed.columns = ["file", "diagnosis", "lesion"]
    listed.to_csv(here / "lesions.csv", index=False)
    for name in ("photo.jpg", "lesion.jpg"):
        shutil.copy(here / "photos" / listed["file"][0], here / name)
    with contextlib.chdir(here):
        assert (
            main(["train", "lesions", "--tuning", "linear-probe", "--set", "image_size=32", "--out", "runs/lesions"])
            == 0
        )
    return here


@pytest.fixture
def quick(monkeypatch):
    """Fewer steps on the few lesions that are drawn here, and trials that start without imports."""
    monkeypatch.setattr(presets, "FEWEST_STEPS", 10)
    monkeypatch.setattr(runner, "_start", run_trial)


def commands_of(text):
    """Commands of a block that are nothing but `nevus ...`, as lists of words; None where a shell must read it."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    if any(not line.startswith("nevus ") or re.search(r"[|<>;&$*?`(]", line) for line in lines):
        return None
    return [shlex.split(line, comments=True)[1:] for line in lines]


def test_what_a_shell_must_read_is_left_to_it():
    assert commands_of("# first\nnevus split a --out 'b c'  # why\nnevus audit \\\n  a\n") == [
        ["split", "a", "--out", "b c"],
        ["audit", "a"],
    ]
    assert commands_of("nevus predict photos/*.jpg\n") is commands_of("nevus split a | head\n") is None


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_run(page, workplace, capfd):
    """A start of Python with torch takes seconds: what needs no shell is run here, by the same entry."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran, services = 0, []
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if LONG.search(text):
            continue
        commands = commands_of(text) if language == "sh" else None
        with contextlib.chdir(workplace):
            if language == "python":
                exec(compile(text, str(page), "exec"), {"__name__": "__main__"})
            elif commands is not None:
                for words in commands:
                    if words[0] == "serve":  # it runs while the rest of the page does
                        services.append(_served(words, workplace / "serve.log"))
                        continue
                    assert _status(words) == 0, f"nevus {shlex.join(words)}\n{capfd.readouterr()}"
            else:
                shell = ["bash", "-euo", "pipefail", "-c", text]
                done = subprocess.run(shell, env=environment, capture_output=True, text=True, check=False, timeout=300)
                assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        ran += 1
    for service in services:
        service.terminate()
        assert service.wait(30) == 0
    assert ran or page.name == "README.md"


def _served(words, log):
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "nevus", *words], stdout=file, stderr=file)
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get("http://127.0.0.1:8080/readyz", timeout=5).status_code == 200:
                return process
        time.sleep(0.05)
    process.kill()
    raise AssertionError(log.read_text())


def _status(words):
    try:
        return main(words)
    except SystemExit as leaving:  # --help
        return leaving.code


def test_links_and_pictures_are_there():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_site_is_built_without_a_warning_and_has_no_broken_link(tmp_path):
    """The build runs the cells of the notebook, too; a cell that fails is a warning."""
    site = tmp_path / "site"
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    notebook = (site / "tutorial" / "notebook" / "index.html").read_text("utf-8")
    assert re.search(r"accuracy on test: [01]\.\d", notebook)  # the output, not the cell
    assert broken_links(site) == []
    page = site / "index.html"
    page.write_text(page.read_text("utf-8") + '<a href="how-to/train/#nowhere">x</a><img src="none.png">', "utf-8")
    assert [line.split(": ")[2] for line in broken_links(site)] == [
        "the page has no such anchor",
        "there is no such file",
    ]


def test_demo_runs(tmp_path):
    """The commands of `make demo`, on fewer lesions and for fewer epochs."""
    if not (ROOT / ".venv" / "ready").exists():
        pytest.skip("the demo needs the environment that make sets up")
    small = [f"DEMO={tmp_path / 'demo'}", "DEMO_IMAGES=60", "DEMO_EPOCHS=1"]
    done = subprocess.run(["make", "demo", *small], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("phantoms/contact-sheet.jpg", "audit/audit.html", "run/curves.png", "evaluation/evaluation.html"):
        assert (tmp_path / "demo" / name).exists()
    assert "p_malignant" in done.stdout


def test_no_registry_is_named_and_no_pickle_is_loaded():
    hosts = ["py" + "pi.org", "files.python" + "hosted", "npm" + "js.com", "npm" + "js.org", "deb.deb" + "ian"]
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if Path(name).suffix in (".jpg", ".png", ".parquet", ".safetensors", ".onnx"):
            continue
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not any(host in text for host in hosts), name
        if name.startswith("src/"):
            assert not re.search(r"import pickle|torch\.load\(|joblib\.load|joblib import .*load", text), name
            assert text.count("np.load(") == text.count("allow_pickle=False) as"), name
