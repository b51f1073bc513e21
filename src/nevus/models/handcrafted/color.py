"""Colors of a lesion, and how they differ from its surroundings."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nevus.data.images import Pixels
from nevus.models.handcrafted.lesion import Mask

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CHANNELS = ("lightness", "a", "b", "saturation", "value", "hue_cos", "hue_sin")


def channels(pixels: Pixels) -> NDArray[np.float32]:
    """Lab and HSV, float32 (image_size, image_size, 7) in the order of `CHANNELS`.

    L in [0, 100], a and b about 0, saturation and value in [0, 1]. The hue is an angle, so its cosine and sine
    stand for it, times the saturation: the hue of gray is noise.
    """
    unit = pixels.astype(np.float32) / 255
    lab = cv2.cvtColor(unit, cv2.COLOR_RGB2LAB)
    hue, saturation, value = cv2.split(cv2.cvtColor(unit, cv2.COLOR_RGB2HSV))
    angle = np.deg2rad(hue)
    return np.dstack([lab, saturation, value, saturation * np.cos(angle), saturation * np.sin(angle)])


def color_features(pixels: Pixels, mask: Mask) -> dict[str, float]:
    """Compute statistics of each of `CHANNELS` under the mask, by name.

    Mean, standard deviation, skewness, `QUANTILES`, and the difference of the mean from that of the surroundings.
    """
    values = channels(pixels).astype(np.float64)  # of thousands of pixels
    inside, outside = values[mask], values[~mask]
    mean, std = inside.mean(0), inside.std(0)
    skew = (((inside - mean) / np.maximum(std, 1e-6)) ** 3).mean(0)
    quantiles = np.quantile(inside, QUANTILES, axis=0)
    above = mean - (outside.mean(0) if len(outside) else mean)
    rows = {"mean": mean, "std": std, "skew": skew, "above_surroundings": above}
    rows |= {f"q{round(100 * q)}": row for q, row in zip(QUANTILES, quantiles, strict=True)}
    return {
        f"color:{channel}:{name}": float(value)
        for name, row in rows.items()
        for channel, value in zip(CHANNELS, row, strict=True)
    }
