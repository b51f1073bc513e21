"""Alignment of two images, and the similarity of their pixels where they overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nevus.auditing.duplicates.descriptors import AUDIT_IMAGE_SIZE, ImageDescriptors, field_of_view_mask, gray

RATIO = 0.85
"""Largest ratio of the distances of a key point's best and second match (Lowe 2004, section 7.1)."""
MAX_RESIDUAL = 3.0
"""Largest distance in pixels of a match from its place under the transformation."""
ZOOM = (0.25, 4.0)
"""Range of the scale between two images of a lesion."""
MIN_OVERLAP = 0.1
"""Least share of the square that two images must have in common, without the black around a field of view."""

REFINE_SIMILARITY = 0.5
"""Similarity after rotation and shift from which the alignment is refined."""
SURE_SIMILARITY = 0.9
"""Similarity from which the alignment is not refined."""
_ALL = np.full((AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE), 255, np.uint8)
_WINDOW = cv2.createHanningWindow((AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE), cv2.CV_32F)

Warp = NDArray[np.float32]
"""(2, 3), from the pixels of the second image to those of the first."""


@dataclass(frozen=True)
class Alignment:
    """Agreement of two images where they overlap.

    Attributes:
        similarity: correlation of their local contrast, in [-1, 1]. Brightness, color cast and slow shading do not
            count.
        overlap: share of the second image that the first one covers, in [0, 1].
        matches: key points of both that agree on one similarity transformation (shift, rotation, scale).

    """

    similarity: float
    overlap: float
    matches: int


NO_ALIGNMENT = Alignment(0.0, 0.0, 0)


def align(
    described: ImageDescriptors, one: int, other: int, turn: tuple[bool, bool, bool] | None, least: int
) -> Alignment:
    """Align two images by their key points or, where these do not suffice, by a given rotation or reflection.

    Args:
        described: see `ImageDescriptors`.
        one: row of an image.
        other: row of another.
        turn: rotation or reflection of the first where key points do not decide; None for no such attempt.
        least: number of matches below which key points do not decide.

    """
    matches, warp = by_matches(described, one, other, least)
    best = NO_ALIGNMENT
    if warp is None and turn is None:
        return best
    first, second = (gray(described.squares[row : row + 1][0]) for row in (one, other))
    if warp is not None:
        best = _best(first, second, warp, matches)
    if turn is not None and best.similarity < REFINE_SIMILARITY:
        shifted = _shifted(first, second, dihedral_warp(turn))
        if _compared(first, second, shifted, 0).similarity >= REFINE_SIMILARITY:
            best = max(best, _best(first, second, shifted, 0), key=_similarity)
    return best


def _similarity(alignment: Alignment) -> float:
    return alignment.similarity


def _best(first: NDArray[np.uint8], second: NDArray[np.uint8], warp: Warp, matches: int) -> Alignment:
    found = _compared(first, second, warp, matches)
    if found.similarity >= SURE_SIMILARITY:
        return found
    return max(found, _compared(first, second, _refined(first, second, warp), matches), key=_similarity)


def _shifted(first: NDArray[np.uint8], second: NDArray[np.uint8], warp: Warp) -> Warp:
    """Add the shift that phase correlation finds (Kuglin and Hines 1975)."""
    turned = cv2.warpAffine(
        first, warp, (AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    whole = np.ones(first.shape, np.float32)
    there, here = (_contrast(image.astype(np.float32), whole) for image in (second, turned))
    shift, _ = cv2.phaseCorrelate(there, here, _WINDOW)
    if max(map(abs, shift)) > AUDIT_IMAGE_SIZE / 4:
        return warp
    moved = warp.copy()
    moved[:, 2] += warp[:, :2] @ np.asarray(shift, np.float32)
    return moved


def by_matches(described: ImageDescriptors, one: int, other: int, least: int = 3) -> tuple[int, Warp | None]:
    """Count the matching key points that agree on a similarity transformation, and return it (RANSAC, fixed seed).

    Args:
        described: see `ImageDescriptors`.
        one: row of an image.
        other: row of another.
        least: number of matches below which 0 and None are returned.

    """
    a, b = (described.descriptors[row, : described.counts[row]].astype(np.float32) for row in (one, other))
    if min(len(a), len(b)) < 2:
        return 0, None
    # Of the second's points to the first's. The squares are whole numbers below 2 ** 24: nothing is rounded.
    far = np.square(b).sum(1)[:, None] + np.square(a).sum(1) - 2 * (b @ a.T)
    rows = np.arange(len(b))
    nearest = far.argmin(1)
    distance = far[rows, nearest]
    far[rows, nearest] = np.inf
    good = np.flatnonzero(distance < RATIO**2 * far.min(1))
    if len(good) < max(least, 3):
        return 0, None
    there, here = described.places[other][good], described.places[one][nearest[good]]
    warp, agree = cv2.estimateAffinePartial2D(
        there, here, method=cv2.RANSAC, ransacReprojThreshold=MAX_RESIDUAL, maxIters=500
    )
    if warp is None or not ZOOM[0] < np.hypot(warp[0, 0], warp[0, 1]) < ZOOM[1]:
        return 0, None
    agree = agree.ravel().astype(bool)
    # Several matches that meet in one point are one.
    counted = min(len(np.unique(np.round(p[agree] / 2), axis=0)) for p in (here, there))
    return (counted, np.asarray(warp, np.float32)) if counted >= least else (0, None)


def dihedral_warp(turn: tuple[bool, bool, bool]) -> Warp:
    """Return the warp of one of the eight symmetries of a square."""
    swap, across, down = turn
    last = AUDIT_IMAGE_SIZE - 1
    x = [-1.0, 0.0, last] if across else [1.0, 0.0, 0.0]  # place in the transposed first image of a pixel
    y = [0.0, -1.0, last] if down else [0.0, 1.0, 0.0]
    return np.array([y, x] if swap else [x, y], np.float32)


def _refined(first: NDArray[np.uint8], second: NDArray[np.uint8], warp: Warp) -> Warp:
    """Refine an affine map by the enhanced correlation coefficient (Evangelidis and Psarakis 2008)."""
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 1e-3)
    try:
        _, better = cv2.findTransformECC(second, first, warp.copy(), cv2.MOTION_AFFINE, stop, _ALL, 5)
    except cv2.error:  # it does not converge: the two are not alike
        return warp
    zoom = abs(float(np.linalg.det(better[:, :2]))) ** 0.5
    return np.asarray(better, np.float32) if ZOOM[0] < zoom < ZOOM[1] else warp


def _compared(first: NDArray[np.uint8], second: NDArray[np.uint8], warp: Warp, matches: int) -> Alignment:
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    source: NDArray[Any] = first.astype(np.float32)
    zoom = abs(float(np.linalg.det(warp[:, :2]))) ** 0.5
    target: NDArray[Any] = second.astype(np.float32)
    if zoom > 1:  # the first is the larger one: what the second cannot show is taken out
        source = cv2.GaussianBlur(source, (0, 0), 0.5 * zoom)
    elif zoom < 1:
        target = cv2.GaussianBlur(target, (0, 0), 0.5 / zoom)
    moved = cv2.warpAffine(source, warp, (AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE), flags=how)
    covered = cv2.warpAffine(np.ones_like(source), warp, (AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE), flags=how) > 0.99
    overlap = float(covered.mean())
    covered &= (
        cv2.warpAffine(
            field_of_view_mask(first).astype(np.float32), warp, (AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE), flags=how
        )
        > 0.99
    ) & field_of_view_mask(second)
    if covered.mean() < MIN_OVERLAP:
        return NO_ALIGNMENT
    weight = covered.astype(np.float32)
    x, y = (_contrast(image, weight)[covered] for image in (moved, target))
    x, y = x - x.mean(), y - y.mean()
    both = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return Alignment(float((x * y).sum()) / both if both > 0 else 0.0, overlap, matches)


def _contrast(image: NDArray[Any], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the local contrast: the deviation from the surroundings, divided by its local standard deviation.

    A lesion's edge, which all lesions have, then counts no more than its pattern. Noise of two gray levels and the
    finest JPEG artifacts do not count.
    """

    def around(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.GaussianBlur(values * weight, (0, 0), 6) / share, np.float32)

    share = np.maximum(cv2.GaussianBlur(weight, (0, 0), 6), 1e-3)
    deviation = cv2.GaussianBlur(image, (0, 0), 1) - around(image)
    return np.asarray(deviation / np.sqrt(around(deviation**2) + 4), np.float32)
