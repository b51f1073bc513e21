"""Two images laid on each other: how alike are their pixels then?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nevus.auditing.duplicates.descriptors import AUDIT_IMAGE_SIZE, ImageDescriptors, field_of_view_mask, gray

RATIO = 0.85
"""A key point's best match counts where it is so much nearer than its second (Lowe 2004, section 7.1)."""
REACH = 3.0
"""Pixels by which a match may miss its place."""
ZOOM = (0.25, 4.0)
"""From one picture of a lesion to another."""
COVERED = 0.1
"""Least share of the square, without the black around a field of view, that two images must have in common."""

PROMISING = 0.5
"""Similarity of two images, one turned and shifted only, from which it pays to look for a better way."""
CERTAIN = 0.9
"""Similarity from which no better way is looked for."""
_ALL = np.full((AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE), 255, np.uint8)
_WINDOW = cv2.createHanningWindow((AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE), cv2.CV_32F)

Warp = NDArray[np.float32]
"""(2, 3), from the pixels of the second image to those of the first."""


@dataclass(frozen=True)
class Alignment:
    """How two images agree where they overlap.

    Attributes:
        similarity: correlation of their local contrast, in [-1, 1]. Brightness, color cast and slow shading do not
            count.
        overlap: share of the second image that the first one covers, in [0, 1].
        matches: key points of both that one similarity transformation (shift, rotation, zoom) lays on each other.

    """

    similarity: float
    overlap: float
    matches: int


NOT_ALIKE = Alignment(0.0, 0.0, 0)


def aligned(
    looks: ImageDescriptors, one: int, other: int, turn: tuple[bool, bool, bool] | None, least: int
) -> Alignment:
    """Lay two images on each other by their key points or, where these do not suffice, in a given way.

    Args:
        looks: see `ImageDescriptors`.
        one: row of an image.
        other: row of another.
        turn: how to lay the first on the second where key points do not say; None for no such attempt.
        least: matches below which key points say nothing.

    """
    matches, warp = by_matches(looks, one, other, least)
    best = NOT_ALIKE
    if warp is None and turn is None:
        return best
    first, second = (gray(looks.squares[row : row + 1][0]) for row in (one, other))
    if warp is not None:
        best = _best(first, second, warp, matches)
    if turn is not None and best.similarity < PROMISING:
        shifted = _shifted(first, second, dihedral_warp(turn))
        if _compared(first, second, shifted, 0).similarity >= PROMISING:
            best = max(best, _best(first, second, shifted, 0), key=_similarity)
    return best


def _similarity(alignment: Alignment) -> float:
    return alignment.similarity


def _best(first: NDArray[np.uint8], second: NDArray[np.uint8], warp: Warp, matches: int) -> Alignment:
    found = _compared(first, second, warp, matches)
    if found.similarity >= CERTAIN:
        return found
    return max(found, _compared(first, second, _refined(first, second, warp), matches), key=_similarity)


def _shifted(first: NDArray[np.uint8], second: NDArray[np.uint8], warp: Warp) -> Warp:
    """With the shift that phase correlation finds (Kuglin and Hines 1975)."""
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


def by_matches(looks: ImageDescriptors, one: int, other: int, least: int = 3) -> tuple[int, Warp | None]:
    """Matching key points that agree on a similarity transformation, and that; RANSAC with a fixed seed.

    Args:
        looks: see `ImageDescriptors`.
        one: row of an image.
        other: row of another.
        least: matches below which they say nothing: 0 and None are returned.

    """
    a, b = (looks.descriptors[row, : looks.counts[row]].astype(np.float32) for row in (one, other))
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
    there, here = looks.places[other][good], looks.places[one][nearest[good]]
    warp, agree = cv2.estimateAffinePartial2D(there, here, method=cv2.RANSAC, ransacReprojThreshold=REACH, maxIters=500)
    if warp is None or not ZOOM[0] < np.hypot(warp[0, 0], warp[0, 1]) < ZOOM[1]:
        return 0, None
    agree = agree.ravel().astype(bool)
    # Several matches that meet in one point are one.
    counted = min(len(np.unique(np.round(p[agree] / 2), axis=0)) for p in (here, there))
    return (counted, np.asarray(warp, np.float32)) if counted >= least else (0, None)


def dihedral_warp(turn: tuple[bool, bool, bool]) -> Warp:
    """The warp of one of the eight ways to lay a square on itself."""
    swap, across, down = turn
    last = AUDIT_IMAGE_SIZE - 1
    x = [-1.0, 0.0, last] if across else [1.0, 0.0, 0.0]  # place in the transposed first image of a pixel
    y = [0.0, -1.0, last] if down else [0.0, 1.0, 0.0]
    return np.array([y, x] if swap else [x, y], np.float32)


def _refined(first: NDArray[np.uint8], second: NDArray[np.uint8], warp: Warp) -> Warp:
    """By the enhanced correlation coefficient (Evangelidis and Psarakis 2008), any affine map."""
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
    if covered.mean() < COVERED:
        return NOT_ALIKE
    weight = covered.astype(np.float32)
    x, y = (_contrast(image, weight)[covered] for image in (moved, target))
    x, y = x - x.mean(), y - y.mean()
    both = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return Alignment(float((x * y).sum()) / both if both > 0 else 0.0, overlap, matches)


def _contrast(image: NDArray[Any], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Deviation from the surroundings in units of its usual size there, so that a lesion's edge, which all lesions
    have, counts no more than its pattern. Noise of two gray levels and JPEG's finest traces do not count.
    """

    def around(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.GaussianBlur(values * weight, (0, 0), 6) / share, np.float32)

    share = np.maximum(cv2.GaussianBlur(weight, (0, 0), 6), 1e-3)
    deviation = cv2.GaussianBlur(image, (0, 0), 1) - around(image)
    return np.asarray(deviation / np.sqrt(around(deviation**2) + 4), np.float32)
