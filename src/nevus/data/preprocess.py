"""How an image becomes the square that a network takes; saved with every model and the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from nevus.data.images import LIMITS, Limits, Pixels, Source, decode

HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Preprocess:
    """The preprocessing of a network: resize directly to a square; then normalize, which `model.onnx` does itself.

    BiT evaluates so: the whole image is squeezed to the side that training crops have, without a center
    crop (Kolesnikov et al. 2020, section 3.3), in the value range [-1, 1] (mean = std = 0.5).

    Attributes:
        image_size: of the square, in pixels.
        mean: by channel (red, green, blue), of values in [0, 1].
        std: by channel, of values in [0, 1].

    """

    image_size: int = 128
    mean: tuple[float, float, float] = HALF
    std: tuple[float, float, float] = HALF

    def pixels(self, source: Source, limits: Limits = LIMITS) -> Pixels:
        """Decode and resize: uint8 of shape (image_size, image_size, 3).

        Raises:
            ImageError: the image cannot be used.

        """
        return resize_square(decode(source, limits), self.image_size)


def resize_square(pixels: Pixels, image_size: int) -> Pixels:
    """Resize to (image_size, image_size, 3), bilinear with antialiasing (Pillow widens the kernel when shrinking)."""
    if pixels.shape[:2] == (image_size, image_size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((image_size, image_size), Image.Resampling.BILINEAR))
