"""Random views of training images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nevus._torchvision import functional as F


@dataclass(frozen=True)
class Augment:
    """What a training view may differ in from the stored image.

    Attributes:
        side: of the view, in pixels.
        scale: range of the crop's side as a share of the stored image's side. (0.8, 0.8) of 160 pixels is
            BiT's random crop of 128, taken without resampling; a range with 1 at its end zooms.
        mirror: left-right, in half of the views.
        turns: quarter turns, each as likely: a dermoscope has no upright.
        brightness: largest relative change; likewise `contrast` and `saturation`.

    """

    side: int
    scale: tuple[float, float] = (0.8, 0.8)
    mirror: bool = True
    turns: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __call__(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Views of a batch.

        Args:
            pixels: uint8 of shape (n, stored side, stored side, 3).
            rng: the only source of randomness.

        Returns:
            uint8 of shape (n, side, side, 3).

        """
        return self.views(pixels, self.draws(len(pixels), rng))

    def draws(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Random numbers for `n` views, float64 (n, 8) in [0, 1).

        One fixed number of draws an image, so that what one image gets does not depend on the settings for
        another.
        """
        return rng.random((n, 8))

    def views(self, pixels: np.ndarray, draws: NDArray[np.float64]) -> np.ndarray:
        """Views, uint8 (n, side, side, 3), of pixels by their draws, a row an image."""
        views = [self._view(torch.from_numpy(image), draw) for image, draw in zip(pixels, draws, strict=True)]
        return torch.stack(views).permute(0, 2, 3, 1).numpy()

    def _view(self, image: Tensor, draw: np.ndarray) -> Tensor:
        stored = image.shape[0]
        low, high = self.scale
        crop = min(stored, round(stored * (low + (high - low) * draw[0])))
        top, left = (int(d * (stored - crop + 1)) for d in draw[1:3])
        view = F.crop(image.permute(2, 0, 1), top, left, crop, crop)
        if crop != self.side:
            view = F.resize(view, [self.side, self.side], antialias=True)
        if self.mirror and draw[3] < 0.5:
            view = F.horizontal_flip(view)
        if self.turns:
            view = torch.rot90(view, int(draw[4] * 4), (1, 2))
        for strength, change, amount in (
            (self.brightness, F.adjust_brightness, draw[5]),
            (self.contrast, F.adjust_contrast, draw[6]),
            (self.saturation, F.adjust_saturation, draw[7]),
        ):
            if strength:
                view = change(view, 1 + strength * (2 * amount - 1))
        return torch.as_tensor(view)
