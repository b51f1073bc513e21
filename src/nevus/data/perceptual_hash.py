"""Perceptual hashes: equal for copies of an image that were resized, compressed, brightened, rotated by 90 degrees."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from nevus._progress import progress
from nevus.data.images import Pixels

AUDIT_IMAGE_SIZE = 128
"""Side in pixels of the squares that the audit compares. Squeezed copies of other proportions agree there."""
FREQUENCIES = 12
"""Frequencies of the hash's cosine transform along each axis."""
MAX_HAMMING_DISTANCE = 8
"""Largest number of differing bits, of 143, between the hashes of two copies of one image. docs/results.md gives the
recall."""
CHUNK = 1024
"""Images that are compared with the whole index at once."""

_FREQUENCY = np.hypot(*np.indices((FREQUENCIES, FREQUENCIES)))
DIHEDRAL_GROUP = tuple(
    (dihedral, across, down) for dihedral in (False, True) for across in (False, True) for down in (False, True)
)
"""The eight symmetries of a square: transposition, then horizontal, then vertical reflection."""


def gray(pixels: Pixels) -> NDArray[np.uint8]:
    """Return the luminance, uint8 (image_size, image_size)."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY), np.uint8)


def perceptual_hash(pixels: Pixels) -> NDArray[np.float32]:
    """Compute a perceptual hash that is not reduced to bits: float32 (143,), of length 1.

    The low frequencies of the luminance's cosine transform without its mean, as in pHash. Each is multiplied by its
    frequency: in natural images they fall off as 1/f, so the first few, which are alike for every dark lesion on
    bright skin, would dominate.
    """
    small = cv2.resize(gray(pixels), (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = dctn(small, norm="ortho")[:FREQUENCIES, :FREQUENCIES] * _FREQUENCY
    flat = low.ravel()[1:]
    return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-6), np.float32)


def dihedral(prints: NDArray[np.float32], turn: tuple[bool, bool, bool]) -> NDArray[np.float32]:
    """Transform perceptual hashes (n, 143) to those of the rotated or reflected images.

    A reflection changes the signs of odd frequencies of a cosine transform; a transposition transposes it.
    """
    swap, across, down = turn
    full = np.concatenate([np.zeros((len(prints), 1), np.float32), prints], 1)
    full = full.reshape(-1, FREQUENCIES, FREQUENCIES)
    if swap:
        full = full.swapaxes(1, 2)
    odd = (-1.0) ** np.arange(FREQUENCIES)
    if across:
        full = full * odd[None, None, :]
    if down:
        full = full * odd[None, :, None]
    return np.asarray(full.reshape(len(prints), -1)[:, 1:], np.float32)


def pack_bits(prints: NDArray[np.float32]) -> list[bytes]:
    """Pack the signs of perceptual hashes (n, 143), one bit each, into 18 bytes."""
    return [row.tobytes() for row in np.packbits(prints >= 0, axis=1)]


def unpack_signs(hashes: Sequence[bytes]) -> NDArray[np.float32]:
    """Unpack n hashes to signs -1 and 1, float32 (n, 143)."""
    bits = np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), -1)
    return np.unpackbits(bits, axis=1, count=FREQUENCIES**2 - 1).astype(np.float32) * 2 - 1


def hamming_distance(prints: NDArray[np.float32], listed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Count the bits in which images differ from listed ones, in the best of the eight rotations and reflections.

    Args:
        prints: perceptual hashes (n, 143).
        listed: signs (m, 143).

    Returns:
        float32 (n, m), 0 to 143.

    """
    mine = (np.where(dihedral(prints, turn) >= 0, 1, -1).astype(np.float32) for turn in DIHEDRAL_GROUP)
    # The product of signs is the number of equal bits less that of different ones.
    return np.asarray(np.min([(listed.shape[1] - one @ listed.T) / 2 for one in mine], axis=0), np.float32)


def near_duplicates(prints: NDArray[np.float32], theirs: Sequence[bytes]) -> dict[int, int]:
    """Return the images, hashes (n, 143), that are copies of a listed one, even if turned or mirrored, and of which.

    A progress bar is shown.
    """
    listed_signs = unpack_signs(theirs)
    found = {}
    with progress() as bar:
        task = bar.add_task("comparing hashes", total=len(prints), note="")
        for start in range(0, len(prints), CHUNK):
            piece = prints[start : start + CHUNK]
            near = hamming_distance(piece, listed_signs)
            best = near.argmin(1)
            close = near[np.arange(len(piece)), best] <= MAX_HAMMING_DISTANCE
            for k in np.flatnonzero(close).tolist():
                found[start + k] = int(best[k])
            bar.advance(task, len(piece))
    return found
