import sqlite3

import numpy as np
import pytest

import nevus.models.handcrafted.feature_cache as module
from nevus.models.handcrafted.classifier import vectors
from nevus.models.handcrafted.feature_cache import CachedFeatures


@pytest.fixture
def pixels():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(16, 1).repeat(16, 2)


@pytest.fixture
def counted(monkeypatch):
    """How many pictures are described."""
    seen = []

    def noted(found):
        seen.append(len(found))
        return vectors(found)

    monkeypatch.setattr(module, "vectors", noted)
    return seen


def test_what_is_remembered_is_what_is_computed(pixels, tmp_path, counted):
    plain = vectors(pixels)
    first, second = CachedFeatures(tmp_path / "a" / "table"), CachedFeatures(tmp_path / "a" / "table")
    assert (first(pixels[:3]) == plain[:3]).all()
    assert first.saved == 0
    assert (second(pixels[[3, 1, 1, 0]]) == plain[[3, 1, 1, 0]]).all()  # in the order that was asked for
    assert counted == [3, 1]
    assert second.saved > 0
    changed = pixels[:1].copy()
    changed[0, 0, 0, 0] ^= 1
    second(changed)
    assert counted == [3, 1, 1]


def test_the_time_that_was_saved_is_that_of_the_first_time(pixels, tmp_path):
    path = tmp_path / "table"
    CachedFeatures(path)(pixels)
    with sqlite3.connect(path) as table:
        table.execute("UPDATE vectors SET seconds = 2.5")
    table.close()
    again = CachedFeatures(path)
    again(pixels[:2])
    assert again.saved == 5


def test_a_memory_that_is_damaged_or_cannot_be_written_is_none(pixels, tmp_path, counted):
    plain = vectors(pixels)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert (CachedFeatures(damaged)(pixels) == plain).all()
    short = tmp_path / "short"
    CachedFeatures(short)(pixels)
    with sqlite3.connect(short) as table:
        table.execute("UPDATE vectors SET vector = x'00'")
    table.close()
    assert (CachedFeatures(short)(pixels) == plain).all()
    (tmp_path / "file").write_text("")
    assert (CachedFeatures(tmp_path / "file" / "table")(pixels) == plain).all()
    assert counted == [4, 4, 4, 4]
    assert (CachedFeatures(short)(pixels) == plain).all()  # by now the lines are mended
    assert counted == [4, 4, 4, 4]
