"""Handcrafted features of a picture of a lesion."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from nevus.data.images import Pixels
from nevus.models.handcrafted.abcd import Abcd, abcd
from nevus.models.handcrafted.colour import colour_features
from nevus.models.handcrafted.lesion import Mask, lesion_mask, middle
from nevus.models.handcrafted.texture import texture_features

SIDE = 128
"""Of the pictures that are described, in pixels: the thresholds of the ABCD rule are made for it."""
VERSION = 1
"""Raised whenever a feature changes, so that none of another version is used."""


def described(pixels: Pixels) -> dict[str, float]:
    """Every feature by name: those of the ABCD rule, of colour, and of texture.

    Args:
        pixels: uint8 (128, 128, 3).

    """
    mask = mask_of(pixels)
    counted = abcd(pixels, mask)
    counts = {
        "abcd:A": counted.asymmetry,
        "abcd:B": counted.border,
        "abcd:C": counted.colours,
        "abcd:D": counted.structures,
        "abcd:score": counted.score,
    }
    return {
        **{name: float(value) for name, value in counts.items()},
        **counted.measures,
        **colour_features(pixels, mask),
        **texture_features(pixels, mask),
    }


def mask_of(pixels: Pixels) -> Mask:
    """Where the lesion is; the middle of the picture where none stands out."""
    mask = lesion_mask(pixels)
    return middle(len(pixels)) if mask is None else mask


def counted(pixels: Pixels) -> Abcd:
    """What the ABCD rule counts in a picture, uint8 (128, 128, 3)."""
    return abcd(pixels, mask_of(pixels))


def vector(pixels: Pixels) -> NDArray[np.float32]:
    """The features in the order of `names`, float32 (features,)."""
    return np.fromiter(described(pixels).values(), np.float32)


@cache
def names() -> tuple[str, ...]:
    """Of the features, in the order of `vector`."""
    return tuple(described(np.zeros((SIDE, SIDE, 3), np.uint8)))
