"""The using half runs where PyTorch, timm and scikit-learn are not installed."""

import subprocess
import sys

import pytest

from nevus.cli.main import NAMES

HIDE = """
import sys
HIDDEN = {"torch", "torchvision", "timm", "sklearn", "skimage", "cv2", "skops", "numba", "safetensors",
          "pandera", "openvino", "onnx", "pydicom", "cleanlab", "transformers", "filelock", "huggingface_hub"}
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Finder())
"""
END = "\nassert not HIDDEN & set(sys.modules), sorted(HIDDEN & set(sys.modules))\n"


def run(code, *words):
    return subprocess.run(
        [sys.executable, "-c", HIDE + code + END, *map(str, words)], capture_output=True, text=True, check=False
    )


def command(*words):
    return run("from nevus.cli.main import main\nassert main(sys.argv[1:]) == 0\n", *words)


def test_predict_with_the_built_in_classifier(picture, tmp_path):
    picture(60, 50).save(tmp_path / "photo.png")
    done = command("predict", tmp_path / "photo.png")
    assert done.returncode == 0, done.stderr
    assert "p_malignant" in done.stdout


def test_the_help_of_every_command():
    code = """
HIDDEN |= {"scipy", "matplotlib", "onnxruntime", "fastapi", "sqlalchemy", "uvicorn"}
from nevus.cli.main import NAMES, main
for name in NAMES:
    assert main([name, "--help"]) == 0
    assert main([name, "--help-all"]) == 0
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: nevus ") == 2 * len(NAMES)


@pytest.mark.parametrize("words", [["models"], ["--help"], ["cache", "info"]])
def test_commands_that_need_no_training(words):
    done = command(*words)
    assert done.returncode == 0, done.stderr


def test_load_and_predict_from_python(picture, tmp_path, bundle_folder):
    picture(60, 50).save(tmp_path / "photo.png")
    code = "import nevus\nclassifier = nevus.load(sys.argv[1])\nprint(classifier.predict_frame(sys.argv[2]))\n"
    done = run(code, bundle_folder, tmp_path / "photo.png")
    assert done.returncode == 0, done.stderr


def test_evaluate(phantoms, bundle_folder, tmp_path):
    import shutil

    shutil.copytree(bundle_folder, tmp_path / "bundle")
    done = command("evaluate", phantoms, "--bundle", tmp_path / "bundle", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "evaluation.html").exists()


@pytest.mark.parametrize(
    ("words", "package"),
    [
        (["train", "data", "--out", "run"], "train"),
        (["audit", "data", "--out", "a"], "train"),
        (["predict", "x.jpg", "--bundle", "bundle", "--engine", "torch"], "train"),
        (["predict", "x.jpg", "--engine", "openvino"], "export"),
    ],
)
def test_a_missing_extra_is_one_sentence_that_names_it(words, package, phantoms, bundle_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [{"data": str(phantoms), "bundle": str(bundle_folder)}.get(word, word) for word in words]
    done = run("from nevus.cli.main import main\nassert main(sys.argv[1:]) == 2\n", *words)
    assert done.returncode == 0, done.stderr
    assert f'pip install "nevus[{package}]"' in " ".join(done.stderr.split())


def test_dicom_without_its_extra_is_a_row(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 50)
    code = "from nevus.cli.main import main\nassert main(sys.argv[1:]) == 3\n"
    done = run(code, "predict", tmp_path / "a.dcm", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert "nevus[dicom]" in done.stdout


def test_every_module_is_imported_without_fcntl_and_resource():
    """As on Windows."""
    code = """
import sys, pkgutil, importlib
sys.modules["fcntl"] = None
sys.modules["resource"] = None
import nevus
for module in pkgutil.walk_packages(nevus.__path__, "nevus."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
