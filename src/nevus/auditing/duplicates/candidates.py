"""Candidate pairs of duplicates, found by approximate nearest-neighbor search."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from nevus._progress import progress
from nevus.auditing.duplicates.descriptors import DIHEDRAL_GROUP, ImageDescriptors, dihedral

SEARCHED_KEYPOINTS = 32
"""Strongest key points of an image that are searched for in all others."""
NEIGHBORS = 4
"""Nearest neighbors of each key point, or hash, that are considered."""
MIN_VOTES = 3
"""Key points with a neighbor in another image from which the two become candidates."""
MIN_COSINE = 0.85
"""Cosine of two perceptual hashes from which two images become candidates."""
CHUNK = 65_536
"""Queries at a time."""

Rows = NDArray[np.int64]


def by_perceptual_hash(described: ImageDescriptors, rows: Rows) -> dict[tuple[int, int], tuple[bool, bool, bool]]:
    """Find pairs with close perceptual hashes, in one of the eight rotations and reflections.

    Args:
        described: see `ImageDescriptors`.
        rows: of the images, in an order that depends on their content only.

    Returns:
        The rotation or reflection of the first image of each pair (a row, a later row) that agrees with the second.

    """
    prints = described.fingerprints[rows]
    index = Index(ndim=prints.shape[1], metric="cos", dtype="f16", connectivity=16, expansion_search=64)
    _fill(index, prints, "indexing hashes")
    found: dict[tuple[int, int], tuple[float, tuple[bool, bool, bool]]] = {}
    for turn in DIHEDRAL_GROUP:
        queries = dihedral(prints, turn)
        for start, keys, distances in _search(index, queries, NEIGHBORS + 1, "searching hashes"):
            near = np.argwhere(distances < 1 - MIN_COSINE)
            for row, k in near.tolist():
                one, other, far = start + row, int(keys[row, k]), float(distances[row, k])
                if one == other:
                    continue
                pair, way = ((one, other), turn) if one < other else ((other, one), inverse(turn))
                if pair not in found or (far, way) < found[pair]:
                    found[pair] = (far, way)
    return {(int(rows[a]), int(rows[b])): way for (a, b), (_, way) in sorted(found.items())}


def inverse(turn: tuple[bool, bool, bool]) -> tuple[bool, bool, bool]:
    """Return the inverse: after a transposition, the horizontal reflection is the vertical one."""
    swap, across, down = turn
    return (swap, down, across) if swap else turn


def by_key_points(described: ImageDescriptors, rows: Rows) -> list[tuple[int, int]]:
    """Find pairs (a row, a later row) with at least `MIN_VOTES` similar key points, as far as the index finds them.

    Args:
        described: see `ImageDescriptors`.
        rows: of the images, in an order that depends on their content only.

    """
    each = np.minimum(described.counts[rows], SEARCHED_KEYPOINTS)
    owner = np.repeat(np.arange(len(rows)), each)
    if not len(owner):
        return []
    codes = np.empty((len(owner), 64), np.int8)
    start = 0
    for row, count in zip(rows.tolist(), each.tolist(), strict=True):
        codes[start : start + count] = _code(described.descriptors[row, :count])
        start += count
    index = Index(ndim=64, metric="l2sq", dtype="i8", connectivity=8, expansion_add=32, expansion_search=32)
    _fill(index, codes, "indexing key points")
    votes: list[Rows] = []
    for start, keys, _ in _search(index, codes, NEIGHBORS + 1, "searching key points"):
        one = np.repeat(owner[start : start + len(keys)], keys.shape[1])
        other = owner[keys.astype(np.int64).ravel()]
        apart = one != other
        low, high = np.minimum(one, other)[apart], np.maximum(one, other)[apart]
        votes.append(low * len(rows) + high)
    pair, count = np.unique(np.concatenate(votes), return_counts=True)
    pair = pair[count >= MIN_VOTES]
    return [(int(rows[a]), int(rows[b])) for a, b in zip(pair // len(rows), pair % len(rows), strict=True)]


def _code(descriptors: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Add up neighboring directions: 64 numbers find nearly as much as 128, in half the time and memory."""
    added = descriptors.reshape(-1, 16, 4, 2).astype(np.float32).sum(-1).reshape(-1, 64)
    return np.asarray(np.round(added / 3.2).clip(0, 127), np.int8)


def _fill(index: Index, vectors: NDArray[np.generic], what: str) -> None:
    """Add vectors in the given order, in one thread: with several the result would depend on their speed."""
    with progress(unit="") as bar:
        task = bar.add_task(what, total=len(vectors), note="")
        for start in range(0, len(vectors), CHUNK // 8):
            piece = vectors[start : start + CHUNK // 8]
            index.add(np.arange(start, start + len(piece)), piece, threads=1)
            bar.advance(task, len(piece))


def _search(
    index: Index, queries: NDArray[np.generic], most: int, what: str
) -> Iterator[tuple[int, NDArray[np.uint64], NDArray[np.float32]]]:
    most = min(most, len(index))
    with progress(unit="") as bar:
        task = bar.add_task(what, total=len(queries), note="")
        for start in range(0, len(queries), CHUNK):
            piece = queries[start : start + CHUNK]
            found = index.search(piece, most, threads=2)
            yield (
                start,
                np.asarray(found.keys).reshape(len(piece), -1),
                np.asarray(found.distances).reshape(len(piece), -1),
            )
            bar.advance(task, len(piece))
