"""Approximate nearest neighbors by an inverted file: vectors are compared with those of the nearest cells only.

As in Jégou, Douze and Schmid (2011), section IV, without its codes. Products of small matrices take a fifth of the
time of a graph index, and the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nevus._progress import progress
from nevus.data.parallel import prefetch_map

CELL = 640
"""Least mean number of vectors in a cell."""
PROBES = 3
"""Nearest cells that are searched."""
CHUNK = 4096
"""Most vectors that are assigned to cells at a time."""
BLOCK = 1 << 20
"""Distances to centers at a time: 4 MB, which stay in a processor's cache."""
QUERIES = 1 << 20
"""Queries at a time."""

Vectors = NDArray[Any]
"""Of any type of number; compared in float32."""
Rows = NDArray[np.int32]
Job = tuple[int, Rows, Rows]
"""Number of the probe, queries, and vectors that they are compared with."""


class InvertedFile:
    """Vectors by cell. Some of the vectors themselves are the centers, evenly spread over their order."""

    def __init__(self, vectors: Vectors, what: str) -> None:
        """Assign vectors to cells.

        Args:
            vectors: (n, d).
            what: they are, for the progress bar.

        """
        self.vectors, self._what = vectors, what
        # Each of n vectors is compared with n / m centers, twice, and with PROBES * m vectors, which takes about twice
        # as long. This m makes the sum least; the whole time then grows as n ** 1.5.
        count = max(1, len(vectors) // max(CELL, int((len(vectors) / PROBES) ** 0.5)))
        self._centers = _augmented(vectors[np.linspace(0, len(vectors) - 1, count).astype(np.int64)])
        self._members = _by_cell(self._nearest_cells(vectors, 1, "indexing")[:, 0], count)

    def search(self, queries: Vectors, k: int) -> Iterator[tuple[slice, NDArray[np.float32], Rows]]:
        """Find the nearest vectors of each query.

        Args:
            queries: (m, d).
            k: number of neighbors.

        Yields:
            A range of the queries; their distances, float32 (queries, k), infinite where fewer were found, and rows,
            int32 (queries, k), -1 there; in no particular order.

        """
        for start in range(0, len(queries), QUERIES):
            part = slice(start, min(start + QUERIES, len(queries)))
            yield part, *self._search(queries[part], k)

    def _search(self, queries: Vectors, k: int) -> tuple[NDArray[np.float32], Rows]:
        probes = min(PROBES, len(self._centers))
        cells = self._nearest_cells(queries, probes, "searching")
        distances = np.full((len(queries), probes, k), np.inf, np.float32)
        rows = np.full((len(queries), probes, k), -1, np.int32)

        def search(job: Job) -> None:
            probe, asking, members = job
            own = _wide(queries[asking])
            far, numbers = _squared_distances(own, _augmented(self.vectors[members])), np.arange(len(own))
            for place in range(min(k, len(members))):  # for so few, repeated minima are faster than a partition
                nearest = far.argmin(1)
                distances[asking, probe, place] = far[numbers, nearest] + np.square(own).sum(1)
                rows[asking, probe, place] = members[nearest]
                far[numbers, nearest] = np.inf

        self._run(search, list(self._jobs(cells)), "comparing", 1)
        every, found = distances.reshape(len(queries), -1), rows.reshape(len(queries), -1)
        part = np.argpartition(every, k - 1, axis=1)[:, :k]
        nearest = np.take_along_axis(every, part, 1)
        return np.sqrt(np.maximum(nearest, 0, out=nearest)), np.take_along_axis(found, part, 1)

    def _jobs(self, cells: Rows) -> Iterator[Job]:
        for probe in range(cells.shape[1]):
            for asking, members in zip(_by_cell(cells[:, probe], len(self._centers)), self._members, strict=True):
                if len(asking) and len(members):
                    yield probe, asking, members

    def _nearest_cells(self, vectors: Vectors, probes: int, doing: str) -> Rows:
        """Return the nearest cells of each vector, int32 (n, probes), the nearest first."""
        cells = np.empty((len(vectors), probes), np.int32)
        chunk = max(1, min(CHUNK, BLOCK // len(self._centers)))

        def assign(start: int) -> None:
            part = slice(start, start + chunk)
            far = _squared_distances(_wide(vectors[part]), self._centers)
            rows = np.arange(len(far))
            for probe in range(probes):
                cells[part, probe] = nearest = far.argmin(1)
                far[rows, nearest] = np.inf

        self._run(assign, range(0, len(vectors), chunk), doing, chunk)
        return cells

    def _run(self, work: Callable[..., None], jobs: range | list[Job], doing: str, step: int) -> None:
        with progress(unit="") as bar:
            task = bar.add_task(f"{doing} {self._what}", total=len(jobs) * step, note="")
            for _ in prefetch_map(work, jobs):
                bar.advance(task, step)


def _wide(vectors: Vectors) -> NDArray[np.float32]:
    return np.asarray(vectors, np.float32)


def _augmented(vectors: Vectors) -> NDArray[np.float32]:
    """Return float32 (n, d + 1) whose product with (x, 1) is |v - x|^2 - |x|^2: one product of matrices, no more."""
    wide = _wide(vectors)
    return np.concatenate([-2 * wide, np.square(wide).sum(1, keepdims=True)], 1)


def _squared_distances(queries: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return squared distances less the query's own square, float32 (queries, others).

    Args:
        queries: (queries, d).
        others: see `_augmented`.

    """
    return np.concatenate([queries, np.ones((len(queries), 1), np.float32)], 1) @ others.T


def _by_cell(cells: Rows, count: int) -> list[Rows]:
    """Return the rows of each cell."""
    order = np.argsort(cells, kind="stable").astype(np.int32)
    return np.split(order, np.searchsorted(cells[order], np.arange(1, count)))
