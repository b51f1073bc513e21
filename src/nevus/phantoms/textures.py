"""Smooth random fields, the stuff that textures are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.floating[Any]]


def field(rng: np.random.Generator, image_size: int, grain: float) -> Field:
    """A smooth field of mean 0 and standard deviation 1.

    Args:
        rng: draws it.
        image_size: of the square, in pixels.
        grain: size of its features as a share of the side.

    Returns:
        float32 (image_size, image_size).

    """
    knots = max(3, round(1 / grain) + 2)
    coarse = Image.fromarray(rng.standard_normal((knots, knots)).astype(np.float32))
    made = np.asarray(coarse.resize((image_size, image_size), Image.Resampling.BICUBIC))
    return np.asarray((made - made.mean()) / (made.std() + 1e-6), np.float32)


def smoothstep(x: Field, low: float, high: float) -> Field:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def blend(base: Field, over: Field | float, alpha: Field) -> Field:
    """`base` (h, w, 3) with `over` laid on it by `alpha` (h, w)."""
    return np.asarray(base + (over - base) * alpha[..., None], np.float32)
