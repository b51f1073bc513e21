"""Alignment of two images, and the similarity of their pixels where they overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nevus.auditing.duplicates.descriptors import ImageDescriptors, field_of_view_mask
from nevus.data.images import Pixels
from nevus.data.perceptual_hash import AUDIT_IMAGE_SIZE, gray

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
_NEVER = np.float32(1e9)
"""More than any square of a distance."""
_CODE = np.array([AUDIT_IMAGE_SIZE, 1], np.float32)
"""Makes one number of a place."""
_WINDOW = cv2.createHanningWindow((AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE), cv2.CV_32F)

Warp = NDArray[np.float32]
"""(2, 3), from the pixels of the second image to those of the first."""
Matches = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Places of matching key points in the first and in the second image, (k, 2) each."""


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


class _Picture:
    """The luminance of an image, float32, and where it shows skin."""

    def __init__(self, pixels: Pixels) -> None:
        plain = gray(pixels)
        self.gray = plain.astype(np.float32)
        self.skin = field_of_view_mask(plain).astype(np.float32)


def align(
    described: ImageDescriptors,
    pair: tuple[int, int],
    matches: Matches,
    turn: tuple[bool, bool, bool] | None,
    least: int,
) -> Alignment:
    """Align two images by their key points or, where these do not suffice, by a given rotation or reflection.

    Args:
        described: see `ImageDescriptors`.
        pair: rows of two images.
        matches: their matching key points, see `matching_points`.
        turn: rotation or reflection of the first where key points do not decide; None for no such attempt.
        least: number of matches below which key points do not decide.

    """
    count, warp = agreeing(matches, least)
    best = NO_ALIGNMENT
    if warp is None and turn is None:
        return best
    first, second = (_Picture(described.squares[row : row + 1][0]) for row in pair)
    if warp is not None:
        best = _best(first, second, warp, count)
    if turn is not None and best.similarity < REFINE_SIMILARITY:
        shifted = _shifted(first, second, dihedral_warp(turn))
        if _compared(first, second, shifted, 0).similarity >= REFINE_SIMILARITY:
            best = max(best, _best(first, second, shifted, 0), key=_similarity)
    return best


def _similarity(alignment: Alignment) -> float:
    return alignment.similarity


def _best(first: _Picture, second: _Picture, warp: Warp, matches: int) -> Alignment:
    found = _compared(first, second, warp, matches)
    if found.similarity >= SURE_SIMILARITY:
        return found
    return max(found, _compared(first, second, _refined(first, second, warp), matches), key=_similarity)


def _shifted(first: _Picture, second: _Picture, warp: Warp) -> Warp:
    """Add the shift that phase correlation finds (Kuglin and Hines 1975)."""
    turned = _warped(first.gray, warp)
    whole = np.ones_like(turned)
    there, here = (_contrast(image, whole, whole) for image in (second.gray, turned))
    shift, _ = cv2.phaseCorrelate(there, here, _WINDOW)
    if max(map(abs, shift)) > AUDIT_IMAGE_SIZE / 4:
        return warp
    moved = warp.copy()
    moved[:, 2] += warp[:, :2] @ np.asarray(shift, np.float32)
    return moved


def matching_points(described: ImageDescriptors, pairs: Sequence[tuple[int, int]]) -> list[Matches]:
    """Match the key points of pairs of images: each of the second's with the nearest of the first's, if it is clear.

    The pairs are compared together, in few operations on large arrays, during which other threads can run.

    Args:
        described: see `ImageDescriptors`.
        pairs: rows of images.

    """
    one, other = np.asarray(pairs, np.int64).T
    counts, most = described.counts, max(int(described.counts[np.unique(pairs)].max()), 2)
    places = np.arange(most)
    a, b = (described.descriptors[rows, :most].astype(np.float32) for rows in (one, other))
    # The squares are whole numbers below 2 ** 24: nothing is rounded.
    far = -2 * (b @ a.swapaxes(1, 2))
    far += np.square(b).sum(2)[:, :, None]
    far += (np.square(a).sum(2) + np.where(places < counts[one, None], 0, _NEVER))[:, None, :]
    nearest = far.argmin(2)
    distance = np.take_along_axis(far, nearest[:, :, None], 2)[:, :, 0]
    np.put_along_axis(far, nearest[:, :, None], np.inf, 2)
    runner_up = far.min(2)
    good = (distance < RATIO**2 * runner_up) & (runner_up < _NEVER) & (places < counts[other, None])
    found = []
    for row, (first, second) in enumerate(pairs):
        kept = np.flatnonzero(good[row])
        found.append((described.places[first][nearest[row, kept]], described.places[second][kept]))
    return found


def agreeing(matches: Matches, least: int) -> tuple[int, Warp | None]:
    """Count the matches that agree on a similarity transformation, and return it (RANSAC, fixed seed).

    Args:
        matches: see `matching_points`.
        least: number of matches below which 0 and None are returned.

    """
    here, there = matches
    if len(here) < max(least, 3):
        return 0, None
    warp, agree = cv2.estimateAffinePartial2D(
        there, here, method=cv2.RANSAC, ransacReprojThreshold=MAX_RESIDUAL, maxIters=500
    )
    if warp is None or not ZOOM[0] < np.hypot(warp[0, 0], warp[0, 1]) < ZOOM[1]:
        return 0, None
    kept = agree.ravel().astype(bool)
    if kept.sum() < least:
        return 0, None
    # Several matches that meet in one point are one.
    counted = min(len(np.unique(np.round(places[kept] / 2) @ _CODE)) for places in (here, there))
    return (counted, np.asarray(warp, np.float32)) if counted >= least else (0, None)


def dihedral_warp(turn: tuple[bool, bool, bool]) -> Warp:
    """Return the warp of one of the eight symmetries of a square."""
    swap, across, down = turn
    last = AUDIT_IMAGE_SIZE - 1
    x = [-1.0, 0.0, last] if across else [1.0, 0.0, 0.0]  # place in the transposed first image of a pixel
    y = [0.0, -1.0, last] if down else [0.0, 1.0, 0.0]
    return np.array([y, x] if swap else [x, y], np.float32)


def _refined(first: _Picture, second: _Picture, warp: Warp) -> Warp:
    """Refine an affine map by the enhanced correlation coefficient (Evangelidis and Psarakis 2008)."""
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 1e-3)
    try:
        _, better = cv2.findTransformECC(second.gray, first.gray, warp.copy(), cv2.MOTION_AFFINE, stop, _ALL, 5)
    except cv2.error:  # it does not converge: the two are not alike
        return warp
    zoom = abs(float(np.linalg.det(better[:, :2]))) ** 0.5
    return np.asarray(better, np.float32) if ZOOM[0] < zoom < ZOOM[1] else warp


def _warped(image: NDArray[np.float32], warp: Warp) -> NDArray[np.float32]:
    size = (AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE)
    return np.asarray(cv2.warpAffine(image, warp, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP), np.float32)


def _compared(first: _Picture, second: _Picture, warp: Warp, matches: int) -> Alignment:
    source: NDArray[Any] = first.gray
    target: NDArray[Any] = second.gray
    zoom = abs(float(np.linalg.det(warp[:, :2]))) ** 0.5
    if zoom > 1:  # the first is the larger one: what the second cannot show is taken out
        source = cv2.GaussianBlur(source, (0, 0), 0.5 * zoom)
    elif zoom < 1:
        target = cv2.GaussianBlur(target, (0, 0), 0.5 / zoom)
    moved = _warped(source, warp)
    covered = _warped(np.ones_like(source), warp) > 0.99
    overlap = float(covered.mean())
    covered &= (_warped(first.skin, warp) > 0.99) & (second.skin > 0)
    if covered.mean() < MIN_OVERLAP:
        return NO_ALIGNMENT
    weight = covered.astype(np.float32)
    share = np.maximum(_around(weight), 1e-3)
    x, y = (_contrast(image, weight, share)[covered] for image in (moved, target))
    x, y = x - x.mean(), y - y.mean()
    both = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return Alignment(float((x * y).sum()) / both if both > 0 else 0.0, overlap, matches)


def _contrast(
    image: NDArray[np.float32], weight: NDArray[np.float32], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the local contrast: the deviation from the surroundings, divided by its local standard deviation.

    A lesion's edge, which all lesions have, then counts no more than its pattern. Noise of two gray levels and the
    finest JPEG artifacts do not count.
    """
    deviation = cv2.GaussianBlur(image, (0, 0), 1) - _around(image * weight) / share
    return np.asarray(deviation / np.sqrt(_around(deviation * deviation * weight) / share + 4), np.float32)


def _around(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blur with a standard deviation of 6 pixels, computed at half the size: so wide a blur needs no more."""
    half = AUDIT_IMAGE_SIZE // 2
    small = cv2.GaussianBlur(cv2.resize(values, (half, half), interpolation=cv2.INTER_AREA), (0, 0), 3)
    return np.asarray(cv2.resize(small, values.shape, interpolation=cv2.INTER_LINEAR), np.float32)
