"""One image seen in several ways, whose answers are averaged."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nevus.data.preprocess import Preprocess
from nevus.errors import NevusError
from nevus.runtime.engines import Engine

TTA_COUNTS = (1, 2, 4, 6, 8, 32)
"""Of views that an image can be seen in."""
MIDDLE = 0.7
"""Side of the middle part, as a share of the image's."""
NORM = 6
"""Of the mean that is taken for the color of the light: between gray world, 1, and the brightest point."""
GRAY = (0.299, 0.587, 0.114)
"""What red, green and blue add to the brightness (ITU-R BT.601)."""
SKIN, SPREAD = (180.0, 140.0, 135.0), (32.0, 36.0, 38.0)
"""Mean and standard deviation of red, green and blue that any picture is brought to: set by eye, near what every
40th image of HAM10000 has on average, (195, 140, 146) and (23, 30, 34).
"""


def check_views(number: int) -> None:
    """Refuse a number of views that there is not.

    Raises:
        NevusError: it is none of `TTA_COUNTS`.

    """
    if number not in TTA_COUNTS:
        raise NevusError(f"an image is seen in 1, 2, 4, 6, 8 or 32 views, not in {number}; correct --views.")


def tta_views(pixels: Tensor, number: int) -> list[Tensor]:
    """Views of images.

    - 2: the picture and its mirror image.
    - 4: the whole and its middle, each as it is and in an evened light. What stands at the rim, and the color of
      the lamp, tell where a picture was taken rather than what it shows.
    - 6: the whole, its middle, and the middle turned by a quarter, each in gray and with each color's mean and
      spread made the same in every picture: the first leaves nothing of a source's colors, the second neither
      these nor its contrast.
    - 8: the eight ways to lay a square on itself, turned and mirrored. A dermoscope has no upright: what is said of
      a lesion must not hang on how it was held.
    - 32: both.

    Args:
        pixels: uint8 (n, side, side, 3).
        number: one of `TTA_COUNTS`.

    Returns:
        `number` tensors, each uint8 (n, side, side, 3).

    Raises:
        NevusError: there is no such number of views.

    """
    check_views(number)
    if number == 6:
        middle = _middle(pixels)
        turned = middle.transpose(1, 2).flip(1)
        return [view for one in (pixels, middle, turned) for view in (_gray(one), _standard(one))]
    seen = [pixels]
    if number == 2:
        seen.append(pixels.flip(2))
    if number in (4, 32):
        seen = [view for one in (pixels, _middle(pixels)) for view in (one, _evened(one))]
    if number in (8, 32):
        seen = [view for one in seen for view in _laid(one)]
    return seen


def _laid(pixels: Tensor) -> list[Tensor]:
    down = [laid for turn in (pixels, pixels.transpose(1, 2)) for laid in (turn, turn.flip(1))]
    return [seen for laid in down for seen in (laid, laid.flip(2))]


def _middle(pixels: Tensor) -> Tensor:
    side = int(pixels.shape[1])  # a tensor while a graph is traced
    part = max(1, round(MIDDLE * side))
    start = (side - part) // 2
    cut = pixels[:, start : start + part, start : start + part].permute(0, 3, 1, 2).float()
    grown = F.interpolate(cut, size=(side, side), mode="bilinear", align_corners=False)
    return grown.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _evened(pixels: Tensor) -> Tensor:
    """Under a gray light: *shades of gray* (Finlayson and Trezzi 2004)."""
    x = pixels.float() / 255
    light = x.pow(NORM).mean((1, 2), keepdim=True).pow(1 / NORM)
    gain = light.mean(3, keepdim=True) / light.clamp_min(1 / 255)
    return (255 * x * gain).round().clamp(0, 255).to(torch.uint8)


def _gray(pixels: Tensor) -> Tensor:
    brightness = (pixels.float() * torch.tensor(GRAY)).sum(3, keepdim=True)
    return brightness.round().clamp(0, 255).to(torch.uint8).expand(-1, -1, -1, 3)


def _standard(pixels: Tensor) -> Tensor:
    """Each color with the mean `SKIN` and the standard deviation `SPREAD`, over the picture.

    A gray level is added to the spread: of an empty picture nothing but noise would be seen.
    """
    x = pixels.float()
    away = x - x.mean((1, 2), keepdim=True)
    spread = away.square().mean((1, 2), keepdim=True).sqrt() + 1
    seen = away / spread * torch.tensor(SPREAD) + torch.tensor(SKIN)
    return seen.round().clamp(0, 255).to(torch.uint8)


class TTAMean:
    """The mean of an engine's output over several views of each image, at as many times the cost."""

    def __init__(self, engine: Engine, number: int) -> None:
        self._engine, self._number = engine, number

    @property
    def preprocess(self) -> Preprocess:
        """Of the network."""
        return self._engine.preprocess

    def __call__(self, pixels: np.ndarray) -> NDArray[np.float32]:
        """uint8 (n, side, side, 3) to the mean output, float32 (n, outputs)."""
        return np.asarray(np.mean([said.astype(np.float64) for said in self._said(pixels)], axis=0), np.float32)

    def _said(self, pixels: np.ndarray) -> list[NDArray[np.float32]]:
        writable = np.require(pixels, requirements=["C", "W"])  # as PyTorch wants it
        views = tta_views(torch.from_numpy(writable), self._number)
        return [self._engine(view.contiguous().numpy()) for view in views]


class TTAStack(TTAMean):
    """An engine's outputs for each of several views, side by side, in the order of `tta_views`."""

    def __call__(self, pixels: np.ndarray) -> NDArray[np.float32]:
        """uint8 (n, side, side, 3) to float32 (n, number x outputs)."""
        return np.concatenate(self._said(pixels), axis=1)


def split_views(outputs: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """What `TTAStack` said of many images, float32 (n, number x outputs), by view: (number, n, outputs)."""
    return outputs.reshape(len(outputs), number, -1).swapaxes(0, 1)


def with_tta(engine: Engine, number: int) -> Engine:
    """An engine that sees each image in as many views as one of `TTA_COUNTS` says."""
    return engine if number == 1 else TTAMean(engine, number)
