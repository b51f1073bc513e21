"""Where the lesion is in a picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nevus.data.images import Pixels

Mask = NDArray[np.bool_]
"""Bool (image_size, image_size)."""


def lesion_mask(pixels: Pixels) -> Mask | None:
    """Where the lesion is, roughly; None where nothing stands out.

    Otsu's threshold (1979) on the distance of each pixel's color from that of the surroundings, in Lab. Dark
    corners do not count as lesion. Of the parts that remain the one counts that is largest, weighed by how near it
    lies to the middle, and with it all that are a quarter as large.

    Args:
        pixels: uint8 (image_size, image_size, 3).

    """
    image_size = len(pixels)
    lab = cv2.cvtColor(cv2.GaussianBlur(pixels, (0, 0), image_size / 64), cv2.COLOR_RGB2LAB).astype(np.float32)
    far = distance_from_middle(image_size)
    lit = lab[..., 0] > 40
    around = lit & (far > 0.7)
    if not around.any():
        return None
    distance = np.linalg.norm(lab - np.median(lab[around], axis=0), axis=-1) * lit
    level = cv2.threshold(np.clip(distance, 0, 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)[0]
    count, parts, stats, centers = cv2.connectedComponentsWithStats((distance > max(level, 8)).astype(np.uint8))
    if count < 2:
        return None
    off = np.hypot(*((centers[1:] - (image_size - 1) / 2) / (image_size / 2)).T)
    weight = stats[1:, cv2.CC_STAT_AREA] * np.exp(-2 * off**2)
    mask = np.isin(parts, 1 + np.flatnonzero(weight >= weight.max() / 4))
    return None if mask.mean() < 0.005 else np.asarray(mask)


def middle(image_size: int) -> Mask:
    """The disc that is taken where no lesion stands out."""
    return np.asarray(distance_from_middle(image_size) < 0.6)


def distance_from_middle(image_size: int) -> NDArray[np.float64]:
    """Of each pixel, (image_size, image_size), in halves of the side."""
    y, x = (np.indices((image_size, image_size)) - (image_size - 1) / 2) / (image_size / 2)
    return np.asarray(np.hypot(x, y))
