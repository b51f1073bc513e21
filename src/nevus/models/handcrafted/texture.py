"""Texture of a lesion: local binary patterns, gray-level co-occurrence, Gabor filters, oriented gradients."""

from __future__ import annotations

import math
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.feature import graycomatrix, graycoprops, hog, local_binary_pattern
from skimage.filters import gabor_kernel

from nevus.data.images import Pixels
from nevus.models.handcrafted.lesion import Mask

PATTERNS = ((8, 1), (16, 2))
"""Of local binary patterns: points and radius."""
LEVELS = 32
DISTANCES = (1, 3)
ANGLES = tuple(k * math.pi / 4 for k in range(4))
PROPERTIES = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation")
FREQUENCIES = (0.08, 0.16, 0.32)
"""Of the Gabor filters, in periods a pixel."""
CELLS, ORIENTATIONS = 4, 8
"""Of the oriented gradients: cells along a side, and bins of half a circle."""


def texture_features(pixels: Pixels, mask: Mask) -> dict[str, float]:
    """By name, of the luminance.

    - `lbp`: shares of the uniform, rotation-invariant local binary patterns (Ojala et al. 2002) under the mask.
    - `glcm`: properties of the co-occurrence of gray levels (Haralick et al. 1973) in the lesion's frame: mean and
      range over four directions.
    - `gabor`: energy of Gabor filters under the mask: mean and range over four directions.
    - `hog`: histograms of oriented gradients (Dalal and Triggs 2005) of the whole picture.
    """
    gray = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    return {**_lbp(gray, mask), **_glcm(gray, mask), **_gabor(gray, mask), **_hog(gray)}


def _lbp(gray: NDArray[np.uint8], mask: Mask) -> dict[str, float]:
    found: dict[str, float] = {}
    for points, radius in PATTERNS:
        codes = local_binary_pattern(gray, points, radius, method="uniform")[mask].astype(int)
        shares = np.bincount(codes, minlength=points + 2) / len(codes)
        found |= {f"lbp:{points}:{code}": float(share) for code, share in enumerate(shares)}
    return found


def _glcm(gray: NDArray[np.uint8], mask: Mask) -> dict[str, float]:
    y, x = np.nonzero(mask)
    # A frame of one pixel has no neighbors.
    top, left = min(y.min(), len(gray) - 8), min(x.min(), len(gray) - 8)
    frame = gray[top : max(y.max() + 1, top + 8), left : max(x.max() + 1, left + 8)]
    matrix = graycomatrix(frame // (256 // LEVELS), DISTANCES, ANGLES, LEVELS, symmetric=True, normed=True)
    found = {}
    for name in PROPERTIES:
        for distance, values in zip(DISTANCES, graycoprops(matrix, name), strict=True):
            found[f"glcm:{distance}:{name}"] = float(values.mean())
            found[f"glcm:{distance}:{name}_range"] = float(np.ptp(values))
    return found


@cache
def _kernels() -> list[tuple[float, NDArray[np.complex128]]]:
    return [(f, gabor_kernel(f, angle)) for f in FREQUENCIES for angle in ANGLES]


def _gabor(gray: NDArray[np.uint8], mask: Mask) -> dict[str, float]:
    light = gray.astype(np.float32) / 255
    light = light - light[mask].mean()
    energies: dict[float, list[float]] = {f: [] for f in FREQUENCIES}
    for frequency, kernel in _kernels():
        real = cv2.filter2D(light, cv2.CV_32F, kernel.real.astype(np.float32), borderType=cv2.BORDER_REFLECT)
        imaginary = cv2.filter2D(light, cv2.CV_32F, kernel.imag.astype(np.float32), borderType=cv2.BORDER_REFLECT)
        energies[frequency].append(float(np.hypot(real, imaginary)[mask].mean()))
    found = {}
    for frequency, values in energies.items():
        found[f"gabor:{frequency}:mean"] = float(np.mean(values))
        found[f"gabor:{frequency}:range"] = float(np.ptp(values))
    return found


def _hog(gray: NDArray[np.uint8]) -> dict[str, float]:
    cell = len(gray) // CELLS
    values = hog(gray, ORIENTATIONS, (cell, cell), (1, 1), block_norm="L2")
    return {f"hog:{number}": float(value) for number, value in enumerate(values)}
