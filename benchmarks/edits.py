"""Edits of an image that leave it a near-duplicate."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

DATA = Path(os.environ.get("NEVUS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
"""Real images."""
Edit = Callable[[Image.Image, np.random.Generator], Image.Image]


def compressed(image: Image.Image, quality: int) -> Image.Image:
    """Through a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def cropped(image: Image.Image, share: float, x: float = 0.5, y: float = 0.5) -> Image.Image:
    """Without a share of width and height."""
    width, height = image.size
    left, top = width * share * x, height * share * y
    return image.crop((round(left), round(top), round(left + width * (1 - share)), round(top + height * (1 - share))))


EDITED: dict[str, Edit] = {
    "squeezed to a square of 224": lambda image, _: image.resize((224, 224), Image.Resampling.BICUBIC),
    "reduced to half": lambda image, _: image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX),
    "mirrored": lambda image, _: ImageOps.mirror(image),
    "turned by 90 degrees": lambda image, rng: image.rotate(90 * int(rng.choice([1, 3])), expand=True),
    "turned upside down": lambda image, _: image.rotate(180),
    "JPEG of quality 30": lambda image, _: compressed(image, 30),
    "shifted by 3 %": lambda image, rng: cropped(image, 0.03, *rng.choice([0.0, 1.0], 2)),
    "brightness changed by 30 %": lambda image, rng: ImageEnhance.Brightness(image).enhance(rng.choice([0.7, 1.3])),
    "cropped by 20 %": lambda image, rng: cropped(image, 0.2, *rng.random(2)),
    "all but turned": lambda image, rng: compressed(
        ImageEnhance.Brightness(cropped(image, 0.05, *rng.random(2)).resize((224, 224))).enhance(rng.uniform(0.8, 1.2)),
        60,
    ),
}
