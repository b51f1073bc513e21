import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from nevus.auditing.duplicates import neighbors
from nevus.auditing.duplicates.neighbors import InvertedFile


def search(index, queries, k):
    found = list(index.search(queries, k))
    assert [part.start for part, *_ in found] == list(range(0, len(queries), neighbors.QUERIES))
    return tuple(np.concatenate(column) for column in list(zip(*found, strict=True))[1:])


def clustered(n, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n // 10, 1, 16)) + 0.2 * rng.normal(size=(n // 10, 10, 16))).reshape(n, 16)


def test_in_one_cell_it_is_exact():
    vectors, queries = clustered(200), clustered(70, 1)
    distances, rows = search(InvertedFile(vectors, "vectors"), queries, 5)
    expected, places = NearestNeighbors(n_neighbors=5).fit(vectors).kneighbors(queries)
    order = np.argsort(distances, axis=1)
    assert np.take_along_axis(distances, order, 1) == pytest.approx(expected, abs=1e-3)
    assert np.array_equal(np.take_along_axis(rows, order, 1), places)


def test_in_many_cells_it_finds_most_neighbors(monkeypatch):
    monkeypatch.setattr(neighbors, "CELL", 50)
    monkeypatch.setattr(neighbors, "QUERIES", 1000)
    vectors = clustered(4000)
    distances, rows = search(InvertedFile(vectors, "vectors"), vectors, 5)
    _, places = NearestNeighbors(n_neighbors=5).fit(vectors).kneighbors(vectors)
    assert np.mean([len(set(a) & set(b)) / 5 for a, b in zip(rows.tolist(), places.tolist(), strict=True)]) > 0.95
    exact = np.linalg.norm(vectors[:, None] - vectors[rows], axis=2)
    assert distances == pytest.approx(exact, abs=5e-3)


def test_integers_are_compared_as_numbers():
    vectors = np.array([[0, 255], [255, 0], [250, 0]], np.uint8)
    distances, rows = search(InvertedFile(vectors, "vectors"), vectors, 2)
    assert set(rows[1].tolist()) == {1, 2}
    assert sorted(distances[1].tolist()) == [0, 5]


def test_where_there_are_too_few_the_rest_is_missing(monkeypatch):
    monkeypatch.setattr(neighbors, "CELL", 1)
    monkeypatch.setattr(neighbors, "PROBES", 2)
    distances, rows = search(InvertedFile(np.eye(4, dtype=np.float32), "vectors"), np.eye(4, dtype=np.float32), 3)
    assert (np.isinf(distances) == (rows < 0)).all()
    assert ((rows < 0).sum(1) == 1).all()
