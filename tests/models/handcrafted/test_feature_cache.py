import sqlite3

import numpy as np
import pytest

import nevus.models.handcrafted.feature_cache as module
from nevus.data.cache import Cache, CacheConfig
from nevus.models.handcrafted.classifier import vectors
from nevus.models.handcrafted.feature_cache import CachedFeatures


@pytest.fixture
def pixels():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(16, 1).repeat(16, 2)


@pytest.fixture
def counted(monkeypatch):
    """Count the images whose features are computed."""
    numbers = []

    def noted(images):
        numbers.append(len(images))
        return vectors(images)

    monkeypatch.setattr(module, "vectors", noted)
    return numbers


def cached(folder):
    return CachedFeatures(Cache(CacheConfig(folder)))


def test_cached_features_are_the_computed_ones(pixels, tmp_path, counted):
    plain = vectors(pixels)
    first, second = cached(tmp_path), cached(tmp_path)
    assert (first(pixels[:3]) == plain[:3]).all()
    assert first.saved == 0
    assert (second(pixels[[3, 1, 1, 0]]) == plain[[3, 1, 1, 0]]).all()  # in the order of the request
    assert counted == [3, 1]
    assert second.saved > 0
    changed = pixels[:1].copy()
    changed[0, 0, 0, 0] ^= 1
    second(changed)
    assert counted == [3, 1, 1]


def test_the_saved_time_is_that_of_the_computation(pixels, tmp_path, monkeypatch):
    ticks = iter([0.0, 10.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks))
    cached(tmp_path)(pixels)
    again = cached(tmp_path)
    again(pixels[:2])
    assert again.saved == 5


def test_damaged_entries_are_computed_again(pixels, tmp_path, counted):
    plain = vectors(pixels)
    cached(tmp_path)(pixels)
    with sqlite3.connect(tmp_path / "cache.sqlite") as table:
        table.execute("UPDATE contents SET value = x'00'")
    table.close()
    assert (cached(tmp_path)(pixels) == plain).all()
    assert (cached(tmp_path)(pixels) == plain).all()
    assert counted == [4, 4]
