"""Handcrafted features of a picture of a lesion."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from nevus.data.images import Pixels
from nevus.models.handcrafted.abcd import AbcdMeasurements, abcd
from nevus.models.handcrafted.color import color_features
from nevus.models.handcrafted.lesion import Mask, lesion_mask, middle
from nevus.models.handcrafted.texture import texture_features

HANDCRAFTED_IMAGE_SIZE = 128
"""Of the pictures that are described, in pixels: the thresholds of the ABCD rule are made for it."""
VERSION = 1
"""Raised whenever a feature changes, so that none of another version is used."""


def feature_dict(pixels: Pixels) -> dict[str, float]:
    """Every feature by name: those of the ABCD rule, of color, and of texture.

    Args:
        pixels: uint8 (128, 128, 3).

    """
    mask = mask_of(pixels)
    measured = abcd(pixels, mask)
    counts = {
        "abcd:A": measured.asymmetry,
        "abcd:B": measured.border,
        "abcd:C": measured.colors,
        "abcd:D": measured.structures,
        "abcd:score": measured.score,
    }
    return {
        **{name: float(value) for name, value in counts.items()},
        **measured.measures,
        **color_features(pixels, mask),
        **texture_features(pixels, mask),
    }


def mask_of(pixels: Pixels) -> Mask:
    """Where the lesion is; the middle of the picture where none stands out."""
    mask = lesion_mask(pixels)
    return middle(len(pixels)) if mask is None else mask


def abcd_score(pixels: Pixels) -> AbcdMeasurements:
    """What the ABCD rule counts in a picture, uint8 (128, 128, 3)."""
    return abcd(pixels, mask_of(pixels))


def feature_vector(pixels: Pixels) -> NDArray[np.float32]:
    """The features in the order of `names`, float32 (features,)."""
    return np.fromiter(feature_dict(pixels).values(), np.float32)


@cache
def names() -> tuple[str, ...]:
    """Of the features, in the order of `feature_vector`."""
    return tuple(feature_dict(np.zeros((HANDCRAFTED_IMAGE_SIZE, HANDCRAFTED_IMAGE_SIZE, 3), np.uint8)))
