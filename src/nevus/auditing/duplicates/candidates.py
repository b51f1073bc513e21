"""Candidate pairs of duplicates, found by approximate nearest-neighbor search."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nevus.auditing.duplicates.descriptors import ImageDescriptors
from nevus.auditing.duplicates.neighbors import InvertedFile
from nevus.data.perceptual_hash import DIHEDRAL_GROUP, dihedral

SEARCHED_KEYPOINTS = 40
"""Strongest key points of an image that are searched for in all others."""
KEYPOINT_NEIGHBORS = 6
"""Nearest neighbors of each key point that are considered."""
HASH_NEIGHBORS = 4
"""Nearest neighbors of each hash that are considered."""
MIN_SCORE = 0.65
"""Score of two images from which they become candidates, see `by_key_points`."""
MIN_COSINE = 0.85
"""Cosine of two perceptual hashes from which two images become candidates."""

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
    index = InvertedFile(prints, "hashes")
    found: dict[tuple[int, int], tuple[float, tuple[bool, bool, bool]]] = {}
    for turn in DIHEDRAL_GROUP:
        for part, distances, keys in index.search(dihedral(prints, turn), HASH_NEIGHBORS + 1):
            near = np.argwhere(distances**2 < 2 - 2 * MIN_COSINE)  # of vectors of length 1
            for row, k in near.tolist():
                one, other, far = part.start + row, int(keys[row, k]), float(distances[row, k])
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
    """Find pairs (a row, a later row) with similar key points, as far as the index finds them.

    Each neighbor of a key point adds 1.1 - d / D to the score of the two images, where d is its distance and D that
    of the farthest neighbor considered: a true match is much nearer than the rest, as in Lowe's ratio (2004, section
    7.1). Two key points must be similar at least.

    Args:
        described: see `ImageDescriptors`.
        rows: of the images, in an order that depends on their content only.

    """
    each = np.minimum(described.counts[rows], SEARCHED_KEYPOINTS)
    owner = np.repeat(np.arange(len(rows)), each)
    if len(owner) < 2:
        return []
    codes = np.concatenate(
        [_code(described.descriptors[row, :count]) for row, count in zip(rows.tolist(), each.tolist(), strict=True)]
    )
    index = InvertedFile(codes, "key points")
    votes: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    for part, distances, keys in index.search(codes, min(KEYPOINT_NEIGHBORS + 1, len(codes))):
        one, other = np.broadcast_to(owner[part, None], keys.shape), owner[keys]
        use = (keys >= 0) & (one != other)
        farthest = np.where(keys >= 0, distances, 0).max(1, keepdims=True)
        low, high = np.minimum(one, other)[use], np.maximum(one, other)[use]
        votes.append((low * len(rows) + high, (1.1 - distances / np.maximum(farthest, 1e-3))[use]))
    pairs, place = np.unique(np.concatenate([pair for pair, _ in votes]), return_inverse=True)
    scores = np.concatenate([score for _, score in votes])
    chosen = pairs[(np.bincount(place, scores) >= MIN_SCORE) & (np.bincount(place) >= 2)]
    return [(int(rows[a]), int(rows[b])) for a, b in zip(chosen // len(rows), chosen % len(rows), strict=True)]


def _code(descriptors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average neighboring directions: 64 numbers find nearly as much as 128, in half the time and memory."""
    pairs = descriptors.reshape(-1, 16, 4, 2).astype(np.uint16)
    return np.asarray(pairs.sum(-1) // 2, np.uint8).reshape(-1, 64)
