"""Regions of an image with and without the lesion."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nevus.data.images import Pixels
from nevus.models.handcrafted.lesion import Mask, lesion_mask, middle

RING = 0.1
"""Width of the border ring as a share of the side."""
MARGIN = 0.06
"""Width by which the lesion mask is dilated, as a share of the side, so that it contains the whole edge."""


def everything(pixels: Pixels) -> Mask:
    """Return a mask of every pixel."""
    return np.ones(pixels.shape[:2], bool)


def ring(pixels: Pixels) -> Mask:
    """Return a mask of the border, a tenth of the side wide. A lesion rarely reaches it."""
    image_size = len(pixels)
    inside = np.ones((image_size, image_size), bool)
    width = round(RING * image_size)
    inside[width:-width, width:-width] = False
    return inside


def lesion(pixels: Pixels) -> Mask:
    """Return a generous mask of the lesion; the middle of the image where none is found."""
    image_size = len(pixels)
    mask = lesion_mask(pixels)
    if mask is None:
        return middle(image_size)
    width = 2 * round(MARGIN * image_size) + 1
    wide = cv2.dilate(mask.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    return np.asarray(wide > 0)


def surroundings(pixels: Pixels) -> Mask:
    """Return a mask of everything but the lesion and a margin around it."""
    return np.asarray(~lesion(pixels))


def only(pixels: Pixels, mask: Mask) -> Pixels:
    """Return the image with everything outside of the mask in mid-gray."""
    return np.where(mask[..., None], pixels, np.uint8(128))


def describe_region(pixels: Pixels, mask: Mask) -> NDArray[np.float32]:
    """Describe color and texture under a mask, float32 (47,); zeros where the mask is empty.

    Of L, a and b: mean, standard deviation and the 1st, 10th, 25th, 50th, 75th, 90th and 99th percentile (27); mean
    and percentiles of the luminance's gradient at two scales (12); mean L in each of eight sectors (8), for dark
    corners and side light.
    """
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    values = lab[mask]
    if not len(values):
        return np.zeros(47, np.float32)
    parts = [values.mean(0), values.std(0), *np.percentile(values, (1, 10, 25, 50, 75, 90, 99), axis=0)]
    # The blurred luminance inside of the mask must not depend on pixels outside of it.
    own = np.where(mask, lab[..., 0], values[:, 0].mean()).astype(np.float32)
    for scale in (1.0, 3.0):
        light = cv2.GaussianBlur(own, (0, 0), scale)
        steep = np.hypot(cv2.Sobel(light, cv2.CV_32F, 1, 0), cv2.Sobel(light, cv2.CV_32F, 0, 1))[mask]
        parts += [np.r_[steep.mean(), np.percentile(steep, (10, 50, 75, 90, 99))]]
    y, x = np.indices(mask.shape) - (len(mask) - 1) / 2
    sector = ((np.arctan2(y, x) + np.pi) / (2 * np.pi) * 8).astype(int) % 8
    parts += [[lab[..., 0][mask & (sector == s)].mean() if (mask & (sector == s)).any() else -1.0 for s in range(8)]]
    return np.concatenate(parts).astype(np.float32)
