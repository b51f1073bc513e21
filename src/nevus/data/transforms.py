"""Random views of training images, and their normalization."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nevus._torchvision import functional as F
from nevus.data.decoded import DecodedImages
from nevus.data.preprocess import Preprocess


def normalize(pixels: np.ndarray | Tensor, preprocess: Preprocess) -> Tensor:
    """Normalize uint8 (n, h, w, 3) to the network's input, float32 (n, 3, h, w)."""
    values = torch.as_tensor(pixels).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (torch.tensor(v, device=values.device).view(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std))
    return values.sub_(mean).div_(std)


@dataclass(frozen=True)
class Augment:
    """What a training view may differ in from the stored image.

    Attributes:
        image_size: of the view, in pixels.
        scale: range of the crop's side as a share of the stored image's side. (0.8, 0.8) of 160 pixels is
            BiT's random crop of 128, taken without resampling; a range with 1 at its end zooms.
        hflip: left-right, in half of the views.
        rot90: quarter turns, each as likely: a dermoscope has no upright.
        brightness: largest relative change; likewise `contrast` and `saturation`.
        hue: largest shift of the hue, as a share of its circle.
        illumination: largest relative change of the light from one side of the view to the other, in any direction.
        vignette: largest darkening of the corners.
        blur: largest standard deviation of a blur, as a share of the side; in half of the views.
        jpeg_prob: share of views that go through a JPEG, of a quality between 20 and 90.

    """

    image_size: int
    scale: tuple[float, float] = (0.8, 0.8)
    hflip: bool = True
    rot90: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    illumination: float = 0.0
    vignette: float = 0.0
    blur: float = 0.0
    jpeg_prob: float = 0.0

    def __call__(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Views of a batch.

        Args:
            pixels: uint8 of shape (n, stored image_size, stored image_size, 3).
            rng: the only source of randomness.

        Returns:
            uint8 of shape (n, image_size, image_size, 3).

        """
        return self.apply(pixels, self.sample_params(len(pixels), rng))

    def sample_params(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Random numbers for `n` views, float64 (n, 16) in [0, 1).

        One fixed number of draws an image, so that what one image gets does not depend on the settings for
        another.
        """
        return np.concatenate([rng.random((n, 8)), rng.random((n, 8))], 1)

    def apply(self, pixels: np.ndarray, draws: NDArray[np.float64]) -> np.ndarray:
        """Views, uint8 (n, image_size, image_size, 3), of pixels by their draws, a row an image."""
        views = [self._view(torch.from_numpy(image), draw) for image, draw in zip(pixels, draws, strict=True)]
        return torch.stack(views).permute(0, 2, 3, 1).numpy()

    def _view(self, image: Tensor, draw: np.ndarray) -> Tensor:
        stored = image.shape[0]
        low, high = self.scale
        crop = min(stored, round(stored * (low + (high - low) * draw[0])))
        top, left = (int(d * (stored - crop + 1)) for d in draw[1:3])
        view = F.crop(image.permute(2, 0, 1), top, left, crop, crop)
        if crop != self.image_size:
            view = F.resize(view, [self.image_size, self.image_size], antialias=True)
        if self.hflip and draw[3] < 0.5:
            view = F.horizontal_flip(view)
        if self.rot90:
            view = torch.rot90(view, int(draw[4] * 4), (1, 2))
        for strength, change, amount in (
            (self.brightness, F.adjust_brightness, draw[5]),
            (self.contrast, F.adjust_contrast, draw[6]),
            (self.saturation, F.adjust_saturation, draw[7]),
        ):
            if strength:
                view = change(view, 1 + strength * (2 * amount - 1))
        if self.hue:
            view = F.adjust_hue(view, self.hue * (2 * draw[8] - 1))
        if self.illumination or self.vignette:
            view = self._illumination_gradient(torch.as_tensor(view), draw)
        if self.blur and draw[12] < 0.5:
            view = F.gaussian_blur(view, [9, 9], [max(0.1, self.blur * self.image_size * draw[13])] * 2)
        view = torch.as_tensor(view)
        return self._compressed(view, draw[15]) if draw[14] < self.jpeg_prob else view

    def _illumination_gradient(self, view: Tensor, draw: np.ndarray) -> Tensor:
        """Another light: brighter on one side, darker in the corners."""
        place = torch.linspace(-1, 1, self.image_size)
        down, across = place[:, None], place[None, :]
        angle = 2 * np.pi * float(draw[9])
        slope = (np.cos(angle) * down + np.sin(angle) * across) / 2**0.5
        light: Tensor = 1 + self.illumination * (2 * float(draw[10]) - 1) * slope
        light = light * (1 - self.vignette * float(draw[11]) * (down**2 + across**2) / 2)
        return (view * light).round().clamp(0, 255).to(torch.uint8)

    def _compressed(self, view: Tensor, quality: float) -> Tensor:
        buffer = io.BytesIO()
        Image.fromarray(view.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=20 + int(quality * 71))
        return torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1)


CHANGES = {f.name: f.default for f in fields(Augment) if f.name not in ("image_size", "scale")}
"""What views may differ in besides the crop, and by how much where nothing is said."""


@dataclass(frozen=True)
class AugmentedImages:
    """One view of each of many images, made when it is asked for and always the same.

    Attributes:
        pixels: the stored images.
        augment: what the views may differ in.
        draws: float64 (n, 16), of `Augment.sample_params`.

    """

    pixels: DecodedImages
    augment: Augment
    draws: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Uint8 (rows, image_size, image_size, 3)."""
        return self.augment.apply(self.pixels[rows], self.draws[rows])

    def subset(self, rows: slice) -> AugmentedImages:
        """A stretch of the images; nothing is read."""
        return replace(self, pixels=self.pixels.subset(rows), draws=self.draws[rows])
