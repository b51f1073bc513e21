import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nevus._io import cache_folder
from nevus.errors import NevusError
from nevus.pretraining.feature_store import FeatureStore, fill_store


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.setenv("NEVUS_CACHE", str(tmp_path))


def names(n, first=0):
    return [hashlib.sha256(str(k).encode()).hexdigest() for k in range(first, first + n)]


def vectors(n):
    return np.random.default_rng(n).normal(size=(n, 5)).astype(np.float32)


def test_vectors_come_back_in_half_precision_after_opening_again():
    with FeatureStore("t", 5) as store:
        store.add(names(3), vectors(3))
        store.add(names(2, 3), vectors(2))
    with FeatureStore("t", 5) as store:
        assert all(name in store for name in names(5))
        assert names(1, 5)[0] not in store
        table, rows = store.of([names(5)[k] for k in (4, 0, 0)])
        assert np.array_equal(table[rows], np.concatenate([vectors(3), vectors(2)]).astype(np.float16)[[4, 0, 0]])


@settings(max_examples=40, deadline=None)
@given(cut=st.tuples(st.integers(0, 25), st.integers(0, 140)))
def test_a_store_that_was_cut_off_anywhere_keeps_what_is_whole(cut):
    with FeatureStore("cut", 5) as store:
        store.add(missing := [name for name in names(2) if name not in store], vectors(2)[: len(missing)])
    folder = cache_folder("features") / "cut"
    for name, length in zip(("vectors", "index"), cut, strict=True):
        path = folder / name
        path.write_bytes(path.read_bytes()[:length])
    with FeatureStore("cut", 5) as store:
        whole = min(cut[0] // 10, cut[1] // 65)
        assert sum(name in store for name in names(2)) == min(whole, 2)
        store.add([name for name in names(2) if name not in store], vectors(2)[min(whole, 2) :])
        table, rows = store.of(names(2))
        assert np.array_equal(table[rows], vectors(2).astype(np.float16))
    for name in ("vectors", "index"):
        (folder / name).unlink()


def test_only_what_is_missing_is_computed():
    asked = []

    def pixels(row):
        asked.append(row)
        return np.full((2, 2, 3), row, np.uint8)

    def mean(images):
        return np.repeat(images.reshape(len(images), -1).mean(1, keepdims=True), 5, 1).astype(np.float32)

    digests = [*names(40), names(1)[0]]  # one image twice
    with FeatureStore("asked", 5) as store:
        fill_store(store, digests[:10], pixels, mean, what="x")
        fill_store(store, digests, pixels, mean, what="x")
        table, rows = store.of(digests)
        assert np.array_equal(table[rows][:, 0], [*range(40), 0])
    assert sorted(asked) == list(range(40))


def test_two_processes_do_not_write_at_once():
    with FeatureStore("t", 5), pytest.raises(NevusError, match="another process"):
        FeatureStore("t", 5)
