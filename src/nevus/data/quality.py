"""Quality of an image by its pixels: reasons why it may not show a lesion, and its sharpness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nevus.data.images import Pixels

MIN_STD = 3.0
"""Standard deviation of the luminance, in gray levels, below which an image is nearly uniform."""
MAX_BLACK = 24
"""Luminance of the 99th percentile below which an image is nearly black, as 12 bits in 16-bit files are."""
MAX_FLAT = 0.15
"""Share of blocks without any variation, neither black nor white, from which an image has a large flat region."""
MAX_WHITE = 0.5
"""Share of nearly white pixels from which an image counts as a document or a drawing."""
MAX_GRAY_DIFFERENCE = 6
"""Difference of a pixel's largest and smallest channel up to which it counts as gray."""
MAX_BRIGHT = 0.35
"""Share of pixels without any detail left in the highlights from which an image counts as overexposed."""


def _extremes(pixels: Pixels) -> tuple[Pixels, Pixels]:
    """Return the smallest and the largest channel of each pixel, (h, w); by channel, which is fast for three."""
    r, g, b = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return np.minimum(np.minimum(r, g), b), np.maximum(np.maximum(r, g), b)


def _flat_share(pixels: Pixels) -> float:
    """Return the share of blocks of 8 x 8 pixels that have one color, which is neither black nor white."""
    height, width = (side // 8 * 8 for side in pixels.shape[:2])
    # One axis after the other: numpy is slow where it reduces the last but one of small axes.
    strips = pixels[:height, :width].reshape(height // 8, 8, width * 3)
    blocks = (height // 8, width // 8, 8, 3)
    low, high = strips.min(1).reshape(blocks).min(2), strips.max(1).reshape(blocks).max(2)
    flat = (low == high).all(-1) & (low.max(-1) > 10) & (low.min(-1) < 245)
    return float(flat.mean())


def image_issue(pixels: Pixels) -> str:
    """Return why an image, uint8 (h, w, 3), probably shows no lesion; an empty string where there is no reason."""
    step = max(1, min(pixels.shape[:2]) // 128)
    values = pixels[::step, ::step]
    luminance = (values[..., 0].astype(np.uint16) + values[..., 1] + values[..., 2]) / 3
    if float(np.percentile(luminance, 99)) < MAX_BLACK:
        return "nearly black"
    if float(luminance.std()) < MIN_STD:
        return "nearly uniform"
    if _flat_share(pixels) > MAX_FLAT:
        return "a large flat region, as a damaged file has"
    low, high = _extremes(values)
    color = high - low
    if float(((low > 225) & (color < MAX_GRAY_DIFFERENCE * 2)).mean()) > MAX_WHITE:
        return "a document or a drawing: mostly white"
    return "no color" if float((color <= MAX_GRAY_DIFFERENCE).mean()) > 0.98 else ""


def overexposed(pixels: Pixels) -> bool:
    """Whether much of an image, uint8 (h, w, 3), is too bright to show detail."""
    return float((_extremes(pixels)[0] >= 250).mean()) > MAX_BRIGHT


def sharpness(pixels: Pixels) -> NDArray[np.float64]:
    """Return the sharpness of images of one size, uint8 (n, h, w, 3), as float64 (n,).

    It is the mean difference of neighboring pixels, divided by that of the image at half its size. Smooth gradients
    and lone edges give 0.5. Fine texture adds to the difference and averages out at half the size: the value rises,
    to 2 for pure noise. Blur removes texture first. Contrast and brightness cancel out.
    """
    return np.array([_sharpness(one) for one in pixels], np.float64)


def _sharpness(pixels: Pixels) -> float:
    r, g, b = (pixels[..., channel].astype(np.float32) for channel in range(3))
    y = np.float32(0.299) * r + np.float32(0.587) * g + np.float32(0.114) * b
    h, w = (side // 2 * 2 for side in y.shape)
    # By slices: numpy is slow where it reduces small axes.
    half = (y[0:h:2, 0:w:2] + y[1:h:2, 0:w:2] + y[0:h:2, 1:w:2] + y[1:h:2, 1:w:2]) / 4
    return _difference(y) / (_difference(half) + 0.1)


def _difference(y: NDArray[np.float32]) -> float:
    return float(sum(np.abs(np.diff(y, axis=axis)).mean(dtype=np.float64) for axis in (1, 0)))
