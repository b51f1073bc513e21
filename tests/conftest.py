"""Fixtures: small and generated; real networks, real files."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.helpers import small_bundle

from nevus.phantoms.dataset import PhantomConfig, write

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


LONGEST = ("test_docs", "test_interrupted", "test_distill", "test_distributed", "test_comparison")


def pytest_collection_modifyitems(items):
    """The files that take minutes come first, so that no worker is left with one of them at the end."""

    def place(item):
        name = item.path.stem
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Keep decoded images and weights apart from the user's."""
    os.environ["NEVUS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real lesion images, which a user's clone does not have."""
    if not SHARED.is_dir():
        pytest.skip(f"the real images are not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> Path:
    """60 phantoms of 64 pixels, in class folders with a manifest."""
    folder = tmp_path_factory.mktemp("phantoms") / "set"
    write(PhantomConfig(n=60, image_size=64, seed=3), folder, workers=1)
    return folder


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory) -> Path:
    """A saved bundle of the smallest BiT, with random weights and a head that is not zero."""
    return small_bundle(tmp_path_factory.mktemp("bundle") / "bundle").folder


@pytest.fixture
def picture():
    """Make an image that has structure: `picture(width, height)`, RGB."""

    def make(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        return coarse.resize((width, height), Image.Resampling.BICUBIC)

    return make


@pytest.fixture
def class_folders(tmp_path, picture):
    """Make `{name}/{class}/{i}.png` from `{"class": count}`; gives the folder."""

    def make(counts: dict[str, int], name: str = "set") -> Path:
        for number, (label, count) in enumerate(counts.items()):
            (tmp_path / name / label).mkdir(parents=True)
            for i in range(count):
                picture(32, 32, 1000 * number + i).save(tmp_path / name / label / f"{i:03d}.png")
        return tmp_path / name

    return make


@pytest.fixture
def bf16_asked(monkeypatch):
    """Notes whether a module's graphs are asked to compute in bfloat16, on a CPU that may not have it."""

    def watch(module) -> list[bool]:
        asked: list[bool] = []
        made = module.Compiled

        def noting(*args, bf16=False, **settings):
            asked.append(bf16)
            return made(*args, **settings)

        monkeypatch.setattr(module, "Compiled", noting)
        return asked

    return watch
